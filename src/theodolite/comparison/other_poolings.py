"""The recipe's contrasts where a text's tokens become one row in another way.

On some data sets pooling decides more than the method does, and a run shows one. The token rows of the matched site are
on disk already, so the other poolings need no further pass of the model: the methods of the fixed contrasts are fitted
on them anew, with the search they had.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from theodolite.comparison import fits
from theodolite.comparison.baselines import difference
from theodolite.comparison.evaluate import Asked, Evaluation, evaluate
from theodolite.comparison.fits import Fitted
from theodolite.comparison.jobs import Job
from theodolite.core import methods
from theodolite.core.code_hash import code_hash
from theodolite.core.positions import POOLINGS, pool
from theodolite.core.recipe import Recipe
from theodolite.core.run import IN_DISTRIBUTION, LEFT_OUT
from theodolite.core.sealed import Note, no_note
from theodolite.core.tick import Tick
from theodolite.data.concept import Concept
from theodolite.models.harvest import Harvest
from theodolite.study.build import BuildStep, Made, Work, code_part, control_encoded, encoded, harvested, made_part
from theodolite.study.subjects import SiteDictionary, Subjects
from theodolite.study.training_sets import UNMEASURED, Measured
from theodolite.study.views import FROM_DICTIONARY, Views

TASK = "poolings"
POOLED_VIEWS = {"state", *FROM_DICTIONARY}


@dataclass(frozen=True)
class Compared:
    """A comparison at its recipe's own pooling: what was read, through what, and the fits on it."""

    recipe: Recipe
    concept: Concept
    subjects: Subjects
    views: Views
    fitted: Sequence[Fitted] = ()


@dataclass(frozen=True)
class Repooled:
    """Figures and contrasts of one other pooling, and the fits they come from."""

    evaluation: Evaluation
    fitted: list[Fitted]


def evaluated(
    compared: Compared, cache: Path, tick: Tick, note: Note = no_note, training: Measured = UNMEASURED
) -> dict[str, Repooled]:
    """The fixed contrasts by pooling, for every other than the recipe's; one that gives equal rows is left out.

    cache: the folder of fits. A method that reads no activations keeps the scores it has. No source is left out again.
    """
    recipe, views = compared.recipe, compared.views
    names = [m for m in _contrasted(recipe) if methods.parse(m).view in POOLED_VIEWS]
    jobs = [Job(m, recipe.site) for m in names if views.has(methods.parse(m).view, recipe.site)]
    kept = [f for f in compared.fitted if f.job in [Job(m, "") for m in _contrasted(recipe)]]
    found: dict[str, Repooled] = {}
    others = [p for p in POOLINGS if p != recipe.pooling] if jobs else []
    for number, pooling in enumerate(others):
        tick(number, len(others))
        other = pooled_views(compared, pooling, note)
        if _same(views, other, recipe.site):
            continue
        again = list(fits.run(jobs, other, recipe.seeds, cache, lambda done, total: None, note))
        scores = pd.concat([f.scores for f in [*again, *kept]], ignore_index=True)
        primary = recipe.primary or IN_DISTRIBUTION
        asked = Asked(recipe.contrasts, primary=primary, margin=recipe.margin)
        figures = evaluate(scores, asked, task=TASK, training=training)
        found[pooling] = Repooled(figures, again)
    return found


