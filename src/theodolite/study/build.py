"""Rows become views: one truncated pass of the model per data set, then the dictionaries, then the text baselines."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from theodolite.core import methods
from theodolite.core.atomic import sweep
from theodolite.core.code_hash import code_hash
from theodolite.core.errors import Damaged, UserError
from theodolite.core.recipe import Recipe
from theodolite.core.sealed import Note, no_note
from theodolite.core.tick import Tick
from theodolite.data.concept import Concept
from theodolite.data.dataset import Dataset
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.opening import self_check
from theodolite.dictionaries.origin import other_model
from theodolite.dictionaries.pooled import Pooled, pooled_latents
from theodolite.models import prompting, sentence
from theodolite.models.harvest import Harvest, harvest
from theodolite.models.harvest_plan import HarvestPlan
from theodolite.study.hardware import DEFAULT, Machine
from theodolite.study.subjects import SiteDictionary, Subjects
from theodolite.study.views import FROM_DICTIONARY, Views, frame_hash

CHECK_ROWS = 4096
Facts = dict[str, float]
TICKS = 1000  # parts of the whole that progress is told in
LITTLE = 0.05  # what a part takes beside one pass of the model over the same texts, about


def build_views(
    recipe: Recipe,
    concept: Concept,
    subjects: Subjects,
    cache: Path,
    tick: Tick,
    note: Note = no_note,
    machine: Machine = DEFAULT,
) -> Views:
    """Every view of every data set. What is on disk is not made again: a new dictionary only adds its own views.

    Every file is read and compared with its hash; what is damaged is made again, and counted in a note. machine: in
    which portions the model reads, which no view depends on.
    """
    sweep(cache)
    datasets = {"train": concept.train, **concept.shifts}
    facts, rendered = _facts(recipe, subjects), subjects.model.template_around(recipe.format)
    views = Views(
        folder=cache / "views",
        inputs={name: _inputs(facts, recipe, dataset, subjects) for name, dataset in datasets.items()},
        frames={name: frame_hash(dataset.frame) for name, dataset in datasets.items()},
        over_refusal=tuple(name for name in concept.shifts if recipe.shifts[name].over_refusal),
        dictionaries=dictionary_keys(subjects),
        controls={s.key: s.control.fingerprint()[:12] for s in subjects.dictionaries if s.control is not None},
        makers=makers(recipe, subjects),
    )
    work = [(name, part) for name in datasets for part in _parts(recipe, subjects, views, name, note)]
    for name, dataset in datasets.items():
        views.put_frame(name, dataset.frame, note)
    sizes = np.cumsum([part.passes * sum(map(len, datasets[name].texts)) for name, part in work])
    ends = [0, *(TICKS * sizes / sizes[-1]).astype(int).tolist()]
    for number, (name, part) in enumerate(work):
        inside = partial(_tell, tick, ends[number], ends[number + 1])
        inside(0, 1)
        if not views.has_part(name, part.key, note):
            made = made_part(
                part, Work(recipe, subjects, views, name, datasets[name], inside, machine, note=note), note
            )
            if subjects.model.template_around(recipe.format) != rendered:
                raise UserError(
                    "the model's chat template printed another text than when the run began, such as another date: "
                    "run the same command again"
                )
            views.end_part(name, part.key, made.facts, made.files)
    tick(TICKS, TICKS)
    return views


@dataclass(frozen=True)
class Work:
    """One data set as a step finds it: what is asked for, of whom, where its views lie, and whom to tell.

    read: the views whose harvest rows are taken from, where these are not `views` themselves.
    """

    recipe: Recipe
    subjects: Subjects
    views: Views
    name: str
    dataset: Dataset
    tick: Tick
    machine: Machine = DEFAULT
    read: Views | None = None
    note: Note = no_note

    @property
    def harvest_folder(self) -> Path:
        """Folder of the rows that were read from the model."""
        return (self.read or self.views).home(self.name) / "harvest"


def made_part(part: "BuildStep", work: Work, note: Note) -> "Made":
    """Make a part; where a unit of rows on disk is damaged, all of that data set's are read anew, once."""
    try:
        return part.make(work)
    except Damaged:
        note("remade", 1, "damaged entries of the cache were made again: harvested rows")
        shutil.rmtree(work.harvest_folder)
        return part.make(work)


