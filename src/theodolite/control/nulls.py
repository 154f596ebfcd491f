"""Directions that know nothing of a concept, and the band of effects that they reach at the same disturbance.

A null has to be fitted, scaled and matched as the method is. What differs is the information that it may keep:

random directions  draws from the covariance of neutral states, or of a concept's states around their class means. The
                   covariance of a concept's states as they are contains the concept: draws from it point along it.
shuffled labels    A shuffle changes the share of true positives on its two sides by chance, and the difference of the
                   sides keeps that part of the true direction. The part shrinks as 1 / sqrt(n), but so does the noise
                   around it, and matching the disturbance scales both up again. Such a difference is a draw from the
                   covariance *with* the concept in it, whatever the number of texts (`toys.shuffled_labels`).
stratified labels  A shuffle within each class keeps the shares equal, and nothing of the true direction.

Shapes: n rows, d columns, m draws.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, chi2, norm

from theodolite.core.errors import UserError
from theodolite.core.seeds import generator

Array = np.ndarray
FEWEST_FOR_QUANTILE = 40  # draws whose 95th percentile is not one of the largest two
LEFT_OUT = -1
_LEVEL = 0.95
_TAIL = 0.025


def random_directions(rows_nd: Array, m: int, *, label_n: Array | None = None, seed: int = 0) -> Array:
    """Unit directions (m, d) of draws x ~ N(0, S), S the covariance of these rows; with labels, within the classes.

    Draw i depends on the seed and on i alone. Give neutral rows, or labels: see the module docstring.

    >>> rows = np.random.default_rng(0).normal(size=(50, 3)) * [9.0, 1.0, 0.0]
    >>> found = random_directions(rows, 4)
    >>> found.shape, bool((abs(found[:, 0]) > abs(found[:, 1])).mean() >= 0.75)
    ((4, 3), True)
    """
    rows_nd = np.asarray(rows_nd, float)
    class_n = np.zeros(len(rows_nd), int) if label_n is None else np.unique(label_n, return_inverse=True)[1]
    means_cd = np.array([rows_nd[class_n == c].mean(0) for c in range(class_n.max() + 1)])
    centred_nd = rows_nd - means_cd[class_n]
    # A sum of the centred rows with N(0, 1) weights has covariance n S, without a d x d matrix; scale is no matter.
    weight_mn = np.array([generator(seed, "random direction", i).normal(size=len(rows_nd)) for i in range(m)])
    return unit(weight_mn @ centred_nd)


def half_differences(rows_nd: Array, group_n: Array, m: int, *, seed: int = 0) -> Array:
    """Unit directions (m, d) between the means of two random halves of neutral texts; a group is in one half whole.

    >>> half_differences(np.eye(4), np.arange(4), 2).shape
    (2, 4)
    """
    rows_nd = np.asarray(rows_nd, float)
    sides_mn = [_side(np.asarray(group_n), generator(seed, "halves", i)) for i in range(m)]
    return unit(np.array([rows_nd[s == 1].mean(0) - rows_nd[s == 0].mean(0) for s in sides_mn]))


def stratified_labels(label_n: Array, m: int, *, group_n: Array | None = None, seed: int = 0) -> Array:
    """Shuffled labels (m, n) with the same share of true positives on both sides; -1 is a row left out.

    Within each class half of the groups, chosen at random, are called positive. A class with an odd number of rows
    loses one, so that the shares are equal exactly; where groups have several rows they are as equal as groups allow,
    and `imbalance` says how far.

    >>> found = stratified_labels(np.array([1, 1, 1, 1, 0, 0]), 1)[0]
    >>> int(found[:4].sum()), int(found[4:].sum())
    (2, 1)
    """
    label_n = np.asarray(label_n)
    group_n = np.arange(len(label_n)) if group_n is None else np.asarray(group_n)
    found_mn = np.full((m, len(label_n)), LEFT_OUT)
    for i in range(m):
        for label in np.unique(label_n):
            own = np.flatnonzero(label_n == label)
            rng = generator(seed, "stratified", i, label)
            if len(np.unique(group_n[own])) == len(own):  # single rows: halves of an even number are equal
                own = np.delete(own, rng.integers(len(own))) if len(own) % 2 else own
            found_mn[i, own] = _side(group_n[own], rng)
    return found_mn


def shuffled_labels(label_n: Array, m: int, *, seed: int = 0) -> Array:
    """Labels in random order, (m, n): no null of an effect at matched disturbance, and here to show it.

    >>> shuffled_labels(np.array([1, 1, 0]), 2).sum(axis=1).tolist()
    [2, 2]
    """
    return np.array([generator(seed, "shuffled", i).permutation(label_n) for i in range(m)])


def imbalance(label_n: Array, shuffled_n: Array) -> float:
    """Share of true positives among the shuffled positives less that among the shuffled negatives.

    It is the factor by which a shuffled difference in means keeps the true one.

    >>> imbalance(np.array([1, 1, 0, 0]), np.array([1, 1, 1, 0])) == 2 / 3 - 0
    True
    """
    label_n, shuffled_n = np.asarray(label_n), np.asarray(shuffled_n)
    return float((label_n[shuffled_n == 1] == 1).mean() - (label_n[shuffled_n == 0] == 1).mean())


def unit(vector_md: Array) -> Array:
    """Vectors (m, d) scaled to length 1; one without length is an error.

    >>> unit(np.array([[3.0, 4.0]])).tolist()
    [[0.6, 0.8]]
    """
    length_m1 = np.linalg.norm(vector_md, axis=1, keepdims=True)
    if not (length_m1 > 0).all():
        raise UserError("a null direction has no length: the rows it is drawn from do not differ")
    return vector_md / length_m1


@dataclass(frozen=True)
class Band:
    """Size of effect that 95 % of null draws stay within, with the uncertainty of that size.

    rule: "quantile", the 95th percentile of |effect| with the interval of its order statistics (`hi` is infinite below
    73 draws: none of them bounds it from above); or "normal" for fewer than 40 draws, 1.96 times their root mean
    square around 0 with the chi-squared interval. sd: that root mean square. n: draws. n_left_out: draws without an
    effect (capped or unmatched), never pooled.
    """

    width: float
    lo: float
    hi: float
    sd: float
    rule: str
    n: int
    n_left_out: int

    def __contains__(self, effect: float) -> bool:
        return abs(effect) <= self.width

    def in_sd(self, effect: float) -> float:
        """Effect in random standard deviations."""
        return effect / self.sd


def band(effect_m: Array) -> Band:
    """Band of the mean effects of m null draws at one strength sign and disturbance; NaN is a draw left out.

    Take each sign by itself: the response of a score to a push need not be symmetric.

    >>> found = band(np.linspace(-1, 1, 101))
    >>> round(found.width, 2), found.rule, round(found.sd, 2)
    (0.96, 'quantile', 0.58)
    """
    effect_m = np.asarray(effect_m, float)
    size_m = np.sort(abs(effect_m[~np.isnan(effect_m)]))
    n, left_out = len(size_m), int(np.isnan(effect_m).sum())
    if not n:
        return Band(math.nan, math.nan, math.nan, math.nan, "normal", 0, left_out)
    square = float(np.mean(size_m**2))
    sd = math.sqrt(square)
    if n < FEWEST_FOR_QUANTILE:
        z = float(norm.ppf(1 - _TAIL))
        lo, hi = (math.sqrt(n * square / chi2.ppf(q, n)) for q in (1 - _TAIL, _TAIL))
        return Band(z * sd, z * lo, z * hi, sd, "normal", n, left_out)
    # P(k-th smallest of n lies below the quantile) = P(Binomial(n, .95) >= k)
    below, above = (int(binom.ppf(q, n, _LEVEL)) for q in (_TAIL, 1 - _TAIL))
    hi = float(size_m[above]) if above < n else math.inf
    return Band(float(np.quantile(size_m, _LEVEL)), float(size_m[max(below - 1, 0)]), hi, sd, "quantile", n, left_out)


def _side(group_n: Array, rng: np.random.Generator) -> Array:
    """Halves 0 and 1 of rows, (n,): groups in random order, each to the side with fewer rows, ties by lot."""
    code_n = np.unique(group_n, return_inverse=True)[1]
    size_g = np.bincount(code_n)
    if len(size_g) < 2:
        raise UserError("halves need at least two groups")
    side_g, total = np.zeros(len(size_g), int), [0, 0]
    order_g = rng.permutation(len(size_g))
    if size_g.min() == size_g.max():  # groups of one size: half of them, of an odd number the larger half by lot
        side_g[order_g[: (len(size_g) + int(rng.integers(2))) // 2]] = 1
        return side_g[code_n]
    for g in order_g:
        side = int(rng.integers(2)) if total[0] == total[1] else int(total[1] < total[0])
        side_g[g] = side
        total[side] += int(size_g[g])
    return side_g[code_n]
