"""Check that every source of a recipe can be read on this machine, before anything is computed."""

from collections.abc import Iterator
from dataclasses import dataclass

from theodolite.core.errors import UserError
from theodolite.core.recipe import Recipe, Source
from theodolite.data import sources


@dataclass(frozen=True)
class Check:
    """One source: how many rows it gave, by label, or what went wrong (`problem` is "" when nothing did)."""

    dataset: str
    source: str
    n: int
    labels: dict[str, int]
    problem: str = ""


def verify(recipe: Recipe, seed: int = 0) -> list[Check]:
    """A check of each source, templates included; nothing stops at the first failure."""
    return [_check(dataset, source, seed) for dataset, source in _sources(recipe)]


def _sources(recipe: Recipe) -> Iterator[tuple[str, Source]]:
    yield from (("train", source) for source in recipe.train)
    for name, shift in recipe.shifts.items():
        yield from ((name, source) for source in shift.rows)
        if shift.wrap:
            yield f"{name} (templates)", shift.wrap.templates


def _check(dataset: str, source: Source, seed: int) -> Check:
    try:
        frame = sources.rows(source, seed)
    except UserError as error:
        return Check(dataset, source.source, 0, {}, str(error))
    return Check(dataset, source.source, len(frame), {str(k): int(n) for k, n in frame["label"].value_counts().items()})
