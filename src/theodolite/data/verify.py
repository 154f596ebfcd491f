"""Check that every source of a recipe can be read on this machine, before anything is computed."""

from dataclasses import dataclass

from theodolite.core.errors import UserError
from theodolite.core.recipe import BaseRecipe, Source
from theodolite.data import sources


@dataclass(frozen=True)
class Check:
    """One source: how many rows it gave, by label, or what went wrong (`problem` is "" when nothing did)."""

    dataset: str
    source: str
    n: int
    labels: dict[str, int]
    problem: str = ""


def verify(recipe: BaseRecipe, seed: int = 0) -> list[Check]:
    """A check of each source, templates included; nothing stops at the first failure."""
    return [_check(dataset, source, seed) for dataset, source in recipe.sources()]


def _check(dataset: str, source: Source, seed: int) -> Check:
    try:
        frame = sources.rows(source, seed)
    except UserError as error:
        return Check(dataset, source.source, 0, {}, str(error))
    return Check(dataset, source.source, len(frame), {str(k): int(n) for k, n in frame["label"].value_counts().items()})
