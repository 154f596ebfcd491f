"""Yardsticks of effects and damage: the ceiling of effects on targets, and how unsteered text reads."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from theodolite.control.statistics import columns, mean_effect, share
from theodolite.control.tilt import ceiling

if TYPE_CHECKING:
    from theodolite.control.figures import Measured

ORACLE, UNSTEERED = "oracle_tilt", "unsteered"  # no methods, but each stands in rows as one
Row = dict[str, Any]


def ceilings(found: "Measured") -> list[Row]:
    """Return the effect of a tilt towards the scored targets, which no method can know, by level and metric."""
    ground, lines = found.ground, []
    for nats in found.recipe.nats:
        for metric, openings in (("effect_targets", ground.scored), ("effect_unseen", ground.unseen)):
            if openings is None or (effect_n := ceiling(openings, ground.disturbance, nats)) is None:
                continue
            lines.append({"metric": metric, "nats": nats} | columns(mean_effect(effect_n, ground.groups)))
    return lines


def ceiling_rows(lines: Sequence[Row]) -> Iterator[Row]:
    """Yield the rows of ceilings."""
    for one in lines:
        yield {"task": "steer-ceiling", "method": ORACLE, "seed": "all", "split": "both"} | one


def unsteered_rows(found: "Measured") -> Iterator[Row]:
    """Yield how the text of the unchanged model reads, beside that of each method."""
    for name, values in found.unsteered.items():
        value_n = np.array(values, float)
        figure = (share if name == "loops" else mean_effect)(value_n, np.arange(len(value_n)))
        place = {"task": "steer-damage", "method": UNSTEERED, "seed": "all", "nats": np.nan, "metric": name}
        yield place | columns(figure)
