"""Whether a prompt moved the right way beyond chance, and whether its edited state is one the model was seen in.

Shapes: n prompts, m random draws, d columns of a state.
"""

from dataclasses import dataclass

import numpy as np

from theodolite.calibration._neighbours import neighbours
from theodolite.control.nulls import Band, band
from theodolite.core.errors import UserError

Array = np.ndarray
NEIGHBOUR = 10  # the k of `calibration.knn_distance`
QUANTILE = 0.99  # of the training states' own distances; beyond it a state has left the support


def random_widths(effect_mn: Array) -> Array:
    """Return the width of the 95 % random band of every single prompt, (n,), from m random draws' effects on it.

    The band of the *mean* effect over prompts is narrower, since scatter between prompts averages out in it: single
    prompts would lie outside it by chance far more often than once in twenty.

    >>> random_widths(np.array([[1.0, 10.0], [-1.0, -10.0]])).round(2).tolist()
    [1.96, 19.6]
    """
    return np.array([band(effect_m).width for effect_m in np.asarray(effect_mn, float).T])


def right_moves(
    effect_n: Array, sign: int, random: Band | Array, *, nats: float = np.nan, budget: float = np.inf
) -> Array:
    """Return the outcome of every prompt, (n,): 1 where it moved the right way by more than the random band, else 0.

    effect_n: change by steering at one strength of this sign. random: widths of the prompts' own bands
    (`random_widths`, of random draws at the same disturbance and sign), or one band for all of them. nats: disturbance
    that was reached; above the budget no prompt has an outcome, and neither has one without effect or band: NaN.

    >>> right_moves(np.array([3.0, 1.0, -3.0, np.nan]), 1, np.full(4, 2.0)).tolist()
    [1.0, 0.0, 0.0, nan]
    """
    if sign not in (1, -1):
        raise UserError(f"sign={sign}: give 1 for a positive strength or -1 for a negative one")
    effect_n = np.asarray(effect_n, float)
    width_n = np.full(len(effect_n), random.width) if isinstance(random, Band) else np.asarray(random, float)
    if width_n.shape != effect_n.shape:
        raise UserError(f"{len(width_n)} random bands for {len(effect_n)} prompts: give one for each")
    outcome_n = np.where(np.isnan(effect_n) | np.isnan(width_n), np.nan, sign * effect_n > width_n)
    return np.full(len(effect_n), np.nan) if nats > budget else outcome_n


@dataclass(frozen=True)
class LeftSupport:
    """States far from the training states after the edit, and, of the same prompts, before it.

    after_n: which edited states (n,) lie beyond `limit`, the 99th percentile of the training states' own distances to
    their tenth neighbour. before: number that lay there unedited.
    """

    after_n: Array
    before: int
    limit: float

    @property
    def after(self) -> int:
        """Number of edited states beyond the limit."""
        return int(self.after_n.sum())


def left_support(training_md: Array, before_nd: Array, after_nd: Array) -> LeftSupport:
    """Count the states that leave the support by the edit: distance to the tenth nearest training state.

    >>> rows = np.random.default_rng(0).normal(size=(300, 3))
    >>> found = left_support(rows[:200], rows[200:], rows[200:] + 50)
    >>> found.before < 5, found.after
    (True, 100)
    """
    support = neighbours(np.asarray(training_md, float))
    if len(support) < 2:
        raise UserError("a support needs at least two training states")
    own_m = support.nearest(support.rows_md, NEIGHBOUR, itself=True)[0][:, -1] ** 0.5
    limit = float(np.quantile(own_m, QUANTILE))
    before_n, after_n = (
        support.nearest(np.asarray(rows, float), NEIGHBOUR)[0][:, -1] ** 0.5 > limit for rows in (before_nd, after_nd)
    )
    return LeftSupport(after_n, int(before_n.sum()), limit)
