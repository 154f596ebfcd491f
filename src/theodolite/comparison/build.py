"""Rows become views: one truncated pass of the model per data set, then the dictionaries, then the text baselines."""

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from theodolite.comparison.instruments import Instruments, Station
from theodolite.comparison.stages import Tick
from theodolite.comparison.views import FROM_DICTIONARY, Views
from theodolite.core import methods
from theodolite.core.atomic import publish
from theodolite.core.recipe import Recipe
from theodolite.data.concept import Concept
from theodolite.data.dataset import Dataset
from theodolite.dictionaries import activations, dictionary, metrics, pooled, sparse
from theodolite.dictionaries.opening import self_check
from theodolite.models import model, prefix, prompting, sentence, sweep
from theodolite.models.harvest import FORM, Harvest, harvest

CHECK_ROWS = 4096
ROW_IDENTITY = ["id", "hash", "label", "source", "cluster", "template", "request"]
Facts = dict[str, float]
Note = tuple[str, int, str]  # kind, count, text of a counted warning
TICKS = 1000  # parts of a step that progress is told in


def build_views(recipe: Recipe, concept: Concept, instruments: Instruments, cache: Path, tick: Tick) -> Views:
    """Every view of every data set. What is on disk is not made again: a new dictionary only adds its own views."""
    origin = _origin(recipe, concept, instruments)
    over_refusal = tuple(name for name in concept.shifts if recipe.shifts[name].over_refusal)
    views = Views(
        cache / "views" / origin[:32], origin, tuple(concept.shifts), over_refusal, _stations(instruments),
        {view: _code(view) for view in MAKERS},
    )  # fmt: skip
    views.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    datasets = {"train": concept.train, **concept.shifts}
    work = [(name, part) for name in datasets for part in _parts(recipe, instruments)]
    for done, (name, part) in enumerate(work):
        inside = partial(_tell, tick, done, len(work))
        inside(0, 1)
        if not views.has_part(name, part.key):
            publish(views.path(name), datasets[name].frame.to_parquet(index=False))
            views.end_part(name, part.key, part.make(views, name, datasets[name], inside))
    tick(TICKS * len(work), TICKS * len(work))
    return views