def pooled_views(compared: Compared, pooling: str, note: Note = no_note) -> Views:
    """Views of the matched site's token rows pooled another way: states, and what the main dictionaries make of them.

    Their key names the rows they are made from, the pooling, and the code that pools.
    """
    recipe, subjects, views = compared.recipe, compared.subjects, compared.views
    code = code_hash(_states, _codes, Views)
    dictionaries = subjects.at(recipe.site)
    other = replace(
        views,
        inputs={
            name: hashlib.sha256(json.dumps([key, "pooled again", pooling, code]).encode()).hexdigest()
            for name, key in views.inputs.items()
        },
        dictionaries={("", recipe.site): [s.key for s in dictionaries]} if dictionaries else {},
    )
    for name, dataset in {"train": compared.concept.train, **compared.concept.shifts}.items():
        parts = [BuildStep("state", partial(_states, recipe.site, pooling))]
        parts += [BuildStep(code_part(other, s), partial(_codes, s, pooling)) for s in dictionaries]
        work = Work(recipe, subjects, other, name, dataset, lambda done, total: None, read=views)
        for part in parts:
            if not other.has_part(name, part.key, note):
                made = made_part(part, work, note)
                other.end_part(name, part.key, made.facts, made.files)
    return other


def rows(found: Mapping[str, Repooled]) -> list[dict[str, Any]]:
    """AUROC of every method and the difference of every contrast, for `Run.add_rows`."""
    return [
        row | {"task": TASK, "pooling": pooling}
        for pooling, other in found.items()
        for row in other.evaluation.rows
        if (row["metric"], row["seed"]) == ("auroc", "all")
    ]


def facts(found: Mapping[str, Repooled], matched: Evaluation, recipe: Recipe) -> dict[str, Any]:
    """Facts of the report by pooling, the recipe's own first: the fixed contrasts and the AUROC of their methods."""
    parts = {recipe.pooling: matched} | {pooling: other.evaluation for pooling, other in found.items()}
    fixed = [(c.method, c.than) for c in recipe.contrasts]
    return {
        pooling: {
            "contrasts": [
                difference(c) | {"primary": c.primary and pooling == recipe.pooling}
                for c in evaluation.contrasts
                if c.metric == "auroc" and (c.method, c.versus) in fixed and not c.dataset.startswith(LEFT_OUT)
            ],
            "levels": [
                {key: row[key] for key in ("method", "dataset", "value", "lo", "hi")}
                for row in evaluation.rows
                if (row["metric"], row["seed"]) == ("auroc", "all")
                and row["task"] in ("matched", TASK)
                and row["method"] in _contrasted(recipe)
                and not row["dataset"].startswith(LEFT_OUT)
            ],
        }
        for pooling, evaluation in parts.items()
    }


def _contrasted(recipe: Recipe) -> list[str]:
    return list(dict.fromkeys(m for c in recipe.contrasts for m in (c.method, c.than)))


def _states(site: str, pooling: str, work: Work) -> Made:
    states = pooled_states(harvested(work), site, pooling)
    return Made({}, [work.views.put(work.name, "state", site, states)])


def _codes(site_dictionary: SiteDictionary, pooling: str, work: Work) -> Made:
    rows = harvested(work)
    made = encoded(site_dictionary, rows, work, pooling)
    control = [] if site_dictionary.control is None else [control_encoded(site_dictionary, rows, work, pooling)]
    return Made(made.facts, [*made.files, *control])


def pooled_states(rows: Harvest, site: str, pooling: str) -> np.ndarray:
    """One float32 row per text (n, d) from its token rows, as the harvest pools: `last` is the last token of all."""
    texts, found = [], []
    for text_n, selected_n, x_nd in rows.tokens(site):
        order = np.argsort(text_n, kind="stable")
        last_n = np.append(np.diff(text_n[order]) != 0, True)
        order = order[last_n if pooling == "last" else selected_n[order]]
        found.append(np.asarray(pool(x_nd.float().numpy()[order], text_n[order], pooling), np.float32))
        texts.append(np.unique(text_n[order]))
    return np.concatenate(found)[np.argsort(np.concatenate(texts))]


def _same(one: Views, other: Views, site: str) -> bool:
    """Return whether two poolings give equal rows of every data set up to rounding: those of a single token do."""
    return all(
        np.allclose(one.get(name, "state", site), other.get(name, "state", site), rtol=1e-4, atol=1e-4)
        for name in one.inputs
    )
