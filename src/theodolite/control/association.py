"""Does the best reader steer best? Rank correlation of reading and steering over methods, for one concept or several.

Shapes: C concepts, M methods, B replicates.
"""

import math
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from scipy.stats import rankdata

from theodolite.core.control_limits import FEWEST_RANKED, MOST_COUNTED
from theodolite.core.errors import UserError
from theodolite.core.seeds import generator

Array = np.ndarray
_ORDERS = 20_000  # random orders where there are more methods
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Association:
    """Spearman's correlation over methods, its 95 % interval, and the two-sided permutation p of no relation.

    by_concept: the correlation within each concept, (C,), of which `value` is the mean. exact: whether p counts every
    order of the methods. n_left_out: methods that lack a number in some concept. Where there are fewer than four
    methods all figures are NaN.
    """

    value: float
    lo: float
    hi: float
    p: float
    by_concept: tuple[float, ...]
    exact: bool
    n_methods: int
    n_concepts: int
    n_left_out: int


def association(reading_cm: Array, steering_cm: Array, *, n_boot: int = 2000, seed: int = 0) -> Association:
    """Rank correlation of a reading figure with a steering figure over M methods in each of C concepts, (C, M) or (M,).

    The interval is a percentile interval over methods, and over concepts where there are several: each draws an Exp(1)
    weight, so that no replicate has ties that the figures do not have. It is rough below ten methods. p does not rest
    on it: one permutation of the methods applies to all concepts, because a method that reads and steers badly
    everywhere is one piece of evidence and not C.

    >>> found = association(np.array([0.6, 0.7, 0.8, 0.9]), np.array([1.0, 2.0, 3.0, 4.0]))
    >>> found.value, round(found.p, 4), found.exact         # 2 of 4! orders are as extreme
    (1.0, 0.0833, True)
    """
    x_cm, y_cm = (np.atleast_2d(np.asarray(a, float)) for a in (reading_cm, steering_cm))
    if x_cm.shape != y_cm.shape:
        raise UserError(f"reading {x_cm.shape} and steering {y_cm.shape} are not of the same concepts and methods")
    whole = ~(np.isnan(x_cm) | np.isnan(y_cm)).any(0)
    x_cm, y_cm = x_cm[:, whole], y_cm[:, whole]
    n_concepts, n_methods = x_cm.shape
    size = (n_methods, n_concepts, int((~whole).sum()))
    if n_methods < FEWEST_RANKED:
        return Association(math.nan, math.nan, math.nan, math.nan, (math.nan,) * n_concepts, True, *size)
    by_concept = [
        float(_weighted_rank_correlation(x, y, np.ones((1, n_methods)))[0]) for x, y in zip(x_cm, y_cm, strict=True)
    ]
    rng = generator(seed, "association")
    method_bm = rng.standard_exponential((n_boot, n_methods))
    concept_bc = rng.standard_exponential((n_boot, n_concepts)) if n_concepts > 1 else np.ones((n_boot, 1))
    draws_cb = np.array([_weighted_rank_correlation(x, y, method_bm) for x, y in zip(x_cm, y_cm, strict=True)])
    lo, hi = np.quantile((concept_bc.T * draws_cb).sum(0) / concept_bc.sum(1), [0.025, 0.975])
    exact = n_methods <= MOST_COUNTED
    p = _permutation_p(x_cm, y_cm, exact, rng)
    return Association(float(np.mean(by_concept)), float(lo), float(hi), p, tuple(by_concept), exact, *size)


def _weighted_rank_correlation(x_m: Array, y_m: Array, weight_bm: Array) -> Array:
    """Pearson's correlation of weighted mid-ranks, (B,); at equal weights Spearman's. 0 where all figures are equal."""
    total_b1 = weight_bm.sum(1, keepdims=True)
    rank_xy = []
    for figure_m in (x_m, y_m):
        below_mm = (figure_m[:, None] < figure_m) + 0.5 * (figure_m[:, None] == figure_m)
        rank_bm = weight_bm @ below_mm
        rank_xy.append(rank_bm - (weight_bm * rank_bm).sum(1, keepdims=True) / total_b1)
    a_bm, b_bm = rank_xy
    scale_b = np.sqrt((weight_bm * a_bm**2).sum(1) * (weight_bm * b_bm**2).sum(1))
    return np.divide((weight_bm * a_bm * b_bm).sum(1), scale_b, out=np.zeros(len(scale_b)), where=scale_b > _ROUNDING)


def _permutation_p(x_cm: Array, y_cm: Array, exact: bool, rng: np.random.Generator) -> float:
    """Share of the orders of the methods whose mean correlation over concepts is at least as far from 0."""
    n_methods = x_cm.shape[1]
    if exact:
        order_pm = np.array(list(permutations(range(n_methods))))
    else:
        order_pm = np.argsort(rng.random((_ORDERS, n_methods)), axis=1)
        order_pm[0] = np.arange(n_methods)  # the order observed is one of them, so that p is never 0
    total_p = np.zeros(len(order_pm))
    for x_m, y_m in zip(x_cm, y_cm, strict=True):
        a_m, b_m = _standard_ranks(x_m), _standard_ranks(y_m)
        total_p += b_m[order_pm] @ a_m
    observed = sum(float(_standard_ranks(x) @ _standard_ranks(y)) for x, y in zip(x_cm, y_cm, strict=True))
    return float((abs(total_p) >= abs(observed) - 1e-9).mean())


def _standard_ranks(figure_m: Array) -> Array:
    """Centred mid-ranks of length 1; zeros where all figures are equal."""
    centred_m = rankdata(figure_m) - (len(figure_m) + 1) / 2
    length = float(np.linalg.norm(centred_m))
    return centred_m / length if length > 0 else centred_m