def _tell(tick: Tick, step: int, steps: int, done: int, total: int) -> None:
    """Progress inside one step as progress of all of them."""
    tick(TICKS * step + TICKS * done // max(total, 1), TICKS * steps)


@dataclass(frozen=True)
class Part:
    """A step that makes some of the views of one data set and returns facts about it; its key names it on disk."""

    key: str
    make: Callable[[Views, str, Dataset, Tick], Facts]


def _parts(recipe: Recipe, instruments: Instruments) -> list[Part]:
    parts = [Part(_part("state"), partial(_states, recipe, instruments))]
    parts += [Part(code_part(s), partial(_codes, recipe, instruments, s)) for s in instruments.stations]
    makers = {"embedding": _embedding, "sentence": _sentence, "answer": _answer}
    asked = {methods.parse(spec).view for spec in recipe.methods}  # a user's own file says itself what it reads
    return parts + [Part(_part(v), partial(make, recipe, instruments)) for v, make in makers.items() if v in asked]


def tokens_read(views: Views, names: Sequence[str]) -> dict[str, int]:
    """Tokens the model under study read to make each view, over the data sets of these names; other views: none."""
    counted = {}
    for view in ("state", "embedding", "answer"):
        if all(views.has_part(name, _part(view)) for name in names):
            counted[view] = sum(int(views.facts(name, _part(view))["tokens"]) for name in names)
    return counted | dict.fromkeys(FROM_DICTIONARY, counted["state"])


def cut_notes(views: Views) -> list[Note]:
    """Counted warnings: texts of which the sentence encoder, or the question put to the model, held only the start."""
    where = {
        "sentence": f"cut at {sentence.MAX_TOKENS} word pieces by the sentence encoder",
        "answer": "cut where the model was asked about them",
    }
    return [
        ("truncated", int(cut), f"texts of {name} {words}")
        for view, words in where.items()
        for name in ("train", *views.shifts)
        if views.has_part(name, _part(view)) and (cut := views.facts(name, _part(view))["cut"])
    ]


def code_part(station: Station) -> str:
    """Name of the step that encodes a data set with one dictionary; its facts hold the `fvu` on those rows."""
    return f"{station.site}.{station.key}.{_code('latents')}"


def _part(view: str) -> str:
    """Name of the step that makes a view: other code is another step, and what it made is made again."""
    return f"{view}.{_code(view)}" if view in MAKERS else view


def _code(view: str) -> str:
    sources = [inspect.getsource(maker) for maker in MAKERS[view]]
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()[:12]


def _harvested(
    recipe: Recipe, instruments: Instruments, views: Views, name: str, dataset: Dataset, tick: Tick
) -> Harvest:
    """Token rows at the recipe's sites and pooled rows of all blocks, read once."""
    return harvest(
        instruments.model, dataset.texts, views.folder / "harvest" / name,
        token_sites=list(dict.fromkeys([recipe.site, *recipe.sites])), pooled_sites=instruments.blocks,
        poolings=(recipe.pooling,), positions=recipe.positions, format=recipe.format, max_tokens=recipe.max_tokens,
        progress=tick,
    )  # fmt: skip


def _states(recipe: Recipe, instruments: Instruments, views: Views, name: str, dataset: Dataset, tick: Tick) -> Facts:
    rows = _harvested(recipe, instruments, views, name, dataset, tick)
    for block in instruments.blocks:
        views.put(name, "state", block, rows.pooled(block, recipe.pooling))
    return {"tokens": rows.n_tokens}


def _codes(
    recipe: Recipe, instruments: Instruments, station: Station, views: Views, name: str, dataset: Dataset, tick: Tick
) -> Facts:
    """Latents, reconstruction and error of one dictionary, latents of its twin; encoded per token, then pooled."""
    rows = _harvested(recipe, instruments, views, name, dataset, tick)
    if name == "train":
        _check(station, rows, [recipe.site, *recipe.sites])
    seen = pooled.pooled_latents(station.dictionary, rows.tokens(station.site), len(dataset), recipe.pooling)
    for view in ("latents", "reconstruction", "error"):
        views.put(name, view, station.site, getattr(seen, view), station.key)
    if station.twin is not None:
        twin = pooled.pooled_latents(station.twin, rows.tokens(station.site), len(dataset), recipe.pooling)
        views.put(name, "twin", station.site, twin.latents, station.key)
    return {"fvu": seen.fvu}


def _embedding(
    recipe: Recipe, instruments: Instruments, views: Views, name: str, dataset: Dataset, tick: Tick
) -> Facts:
    how: dict[str, Any] = {"format": recipe.format, "max_tokens": recipe.max_tokens}
    views.put(name, "embedding", "", instruments.model.embed(dataset.texts, **how))
    return {"tokens": int(instruments.model.tokens(dataset.texts, **how).mask.sum())}


def _sentence(recipe: Recipe, instruments: Instruments, views: Views, name: str, dataset: Dataset, tick: Tick) -> Facts:
    views.put(name, "sentence", "", sentence.embed(dataset.texts))
    return {"cut": sentence.truncated(dataset.texts)}


def _answer(recipe: Recipe, instruments: Instruments, views: Views, name: str, dataset: Dataset, tick: Tick) -> Facts:
    """The model asked outright: zero-shot, and with the recipe's examples where it has any."""
    ways: list[list[tuple[str, int]]] = [[]]
    # examples may not fit into the context; that depends on what names this view on disk, the recipe's methods do not
    if recipe.few_shot and not prompting.unaskable(instruments.model, recipe.question, recipe.few_shot):
        ways.append(recipe.few_shot)
    asked = (instruments.model, dataset.texts, recipe.question)
    columns = [prompting.answer_log_odds(*asked, few_shot=shots, max_tokens=recipe.max_tokens) for shots in ways]
    views.put(name, "answer", "", np.column_stack(columns))
    read = [prompting.prompts(*asked, shots, max_tokens=recipe.max_tokens) for shots in ways]
    return {"tokens": sum(int(tokens.mask.sum()) for tokens in read), "cut": int(read[0].truncated.sum())}


# The code behind each view but `state`, whose rows are on disk under a number of their own (`harvest.FORM`).
MAKERS: dict[str, tuple[ModuleType | Callable[..., Facts], ...]] = {
    **dict.fromkeys(sorted(FROM_DICTIONARY), (_codes, pooled, dictionary, activations, sparse, metrics)),
    "embedding": (_embedding, model),
    "sentence": (_sentence, sentence),
    "answer": (_answer, prompting, prefix, sweep),
}


def _check(station: Station, rows: Harvest, sites: list[str]) -> None:
    """Refuse a dictionary that does not fit real rows of its site; rows of the other sites help to name the cause."""
    samples = {site: _first_rows(rows.tokens(site)) for site in sites}
    self_check(station.dictionary, samples, station.site, name=f"dictionary {station.name!r}")


def _first_rows(chunks: Iterator[tuple[Any, Any, torch.Tensor]]) -> torch.Tensor:
    taken: list[torch.Tensor] = []
    for _, _, x_nd in chunks:
        taken.append(x_nd)
        if sum(map(len, taken)) >= CHECK_ROWS:
            break
    return torch.cat(taken)[:CHECK_ROWS].float()


def _stations(instruments: Instruments) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for s in instruments.stations:
        found.setdefault((s.family, s.site), []).append(s.key)
    return found


def _origin(recipe: Recipe, concept: Concept, instruments: Instruments) -> str:
    """A hash of all that the views depend on beside the dictionaries: rows, labels, model, reading, prompts."""
    whole = hashlib.sha256()
    for name, dataset in (("train", concept.train), *concept.shifts.items()):
        whole.update(name.encode() + dataset.frame[ROW_IDENTITY].to_csv(index=False).encode())
    asked = {"format", "max_tokens", "positions", "pooling", "question", "few_shot", "site", "sites"}
    facts = [recipe.model_dump(mode="json", include=asked), instruments.model.hash, str(instruments.model.dtype), FORM]
    whole.update(json.dumps(facts, sort_keys=True).encode())
    return whole.hexdigest()