def _tell(tick: Tick, start: int, end: int, done: int, total: int) -> None:
    """Progress inside one step, which goes from `start` to `end`, as progress of all of them."""
    tick(start + (end - start) * done // max(total, 1), TICKS)


@dataclass(frozen=True)
class Made:
    """Facts that a step found out about one data set, and the files it wrote."""

    facts: Facts
    files: list[Path]


@dataclass(frozen=True)
class BuildStep:
    """A step that makes some of the views of one data set; its key names it on disk.

    passes: about how many passes of the model over the texts it takes, for the time that is left.
    """

    key: str
    make: Callable[[Work], Made]
    passes: float = LITTLE


def _parts(recipe: Recipe, subjects: Subjects, views: Views, name: str, note: Note) -> list[BuildStep]:
    parts = [BuildStep(_part(views, "state"), _states, passes=1.0)]
    for s in subjects.dictionaries:
        if name == "train":  # a part of its own: the same texts may have been another run's shift, and not checked
            parts.append(BuildStep(f"{code_part(views, s)}.checked", partial(_check, s)))
        parts.append(BuildStep(code_part(views, s), partial(_codes, s)))
        if s.control is not None:
            control = partial(_control, s)
            parts.append(BuildStep(f"{s.site}.{views.control(s.key)}.{_part(views, 'control')}", control))
    makers: dict[str, Callable[[Work], Made]] = {
        "embedding": _embedding,
        "sentence": partial(_sentence, note),
        "answer": _answer,
    }
    asked = {methods.parse(spec).view for spec in recipe.methods}  # a user's own file says itself what it reads
    passes = {"answer": 2.0 if recipe.few_shot else 1.0}
    return parts + [BuildStep(_part(views, v), make, passes.get(v, LITTLE)) for v, make in makers.items() if v in asked]


def tokens_read(views: Views, names: Sequence[str]) -> dict[str, int]:
    """Tokens the model under study read to make each view, over the data sets of these names; other views: none."""
    counted = {}
    for view in ("state", "embedding", "answer"):
        if all(views.ended(name, _part(views, view)) for name in names):
            counted[view] = sum(int(views.facts(name, _part(views, view))["tokens"]) for name in names)
    return counted | dict.fromkeys(FROM_DICTIONARY, counted["state"])


def cut_notes(views: Views) -> list[tuple[str, int, str]]:
    """Counted warnings: texts of which the sentence encoder, or the question put to the model, held only the start."""
    where = {
        "sentence": f"cut at {sentence.MAX_TOKENS} word pieces by the sentence encoder",
        "answer": "cut where the model was asked about them",
    }
    return [
        ("truncated", int(cut), f"texts of {name} {words}")
        for view, words in where.items()
        for name in ("train", *views.shifts)
        if views.ended(name, _part(views, view)) and (cut := views.facts(name, _part(views, view))["cut"])
    ]


def code_part(views: Views, site_dictionary: SiteDictionary) -> str:
    """Name of the step that encodes a data set with one dictionary; its facts hold the `fvu` on those rows."""
    return f"{site_dictionary.site}.{site_dictionary.key}.{_part(views, 'latents')}"


def _part(views: Views, view: str) -> str:
    """Name of the step that makes a view: other code or options are another step, and what it made is made again."""
    return ".".join(filter(None, [view, views.makers.get(view, "")[:12]]))


def makers(recipe: Recipe, subjects: Subjects) -> dict[str, str]:
    """Hash, by view, of the code that makes it and of the options that it alone depends on.

    `state` is missing: everything that a data set is given depends on its code (see `_inputs`).
    """
    model = type(subjects.model)
    coders: set[type] = set()
    for dictionary in (d for s in subjects.dictionaries for d in (s.dictionary, s.control) if d is not None):
        coders |= {type(dictionary), type(dictionary.activation)}
    from_dictionary = code_hash(
        _codes, _control, Views, *sorted(coders, key=lambda cls: (cls.__module__, cls.__name__))
    )
    # the template as it is rendered now: some print today's date
    asked = json.dumps([recipe.question, recipe.few_shot, subjects.model.template_around(recipe.format)])
    return {
        **dict.fromkeys(sorted(FROM_DICTIONARY), from_dictionary),
        "embedding": code_hash(_embedding, Views, model),
        "sentence": code_hash(_sentence, Views),
        "answer": hashlib.sha256((code_hash(_answer, Views, model) + asked).encode()).hexdigest(),
    }


def harvested(work: Work) -> Harvest:
    """Token rows at the recipe's sites and pooled rows of all blocks, read once."""
    recipe = work.recipe
    plan = HarvestPlan(
        token_sites=_token_sites(recipe),
        pooled_sites=_pooled_sites(work),
        poolings=(recipe.pooling,),
        positions=recipe.positions,
        format=recipe.format,
        max_tokens=recipe.max_tokens,
    )
    how: dict[str, Any] = {"batch_tokens": work.machine.batch_tokens, "map": work.machine.map()}
    return harvest(work.subjects.model, work.dataset.texts, work.harvest_folder, plan, progress=work.tick, **how)


def _token_sites(recipe: Recipe) -> list[str]:
    return list(dict.fromkeys([recipe.site, *recipe.sites]))


def _pooled_sites(work: Work) -> list[str]:
    """All blocks, for the heat-map, and those of the recipe's sites that lie inside a block, such as neurons."""
    return list(dict.fromkeys([*work.subjects.blocks, *_token_sites(work.recipe)]))


def _states(work: Work) -> Made:
    rows, pooling = harvested(work), work.recipe.pooling
    files = [work.views.put(work.name, "state", site, rows.pooled(site, pooling)) for site in _pooled_sites(work)]
    return Made({"tokens": rows.n_tokens}, files)


def _codes(site_dictionary: SiteDictionary, work: Work) -> Made:
    """Latents, reconstruction and error of one dictionary; encoded per token, then pooled."""
    return encoded(site_dictionary, harvested(work), work, work.recipe.pooling)


def encoded(site_dictionary: SiteDictionary, rows: Harvest, work: Work, pooling: str) -> Made:
    """The views that a dictionary gives of these token rows."""
    site, key = site_dictionary.site, site_dictionary.key
    seen = _coded(site_dictionary.dictionary, site_dictionary, rows, work, pooling)
    files = [
        work.views.put(work.name, view, site, getattr(seen, view), key)
        for view in ("latents", "reconstruction", "error")
    ]
    return Made({"fvu": seen.fvu}, files)


def _control(site_dictionary: SiteDictionary, work: Work) -> Made:
    """Latents of a dictionary's control."""
    return Made({}, [control_encoded(site_dictionary, harvested(work), work, work.recipe.pooling)])


def control_encoded(site_dictionary: SiteDictionary, rows: Harvest, work: Work, pooling: str) -> Path:
    """The file of what a dictionary's control gives of these token rows."""
    assert site_dictionary.control is not None
    site, key = site_dictionary.site, work.views.control(site_dictionary.key)
    seen = _coded(site_dictionary.control, site_dictionary, rows, work, pooling)
    return work.views.put(work.name, "control", site, seen.latents, key)


def _coded(dictionary: Dictionary, of: SiteDictionary, rows: Harvest, work: Work, pooling: str) -> Pooled:
    """Return the views of a dictionary, or of its control, computed on the device of the dictionary."""
    return pooled_latents(
        dictionary, rows.tokens(of.site), len(work.dataset), pooling, device=of.device, note=work.note
    )


def _check(site_dictionary: SiteDictionary, work: Work) -> Made:
    """Refuse a dictionary that does not fit real rows of its site; rows of the other sites help to name the cause."""
    rows = harvested(work)
    samples = {site: _first_rows(rows.tokens(site)) for site in _token_sites(work.recipe)}
    trained_on = other_model(site_dictionary.dictionary, work.subjects.model)
    self_check(
        site_dictionary.dictionary,
        samples,
        site_dictionary.site,
        name=f"dictionary {site_dictionary.name!r}",
        trained_on=trained_on,
    )
    return Made({}, [])


def _embedding(work: Work) -> Made:
    how: dict[str, Any] = {"format": work.recipe.format, "max_tokens": work.recipe.max_tokens}
    model, texts = work.subjects.model, work.dataset.texts
    file = work.views.put(work.name, "embedding", "", model.embed(texts, **how))
    return Made({"tokens": int(model.tokens(texts, **how).mask.sum())}, [file])


def _sentence(note: Note, work: Work) -> Made:
    texts = work.dataset.texts
    file = work.views.put(work.name, "sentence", "", sentence.embed(texts, note=note))
    return Made({"cut": sentence.truncated(texts)}, [file])


def _answer(work: Work) -> Made:
    """The model asked outright: zero-shot, and with the recipe's examples where it has any."""
    recipe, model = work.recipe, work.subjects.model
    ways: list[list[tuple[str, int]]] = [[]]
    # examples may not fit into the context; that depends on what names this view on disk, the recipe's methods do not
    if recipe.few_shot and not prompting.unaskable(model, recipe.question, recipe.few_shot):
        ways.append(recipe.few_shot)
    asked = (model, work.dataset.texts, recipe.question)
    columns = [prompting.answer_log_odds(*asked, few_shot=shots, max_tokens=recipe.max_tokens) for shots in ways]
    file = work.views.put(work.name, "answer", "", np.column_stack(columns))
    read = [prompting.prompts(*asked, shots, max_tokens=recipe.max_tokens) for shots in ways]
    cut = int(read[0].truncated.sum())
    return Made({"tokens": sum(int(tokens.mask.sum()) for tokens in read), "cut": cut}, [file])


def _first_rows(chunks: Iterator[tuple[Any, Any, torch.Tensor]]) -> torch.Tensor:
    taken: list[torch.Tensor] = []
    for _, _, x_nd in chunks:
        taken.append(x_nd)
        if sum(map(len, taken)) >= CHECK_ROWS:
            break
    return torch.cat(taken)[:CHECK_ROWS].float()


def dictionary_keys(subjects: Subjects) -> dict[tuple[str, str], list[str]]:
    """Names of the dictionaries by family and site, as views name them."""
    found: dict[tuple[str, str], list[str]] = {}
    for s in subjects.dictionaries:
        found.setdefault((s.family, s.site), []).append(s.key)
    return found


def _facts(recipe: Recipe, subjects: Subjects) -> dict[str, Any]:
    """Everything that all views depend on beside the texts: the model, and how rows are made.

    The identity holds all that decides a pass of the model and the tokens of a text (`Model.fingerprint`).
    """
    model = subjects.model
    return {
        "model": model.identity,
        "dtype": str(model.dtype),
        "device": model.device.type,
        "quantisation": model.quantisation,
        "format": recipe.format,
        "max_tokens": recipe.max_tokens,
        "positions": recipe.positions,
        "pooling": recipe.pooling,
        "sites": sorted(_token_sites(recipe)),
        "blocks": subjects.blocks,
        "code": code_hash(_states, Views, type(model)),
    }


def _inputs(facts: dict[str, Any], recipe: Recipe, dataset: Dataset, subjects: Subjects) -> str:
    """A hash of these facts, the texts of a data set and the token ids that the model is given for them.

    Labels, sources and clusters are not in it: no view depends on them, and clusters are numbered over all data sets.
    """
    tokens = subjects.model.tokens(dataset.texts, format=recipe.format, max_tokens=recipe.max_tokens)
    whole = hashlib.sha256(json.dumps([facts, dataset.texts, list(tokens.ids.shape)], sort_keys=True).encode())
    whole.update(tokens.ids.numpy().tobytes() + tokens.roles.numpy().tobytes())
    return whole.hexdigest()
