"""Scores of all jobs become the rows of a Run: the matched-site table, the free-site table, and the heat-map."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from theodolite.comparison import baselines, explained
from theodolite.comparison.evaluate import Asked, Evaluation, evaluate, row
from theodolite.comparison.fits import Fitted
from theodolite.core import methods
from theodolite.core.metrics import auroc
from theodolite.core.recipe import Contrast, Recipe
from theodolite.core.run import IN_DISTRIBUTION, source_left_out
from theodolite.data.near_duplicates import THRESHOLD
from theodolite.data.splits import SHARES, folds
from theodolite.study.score_matrix import N_BOOT, read_score_matrix
from theodolite.study.training_sets import UNMEASURED, Measured, of_dataset
from theodolite.study.views import FROM_DICTIONARY

Row = dict[str, Any]
# What the methods paragraph of a report may state, because it is what is done here and in data/splits.py.
PROTOCOL = {
    "shares": list(SHARES),
    "configurations": 12,  # what laws.grid_is_short_and_valid allows
    "folds": inspect.signature(folds).parameters["n"].default,
    "bootstrap": N_BOOT,
    "leak_cosine": THRESHOLD,
}
# Asked in every run beside the recipe's own contrasts, uncorrected: does learning the encoder help, and does a reader
# of the model do better than one that only has the text?
EXPLORATORY = [
    Contrast(method="k_sparse@latents", than="k_sparse@control"),
    *(
        Contrast(method="logistic", than=text)
        for text in ("word_ngrams", "char_ngrams", "cased_ngrams", "surface", "sentence")
    ),
]
TASKS = frozenset({"matched", "free", "blocks", "contrast", "select", "poolings"})  # of the rows of a comparison
FREE = "free"  # the site of a method that chose one per training set
HEATMAP_REPLICATES = 200  # 90 cells a data set: the width of their intervals is known to 5 %, which a colour hides


def matched(fitted: Sequence[Fitted], recipe: Recipe, training: Measured = UNMEASURED) -> Evaluation:
    """Every method at the dictionary's site and pooling, the only table in which SAE, RepE and probe are comparable.

    Without a primary shift the contrasts are decided on the test rows of the training distribution.
    """
    chosen = _at_matched_site(fitted, recipe)
    primary = recipe.primary or IN_DISTRIBUTION
    asked = [*EXPLORATORY, *baselines.contrasts(chosen, recipe), *explained.contrasts(chosen)]
    exploratory = [c for at, c in enumerate(asked) if c not in recipe.contrasts and c not in asked[:at]]
    return evaluate(
        _scores(chosen),
        Asked(recipe.contrasts, exploratory, primary, recipe.margin),
        thresholds=_thresholds(chosen),
        training=training,
    )


def matched_scores(fitted: Sequence[Fitted], recipe: Recipe) -> pd.DataFrame:
    """Scores behind the matched-site table, columns of `core.run.SCORE_COLUMNS`."""
    return _scores(_at_matched_site(fitted, recipe))


def free(fitted: Sequence[Fitted], recipe: Recipe, training: Measured = UNMEASURED) -> Evaluation | None:
    """Each method at the site that its own cross-validation preferred, training set by training set.

    Only methods that had the same sites to choose from are contrasted.
    """
    tuned = [f for f in fitted if f.job.tuned and not f.job.leave_out]
    sited = pd.Index([f.job.label for f in tuned if f.job.site]).unique()
    if len({f.job.site for f in tuned if f.job.site}) < 2:
        return None
    menu = {label: {f.job.site for f in tuned if f.job.label == label} for label in sited}
    chosen = [_chosen([f for f in tuned if f.job.label == label]) for label in sited]
    text = [f.scores for f in tuned if not f.job.site]
    contrasts = [c for c in recipe.contrasts if menu.get(c.method, set()) == menu.get(c.than)]
    return evaluate(
        pd.concat([*chosen, *text], ignore_index=True),
        Asked(contrasts, margin=recipe.margin),
        task="free",
        training=training,
    )


def blocks(fitted: Sequence[Fitted], training: Measured = UNMEASURED) -> list[Row]:
    """AUROC of dense methods at every block, parameters fixed."""
    chosen = [f for f in fitted if not f.job.tuned]
    return list(_heatmap(_scores(chosen), training)) if chosen else []


def common(recipe: Recipe, model: str, model_hash: str) -> Row:
    """Columns that are the same in every row of a run."""
    return {
        "model": model,
        "model_hash": model_hash,
        "positions": recipe.positions,
        "pooling": recipe.pooling,
    }


def with_costs(
    rows: Sequence[Row], fitted: Sequence[Fitted], dictionaries: Mapping[tuple[str, str], str], tokens: dict[str, int]
) -> list[Row]:
    """Rows with what their method cost: settings chosen by the seeds, labels, fits, tokens, seconds, peak memory.

    dictionaries: by family and site, the names of what latents come from. tokens: by view, what the model read to make
    it. A row with a source left out carries the cost of its own fits, and a free one that of the search over all its
    sites.
    """
    spent = {(f.job.tuned, f.job.label, f.job.site, f.job.leave_out): _cost([f]) for f in fitted}
    tuned = [f for f in fitted if f.job.tuned]
    for label in {f.job.label for f in tuned}:
        searched = [f for f in tuned if f.job.label == label and not f.job.leave_out]
        spent[True, label, FREE, ""] = _cost(searched)
    filled = []
    for one in rows:
        job = (one["task"] != "blocks", one["method"], one["site"], source_left_out(one["dataset"]))
        cost = spent.get(job, {})
        method, _, family = one["method"].removesuffix("]").partition(" [")
        view = methods.parse(method).view
        dictionary = dictionaries.get((family, one["site"]), "") if view in FROM_DICTIONARY else ""
        filled.append({**one, **cost, "tokens": tokens.get(view, 0), "dictionary": dictionary})
    return filled


def _at_matched_site(fitted: Sequence[Fitted], recipe: Recipe) -> list[Fitted]:
    return [f for f in fitted if f.job.tuned and f.job.site in ("", recipe.site)]


def _cost(searched: Sequence[Fitted]) -> Row:
    fits = [fit for one in searched for fit in one.fits]
    params = pd.Series([fit["params"] for fit in fits], dtype=object).map(str).value_counts()
    return {
        "params": {"chosen": params.to_dict(), "labels": fits[0]["n_labels"]},
        "n_fits": sum(fit["n_fits"] for fit in fits),
        "seconds": sum(fit["seconds"] for fit in fits),
        "peak_mb": max(fit["peak_mb"] for fit in fits),
    }


def _scores(fitted: Sequence[Fitted]) -> pd.DataFrame:
    return pd.concat([f.scores for f in fitted], ignore_index=True)


def _thresholds(fitted: Sequence[Fitted]) -> dict[tuple[str, str, str, str], dict[float, float]]:
    """Thresholds that tuning fixed on out-of-fold negatives, by data set, method, site and seed."""
    found = {}
    for f in fitted:
        for fit in f.fits:
            levels = {float(rate): level for rate, level in fit["thresholds"].items()}
            for dataset in f.scores["dataset"].unique():
                found[dataset, f.job.label, f.job.site, str(fit["seed"])] = levels
    return found


def _chosen(candidates: Sequence[Fitted]) -> pd.DataFrame:
    """Scores of the site with the lowest cross-validated log-loss, for each seed."""
    parts = []
    for seed in range(len(candidates[0].fits)):
        best = min(candidates, key=lambda f: f.fits[seed]["cv_log_loss"])
        parts.append(best.scores[best.scores["seed"] == str(seed)])
    return pd.concat(parts, ignore_index=True).assign(site=FREE)


def _heatmap(scores: pd.DataFrame, training: Measured) -> Iterator[Row]:
    for name, frame in scores.groupby("dataset", sort=False):
        sets = of_dataset(training, str(name))
        matrix = read_score_matrix(str(name), frame, training=sets, n_boot=HEATMAP_REPLICATES, seed=0)
        for key, scores in matrix.scores.items() if matrix.has_both_classes else ():
            yield row(matrix, key, "blocks", "all", "auroc", matrix.sample.estimate(auroc, scores).interval())
