"""Effects of a comparison of control methods opening by opening: `artefacts/effects.parquet` of its Run."""

from typing import Any

import numpy as np
import pandas as pd

from theodolite.control.figures import ON_QUESTIONS, Measured
from theodolite.core.errors import UserError
from theodolite.core.run import Run
from theodolite.data.dataset import content_hash

EFFECTS = "effects"  # name of the table in a Run
COLUMNS = ("row", "group", "method", "site", "seed", "split", "nats", "strength", "metric", "effect")


def effect_table(found: Measured) -> pd.DataFrame:
    """Return one row for each effect of one opening, NaN where it has none; openings by content hash, never as text.

    Whoever compares these effects with something else needs them paired: the mean of a row of the Run is not enough.
    """
    rows = np.array([content_hash(opening) for opening in found.ground.openings], dtype=object)
    groups = found.ground.groups.astype(str)
    parts = [
        pd.DataFrame({"row": rows, "group": groups, "effect": np.array(effect, float)}).assign(
            method=method, site=numbers["site"], seed=seed, metric=metric, **_place(cell)
        )
        for method, seeds in found.methods.items()
        for seed, numbers in enumerate(seeds)
        for cell in numbers["cells"]
        for metric, effect in cell.get("effects", {}).items()
        if metric != ON_QUESTIONS  # there may be as many questions as openings
    ]
    whole = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))
    return whole[list(COLUMNS)]


def read_effects(run: Run) -> pd.DataFrame | None:
    """Return the effects that a Run stores; None of a Run from before they were.

    A table of another shape, or with two effects of one opening in one cell, is an error: it is none of ours.
    """
    table = run.read_table(EFFECTS)
    if table is not None and (wrong := _wrong(table)):
        raise UserError(
            f"{str(run.folder / 'artefacts' / EFFECTS)!r} holds no effects of single openings ({wrong}): restore it, "
            "or run `theodolite compare` again with --force"
        )
    return table


def _wrong(table: pd.DataFrame) -> str:
    if lacking := [name for name in COLUMNS if name not in table]:
        return f"no column {lacking[0]!r}"
    if words := [name for name in ("nats", "strength", "effect") if not pd.api.types.is_numeric_dtype(table[name])]:
        return f"no numbers in {words[0]!r}"
    cell = [name for name in COLUMNS if name not in ("group", "strength", "effect")]
    return "several effects of one opening in one cell" if table.duplicated(cell).any() else ""


def _place(cell: dict[str, Any]) -> dict[str, Any]:
    return {"split": cell["split"], "nats": float(cell["nats"]), "strength": float(cell["strength"])}
