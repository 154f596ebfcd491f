"""A recipe of kind `steer` for texts of the user's own: `compare steer --data mine.csv`, or a concept file."""

from pathlib import Path
from typing import Any

from theodolite.control.recipe import STEER, SteerRecipe, Table
from theodolite.core.errors import UserError
from theodolite.core.strict import validated
from theodolite.data import concept_file
from theodolite.data.sources.tables import stem_of
from theodolite.study.compare_request import CompareRequest, flag
from theodolite.study.option import listed
from theodolite.study.request import TABLES, is_table, written

CONCEPT_FILES = (".yaml", ".yml")
OF_TABLE = {"text", "label", "positive", "group"}  # options of a table, beside those of steering alone


def asked_recipe(request: CompareRequest) -> SteerRecipe:
    """Return the recipe that a request names, or makes of a table with `--data`, before its other options apply.

    >>> asked_recipe(CompareRequest("steer", label="mood"))
    Traceback (most recent call last):
    theodolite.core.errors.UserError: compare steer compares on a table of yours: give it with --data, or name a ...
    """
    assert isinstance(request.data, str | Path), "only a comparison of readers takes tables and arrays"
    if str(request.data) == STEER:
        return _of_table(request)
    if alone := [name for name in (*sorted(OF_TABLE), "openings", "targets", "table") if getattr(request, name)]:
        raise UserError(
            f"{_belong(alone)} to a table of yours, and {str(request.data)!r} is a recipe: "
            "write `compare steer --data FILE`"
        )
    return written(request.data).as_schema(SteerRecipe)


def _of_table(request: CompareRequest) -> SteerRecipe:
    table = request.table
    if table is None:
        raise UserError(
            "compare steer compares on a table of yours: give it with --data, or name a recipe, such as steer/french"
        )
    assert isinstance(table, str | Path), "a table in memory is written to a file first"
    path = Path(table).expanduser()
    if path.suffix.lower() in CONCEPT_FILES:
        return _of_concept_file(request, path)
    if not is_table(table):
        raise UserError(f"--data {str(table)!r}: give a {', '.join(TABLES)} file, or a concept file (.yaml)")
    columns: dict[str, Any] = {name: getattr(request, name) for name in ("text", "label", "group")}
    columns |= {name: _resolved(getattr(request, name)) for name in ("openings", "targets")}
    columns["positive"] = list(listed(request.positive) or ()) or None
    towards = ", ".join(map(str, columns["positive"] or ())) or f"{columns['label'] or 'label'} = 1"
    fields = {
        "kind": STEER,
        "name": stem_of(path.name),
        "title": f"Which method steers towards {towards} of {path.name}, at equal disturbance?",
        "concept": _resolved(path),
        "table": Table(**{name: value for name, value in columns.items() if value is not None}),
    }
    return validated(SteerRecipe, fields, path.name)


def _of_concept_file(request: CompareRequest, path: Path) -> SteerRecipe:
    if alone := [name for name in (*sorted(OF_TABLE), "openings", "targets") if getattr(request, name)]:
        raise UserError(
            f"{_belong(alone)} to a table, and {path.name!r} is a concept file, which names its "
            "columns, openings and targets itself: leave them out"
        )
    named = concept_file.load(path).fields
    fields = {
        "kind": STEER,
        "name": path.stem,
        "title": f"Which method steers towards {named.positive}, at equal disturbance?",
        "concept": _resolved(path),
    }
    return validated(SteerRecipe, fields, path.name)


def _belong(names: list[str]) -> str:
    return f"{', '.join(map(flag, names))} {'belongs' if len(names) == 1 else 'belong'}"


def _resolved(path: str | Path | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().resolve())
