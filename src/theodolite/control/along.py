"""Rows along the strengths of a method: slope and order over the matched levels, and effects at further strengths."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from theodolite.control.measure import SIGNS
from theodolite.control.statistics import mean_effect, share, slopes, spearman
from theodolite.core.control_limits import OVERDRIVE

if TYPE_CHECKING:
    from theodolite.control.figures import Measured
    from theodolite.control.recipe import SteerRecipe

Array = np.ndarray
Row = dict[str, Any]
METRIC = "effect_targets"


def within_budget(recipe: "SteerRecipe") -> list[float]:
    """Return the levels of disturbance below that at which effects are expected to fall again."""
    return [nats for nats in recipe.nats if nats < OVERDRIVE]


def rows(found: "Measured") -> Iterator[Row]:
    """Yield slope, share of falling slopes and rank correlation of each method, and its effects along the curve."""
    for method, seeds in found.methods.items():
        place: Row = {"task": "steer-curve", "method": method, "seed": "all", "site": seeds[0]["site"]}
        yield from (place | one for one in _over_levels(found, method))
        for split in SIGNS:
            yield from (place | {"split": split} | one for one in _further(found, method, split))


def _over_levels(found: "Measured", method: str) -> Iterator[Row]:
    """Yield what one method's levels of both signs say together, in nats of log-odds per square root of a nat.

    Strengths of methods have no common unit, and disturbance grows with the square of a small strength: the signed
    square root of the disturbance stands for the strength.
    """
    points = [
        (sign * nats**0.5, effect)
        for split, sign in SIGNS.items()
        for nats in within_budget(found.recipe)
        if (effect := found.effects(method, split, nats, METRIC)) is not None
    ]
    size_k = np.array([size for size, _ in points])
    if not (size_k > 0).any() or not (size_k < 0).any():  # an opposite that was not matched leaves half a dose
        return
    effect_ksn = np.array([effect for _, effect in points])
    slope_sn = np.array([slopes(effect_ksn[:, seed], size_k) for seed in range(effect_ksn.shape[1])])
    group_n = np.arange(slope_sn.shape[1])
    how: dict[str, Any] = {"group_n": group_n, "training": found.training}
    falling_sn = np.where(np.isnan(slope_sn), np.nan, slope_sn < 0)
    # strength 0 belongs to the curve, as in a dose: one correlation and not two of the same name
    effect_kn = np.vstack([np.zeros(len(group_n)), effect_ksn.mean(1)])
    order = spearman(effect_kn, np.append(0.0, size_k), group_n)
    for name, one in (
        ("slope", mean_effect(slope_sn, **how)),
        ("falling", share(falling_sn, **how)),
        ("monotone", order),
    ):
        figure = {key: getattr(one, key) for key in ("value", "lo", "hi", "n", "n_groups")}
        yield {"metric": f"{METRIC}:{name}", "split": "both"} | figure


def _further(found: "Measured", method: str, split: str) -> Iterator[Row]:
    """Yield disturbance and mean effects at the further strengths of one sign, seeds by their place along the curve."""
    sides = [[one for one in seed["curve"] if one["split"] == split] for seed in found.methods[method]]
    if not all(sides):  # a seed of which no level was matched has no curve
        return
    for points in zip(*sides, strict=True):
        place = {"strength": float(np.mean([one["strength"] for one in points]))}
        kl = np.array([one["kl"] for one in points], float)
        yield place | {"metric": "kl", "value": float(kl.mean()), "n": len(kl)}
        for metric in points[0]["effects"]:
            effect_sn = np.array([one["effects"][metric] for one in points], float)
            one = mean_effect(effect_sn, np.arange(effect_sn.shape[1]), training=found.training)
            yield (
                place | {"metric": metric} | {key: getattr(one, key) for key in ("value", "lo", "hi", "n", "n_groups")}
            )
