"""The comparisons that a debate joins: each is found among the finished Runs, or made now as a Run of its own."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from theodolite.control.recipe import STEER
from theodolite.core.errors import UserError
from theodolite.core.recipe import AUTO, COMPARE, BaseRecipe
from theodolite.core.run import Run
from theodolite.core.run_folder import MANIFEST
from theodolite.core.site import Site
from theodolite.core.slug import slug
from theodolite.core.tick import Tell
from theodolite.debate.recipe import NEURON_PART, NEURON_READER, DebateRecipe, Pair
from theodolite.models.model import Model
from theodolite.study.analysis import Analyses
from theodolite.study.claims import RUNS
from theodolite.study.compare_request import CompareRequest
from theodolite.study.hardware import Machine
from theodolite.study.kinds import kind_of, resolved
from theodolite.study.request import default_folder, written
from theodolite.study.runner import carry_out

READING, STEERING, NEURONS = "reading", "steering", "neurons"  # parts that a Run plays for a concept
KINDS = {READING: COMPARE, STEERING: STEER, NEURONS: COMPARE}


@dataclass(frozen=True)
class Wanted:
    """One comparison that a debate needs: for which concept, in which part, what is asked for, and its recipe."""

    concept: str
    part: str
    request: CompareRequest
    recipe: BaseRecipe


def wanted(recipe: DebateRecipe, weights: str = "") -> Iterator[Wanted]:
    """Yield the comparisons of a recipe, concept by concept; weights: identity of a model that is loaded."""
    for pair in recipe.pairs:
        for part, request in _requests(recipe, pair):
            kind = kind_of(request.data)
            if kind != KINDS[part]:
                raise UserError(
                    f"{request.data!r} is of kind {kind!r}, and a debate takes {KINDS[part]!r} for {part} of "
                    f"{pair.concept!r}: name another recipe"
                )
            yield Wanted(pair.concept, part, request, resolved(Analyses()[kind], request, weights))


def obtained(one: Wanted, beside: Path, model: Model | None, machine: Machine, tell: Tell) -> Run:
    """Return the finished Run of a comparison: one that is there, or a new one in its folder beside the debate's."""
    known = found_among([Path(RUNS), beside], one)
    fields: dict[str, Any] = {"out": known.folder if known else _folder(one, beside), "progress": tell}
    fields |= {name: getattr(machine, name) for name in vars(machine)}
    if model is not None:
        fields["model"] = model
    result: Any = carry_out(replace(one.request, **fields), tell)
    run: Run = result.run
    return run


def found_among(places: list[Path], one: Wanted) -> Run | None:
    """Return the finished Run of a comparison that lies directly in one of these folders, or None."""
    digest = one.recipe.digest()
    return next((run for run in finished(places) if run.manifest["digest"] == digest), None)


def finished(places: list[Path]) -> Iterator[Run]:
    """Yield the finished Runs that lie directly in these folders; what cannot be read is no Run of ours."""
    for folder in sorted({path for place in places if place.is_dir() for path in place.iterdir()}):
        if (folder / MANIFEST).is_file():
            try:
                run = Run.open(folder)
            except (UserError, OSError):
                continue
            if run.finished:
                yield run


def _requests(recipe: DebateRecipe, pair: Pair) -> Iterator[tuple[str, CompareRequest]]:
    shared: dict[str, Any] = {"model": recipe.model, "revision": recipe.revision, "dtype": recipe.dtype}
    shared |= {"quick": recipe.quick}
    sae: dict[str, Any] = {} if recipe.dictionaries is None else {"sae": recipe.dictionaries or ["none"]}
    if pair.reading is not None:
        yield READING, CompareRequest(pair.reading, **shared, **sae)
        if recipe.neurons and (site := _neuron_site(pair.reading)):
            # neurons are read where the method of control changes them, by a reader that chooses as many as it likes
            one: dict[str, Any] = {"sites": (site,), "methods": (NEURON_READER,), "sae": ("none",)}
            yield NEURONS, CompareRequest(pair.reading, **shared, **one)
    yield STEERING, CompareRequest(pair.steering, **shared, **sae)


def _neuron_site(reading: str) -> str:
    """Return the neurons' site in the block of a reading recipe's site; "" where the model decides where that is."""
    recipe = written(reading)
    site = recipe.fields.get("site", AUTO) if recipe.kind == COMPARE and isinstance(recipe.fields, dict) else AUTO
    block = None if site == AUTO else Site.parse(site).block
    return "" if block is None else str(Site(block, NEURON_PART))


def _folder(one: Wanted, beside: Path) -> Path:
    """Return the folder of a new Run; where another recipe's Run has the plain name, the one with the digest."""
    analysis = Analyses()[kind_of(one.request.data)]
    plain = beside / default_folder(one.recipe, lambda request: resolved(analysis, request)).name
    if not (plain / MANIFEST).is_file() or Run.open(plain).manifest["digest"] == one.recipe.digest():
        return plain
    return beside / f"{slug(one.recipe.name)}-{one.recipe.digest()[:8]}"
