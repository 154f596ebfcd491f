"""Rank correlation between two measured quantities of the same few methods, with its interval, and who may be best.

The methods are few and fixed, so nothing is drawn from among them: what is drawn anew are the rows that both quantities
were measured on. (`control.association` has the other interval, over methods, and the p of no relation, by counting
their orders.) Shapes: m methods, B draws.

The percentile interval of such draws is not enough. A draw adds the noise of the rows to estimates that hold it
already, so that correlations of draws lie nearer to 0 than the correlation of the true values: where that is 1 and
neighbours are as far apart as their standard errors, percentiles covered it 2 times in 100. An end is therefore moved
to 1 (or -1) unless two methods are found in opposite orders (in the same order) by both quantities. With that the
interval covered at least 94 % at true correlations from -1 to 1 and every noise tried (tests/debate/test_ranks.py).

With three fits of one quantity the draws follow Student's t with two degrees of freedom or fewer, and their standard
deviation (`Axis.sd`) is that of a few large draws: it is too large, and another seed gives another one. In simulated
studies of 6 methods on 100 openings, with refits that scatter by .1, .5 and 1 of the methods' own spread, the interval
covered true correlations of 1 and .6 .985 to 1.000 of the time, all orders that were found were right .975 to 1.000,
and the best method was among those that may be .995 to 1.000 (200 studies each). It errs wide: at a scatter of 1 the
interval is 1.7 of 2 wide and nearly all methods may be best. Nothing is mended by that but the number of fits.
"""

from dataclasses import dataclass
from functools import cache
from itertools import permutations

import numpy as np
from scipy.stats import norm, rankdata

from theodolite.core.control_limits import FEWEST_RANKED, MOST_COUNTED
from theodolite.core.verdict import LEVEL

Array = np.ndarray


@dataclass(frozen=True)
class Axis:
    """One quantity of m methods: values (m,), and draws (B, m) under which they vary as over fresh rows, paired."""

    value: Array
    draws: Array

    def take(self, methods: list[int]) -> "Axis":
        """Return the quantity of some of the methods."""
        return Axis(self.value[methods], self.draws[:, methods])

    def sd(self) -> Array:
        """Standard errors (m, m) of the differences between methods."""
        return (self.draws[:, :, None] - self.draws[:, None, :]).std(0)


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of n methods with its 95 % interval over rows.

    needed: the smallest size of a correlation that at most 5 % of all n! orders reach; NaN where there is none.
    """

    value: float
    lo: float
    hi: float
    n: int
    needed: float


def rank_correlation(x_bm: Array, y_bm: Array) -> Array:
    """Spearman's correlation of each row of (B, m) with its row; equal values share a rank, a constant row gives 0.

    >>> rank_correlation(np.array([[1.0, 2.0, 3.0]]), np.array([[9.0, 7.0, 8.0]])).tolist()
    [-0.5]
    """
    x, y = (rankdata(a, axis=1) for a in (x_bm, y_bm))
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    scale = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return np.divide((x * y).sum(1), scale, out=np.zeros(len(x)), where=scale > 0)


def correlate(x: Axis, y: Axis) -> Correlation:
    """Return the rank correlation of two quantities with its interval; how it is made stands in the module docstring.

    >>> rng = np.random.default_rng(0)
    >>> reads, steers = np.arange(7.0), np.arange(7.0) ** 2
    >>> axes = [Axis(a, a + rng.normal(0, 0.1, (500, 7))) for a in (reads, steers)]
    >>> found = correlate(*axes)
    >>> found.value, found.hi, found.lo > 0.9
    (1.0, 1.0, True)
    """
    m = len(x.value)
    nan = float("nan")
    if m < FEWEST_RANKED:
        return Correlation(nan, nan, nan, m, nan)
    value = float(rank_correlation(x.value[None], y.value[None])[0])
    lo = hi = nan
    if np.isfinite(x.draws).all() and np.isfinite(y.draws).all():
        lo, hi = np.quantile(rank_correlation(x.draws, y.draws), [LEVEL / 2, 1 - LEVEL / 2])
        alike = _found_order(x) * _found_order(y)
        # the value itself lies inside: draws of estimates nearer to each other than their errors may all lie below it
        lo = -1.0 if not (alike > 0).any() else min(lo, value)
        hi = 1.0 if not (alike < 0).any() else max(hi, value)
    return Correlation(value, float(lo), float(hi), m, needed(m))


@cache
def needed(m: int) -> float:
    """Smallest size of a rank correlation of m methods without ties that chance reaches less than 5 times in 100.

    NaN where even 1 is no rarer, and above 8 methods, of which not all orders are counted.

    >>> round(needed(7), 3), round(needed(5), 3), needed(4)
    (0.786, 1.0, nan)
    """
    if m > MOST_COUNTED:
        return float("nan")
    orders = _orders(m)
    sizes = np.round(abs(rank_correlation(np.broadcast_to(np.arange(m), orders.shape), orders)), 9)
    rare = [r for r in np.unique(sizes) if np.mean(sizes >= r) <= LEVEL]
    return float(min(rare, default=float("nan")))


def may_be_best(axis: Axis) -> Array:
    """Which of the methods (m,) may have the largest value: no other one is found to be above it.

    Intervals of the differences are one-sided and corrected for m - 1 comparisons (Hsu 1981), at half the error: the
    best of one quantity and the best of another are then both among those named 95 times in 100.

    >>> draws = np.random.default_rng(0).normal(0, 0.1, (500, 3))
    >>> may_be_best(Axis(np.array([1.0, 1.01, 0.0]), np.array([1.0, 1.01, 0.0]) + draws)).tolist()
    [True, True, False]
    """
    m = len(axis.value)
    reach = norm.ppf(1 - LEVEL / 2 / max(m - 1, 1)) * axis.sd()
    above = axis.value[None, :] - axis.value[:, None] > reach  # [i, j]: j is found to be above i
    return ~(above & ~np.eye(m, dtype=bool)).any(1)


def _found_order(axis: Axis) -> Array:
    """Signs (m, m) of the differences between methods that are told from 0; 0 elsewhere. All hold together with 95 %.

    Of two quantities no correction beyond that over pairs is needed: a pair counts where both find it.
    """
    m = len(axis.value)
    difference = axis.value[:, None] - axis.value[None, :]
    reach = norm.ppf(1 - LEVEL / 2 / (m * (m - 1) / 2)) * axis.sd()
    return np.sign(difference) * (abs(difference) > reach)


@cache
def _orders(m: int) -> Array:
    return np.array(list(permutations(range(m))))
