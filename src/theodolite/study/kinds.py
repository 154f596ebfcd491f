"""Recipes of any kind: which kind a request is for, its recipe by that kind's schema, and the options that apply."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from theodolite.core.errors import UserError
from theodolite.core.recipe import COMPARE, BaseRecipe, names
from theodolite.core.strict import validated
from theodolite.study.analysis import OWN, Analysis
from theodolite.study.compare_request import CompareRequest, OutputOptions, flag
from theodolite.study.hardware import Machine
from theodolite.study.request import is_table, written

# What an analysis never sees, because it changes neither the recipe nor a number
EVERYWHERE = {each.name for part in (OutputOptions, Machine) for each in fields(part)}


def kind_of(data: Any) -> str:
    """Return the kind of recipe that data stand for: a recipe's own, a kind that is named itself, else a comparison.

    >>> kind_of("truth"), kind_of("mine.csv"), kind_of("steer")
    ('compare', 'compare', 'steer')
    """
    # `compare steer --data mine.csv` names no recipe: its analysis makes one of the table
    if isinstance(data, str) and data in OWN and data not in names():
        return data
    return written(data).kind if isinstance(data, str | Path) and not is_table(data) else COMPARE


def resolved(analysis: Analysis[Any], request: CompareRequest, weights: str = "") -> BaseRecipe:
    """Return the recipe that a request means to an analysis; an option that does not apply to it is an error.

    weights: identity of a model that is already loaded, "" without one.
    """
    others = [name for name in request.given() if name not in analysis.options | EVERYWHERE]
    if others:
        raise UserError(_does_not_apply(others, analysis))
    if analysis.resolve is not None:
        return analysis.resolve(request, weights)
    assert isinstance(request.data, str | Path), "only a comparison takes tables and arrays"
    recipe = written(request.data).as_schema(analysis.schema)
    given = {name: getattr(request, name) for name in request.given() if name in analysis.options}
    return validated(analysis.schema, recipe.model_dump() | given, f"recipe {recipe.name!r}")


def _does_not_apply(names: Sequence[str], analysis: Analysis[Any]) -> str:
    known = ", ".join(map(flag, sorted(analysis.options)))
    takes = f"take {known}" if known else "take none of the options that change what is computed"
    verb = "does" if len(names) == 1 else "do"
    return (
        f"{', '.join(map(flag, names))} {verb} not apply to recipes of kind {analysis.kind!r}, which {takes}: "
        f"leave {'it' if len(names) == 1 else 'them'} out"
    )
