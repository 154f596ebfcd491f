"""The formulas of similarity-distance-magnitude (SDM) activations and their region (2509.12760, variant B), C classes.

Shapes: n rows, m support rows, C classes, K neighbours. A row is given by its logits z' (the detector's own, whose
largest is the prediction ŷ), its similarity q (how long the run of its nearest support rows is that carry the label
ŷ and were predicted right), and its distance quantile d (1: as near as any calibration row, 0: farther than all).
Distances, probabilities and q' are float32, as in the authors' package: there a sure row's P is 1, and ties with others
that are sure, where float64 would separate them by 1e-12 and put a threshold between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax, softmax

Array = np.ndarray
OFFSET = np.float32(2)  # of q: with q = 0 the base is 2


@dataclass(frozen=True)
class Diagnostics:
    """SDM's measurements of each row; arrays over n rows.

    level: alpha of the highest region that holds the row, 0 without one. `_lower`: recomputed with d lowered by its
    confidence band. sizes: n_c, (n, C). exemplars, distances: the 25 nearest support rows, nearest first, and how far
    they are, squared.
    """

    predicted: Array
    q: Array
    d: Array
    probability: Array
    q_prime: Array
    level: Array
    d_lower: Array
    q_prime_lower: Array
    level_lower: Array
    sizes: Array
    exemplars: Array
    distances: Array


@dataclass(frozen=True)
class Region:
    """Region of accepted predictions at level alpha: q' of at least q_min, and P_ŷ of at least psi_ŷ."""

    alpha: float
    q_min: float
    psi_c: tuple[float, ...]

    def holds(self, q_prime_n: Array, proba_nc: Array, predicted_n: Array) -> Array:
        """Return whether q' >= 1, q' >= q_min, and exactly one class, ŷ, reaches its threshold, (n,) bool."""
        above = proba_nc >= np.asarray(self.psi_c, dtype=proba_nc.dtype)
        alone = (above.sum(1) == 1) & above[np.arange(len(above)), predicted_n]
        return (q_prime_n >= max(self.q_min, 1.0)) & alone


def similarity(right_m: Array, label_m: Array, neighbour_nk: Array, predicted_n: Array) -> Array:
    """Return q, the length of the initial run of nearest neighbours that are labelled ŷ and were predicted right.

    >>> right, label = np.array([1, 1, 0, 1, 1], bool), np.array([1, 1, 1, 0, 1])
    >>> similarity(right, label, np.array([[0, 1, 2, 3, 4], [3, 0, 1, 2, 4]]), np.array([1, 0]))
    array([2, 1])
    """
    agrees = right_m[neighbour_nk] & (label_m[neighbour_nk] == predicted_n[:, None])
    return np.cumprod(agrees, axis=1).sum(1)  # the product is 1 up to the first disagreement and 0 from there on


def distance_quantile(near_n: Array, sorted_by_class: Sequence[Array]) -> Array:
    """Return d, the least, over classes, of the share of the class's distances that are not below this row's.

    sorted_by_class: distances to the nearest support row of calibration rows with q > 0, ascending. A class without
    any gives 0.

    >>> F = [np.array([0.5, 1, 1, 2]), np.array([0.2, 0.9, 3])]
    >>> distance_quantile(np.array([0, 0.5, 1, 1.5, 2, 2.5, 3.1]), F).round(2)
    array([1.  , 0.67, 0.33, 0.25, 0.25, 0.  , 0.  ], dtype=float32)
    """
    d_n = np.ones(len(near_n), dtype=np.float32)
    # The least over all classes, whatever is predicted: a row far from one class's rows counts as far. Side "left": a
    # distance equal to one of the class's is not beyond it, so that d = 1 at distance 0.
    for sorted_f in sorted_by_class:
        below_n = np.searchsorted(_single(sorted_f), _single(near_n), side="left")
        share_n = 1 - _single(below_n) / np.float32(len(sorted_f)) if len(sorted_f) else np.zeros_like(d_n)
        d_n = np.minimum(d_n, share_n)
    return d_n


def probabilities(logits_nc: Array, q_n: Array, d_n: Array) -> Array:
    """Return the activation softmax(d ln(2 + q) z').

    >>> z = np.array([[-1.2, 0.7]])
    >>> probabilities(z, np.array([5]), np.array([0.6])).round(6).tolist()
    [[0.09811..., 0.90188...]]
    """
    return softmax(_single(logits_nc) * _single(d_n)[:, None] * _ln_base(q_n)[:, None], axis=1)


def rescaled_similarity(q_n: Array, proba_of_predicted_n: Array) -> Array:
    """Return q' = min(q, (2 + q)^P_ŷ).

    >>> rescaled_similarity(np.array([5, 40]), np.array([0.5, 0.59613])).round(3)
    array([2.646, 9.283], dtype=float32)
    """
    q_n = _single(q_n)
    return np.minimum(q_n, (OFFSET + q_n) ** _single(proba_of_predicted_n))


def balanced_loss(logits_nc: Array, q_n: Array, d_n: Array, label_n: Array) -> float:
    """Return -log_{2+q} P_y, averaged within each class, then over the classes that are there.

    >>> z = np.array([[-1.2, 0.7]])
    >>> round(balanced_loss(z, np.array([5]), np.array([0.6]), np.array([1])), 5)
    0.05307
    """
    base_n = _ln_base(q_n)
    loss_n = -log_softmax((d_n * base_n)[:, None] * logits_nc, axis=1)[np.arange(len(label_n)), label_n] / base_n
    return float(np.mean([loss_n[label_n == c].mean() for c in np.unique(label_n)]))


def region(q_prime_n: Array, proba_nc: Array, label_n: Array, alpha: float) -> Region | None:
    """Return the region of least q' above which at most a share 1 - alpha of each class's P_y is below alpha.

    psi_c is the P_y that this share of the class's rows has at most. Returns None where no value of q' is enough: too
    few rows, or too weak a classifier.

    >>> q_prime, y = np.array([0, 1, 1, 2, 3, 3, 4, 6, 8, 9]), np.array([0, 0, 1, 1, 0, 1, 0, 1, 0, 1])
    >>> p1 = np.array([0.9, 0.4, 0.7, 0.55, 0.03, 0.97, 0.02, 0.99, 0.01, 0.98])
    >>> found = region(q_prime, np.column_stack([1 - p1, p1]), y, 0.9)
    >>> found.q_min, [round(psi, 2) for psi in found.psi_c]
    (3.0, [0.97, 0.97])
    """
    # One sweep over the rows by q' in place of a quantile at each candidate, O(n log n) for O(n^2 log n): psi_c is at
    # least alpha exactly if at most floor(tail n_c) of the class's rows are below alpha.
    n_classes = proba_nc.shape[1]
    true_n, tail = proba_nc[np.arange(len(label_n)), label_n], round(1 - alpha, 10)  # 1 - .9 is .09999999999999998
    order = np.argsort(q_prime_n, kind="stable")
    of_class = np.eye(n_classes, dtype=int)[label_n[order]]
    left_nc = _from_here_on(of_class)
    bad_nc = _from_here_on(of_class * (true_n[order] < true_n.dtype.type(alpha))[:, None])
    enough = ((left_nc > 0) & (bad_nc <= np.floor(tail * left_nc))).all(1)
    # A region takes all rows of a q' or none, so it can only start at the first row of a value; q' below 1 is q = 0.
    sorted_q = q_prime_n[order]
    first_of_its_value = np.r_[True, sorted_q[1:] != sorted_q[:-1]] if len(order) else np.zeros(0, bool)
    (starts,) = np.nonzero(enough & first_of_its_value & (sorted_q >= 1))
    if not len(starts):
        return None
    inside = order[starts[0] :]
    psi = [_smallest(true_n[inside][label_n[inside] == c], tail) for c in range(n_classes)]
    return Region(alpha, float(sorted_q[starts[0]]), tuple(psi))


def ladder(
    q_prime_n: Array, proba_nc: Array, label_n: Array, predicted_n: Array, alphas: Sequence[float]
) -> list[Region]:
    """Return regions at falling levels, each found on the rows that no higher region holds (variant C)."""
    found: list[Region] = []
    left = np.ones(len(label_n), dtype=bool)
    for alpha in sorted(alphas, reverse=True):
        rung = region(q_prime_n[left], proba_nc[left], label_n[left], alpha)
        if rung is not None:
            found.append(rung)
            left &= ~rung.holds(q_prime_n, proba_nc, predicted_n)
    return found


def level(regions: Sequence[Region], q_prime_n: Array, proba_nc: Array, predicted_n: Array) -> Array:
    """Return alpha of the highest region that holds each row, 0 where none does."""
    alpha_n = np.zeros(len(q_prime_n))
    for rung in sorted(regions, key=lambda r: r.alpha):  # ascending: the highest that holds a row writes last
        alpha_n[rung.holds(q_prime_n, proba_nc, predicted_n)] = rung.alpha
    return alpha_n


def effective_sizes(q_prime_n: Array, sorted_by_class: Sequence[Array]) -> Array:
    """Return n_c, the calibration rows of each class whose q' is at most this row's, (n, C).

    >>> effective_sizes(np.array([3.0]), [np.array([0, 1, 3, 4, 8]), np.array([1, 2, 3, 6, 9])])
    array([[3, 3]])
    """
    return np.column_stack([np.searchsorted(sorted_f, q_prime_n, side="right") for sorted_f in sorted_by_class])


def dkw_error(sizes: Array, alpha: float) -> Array:
    """Return half the width of the Dvoretzky-Kiefer-Wolfowitz band at level alpha; 1 where there is no row.

    >>> dkw_error(np.array([3, 200, 0]), 0.95).round(4)
    array([0.7841, 0.096 , 1.    ])
    """
    return np.sqrt(np.log(2 / (1 - alpha)) / (2 * np.maximum(sizes, 1)), where=sizes > 0, out=np.ones(np.shape(sizes)))


def _single(values: Array) -> Array:
    return np.asarray(values, dtype=np.float32)


def _ln_base(q_n: Array) -> Array:
    return np.log(OFFSET + _single(q_n))


def _from_here_on(count_nc: Array) -> Array:
    """Return sums over this row and all later ones, (n, C)."""
    return count_nc[::-1].cumsum(0)[::-1]


def _smallest(values: Array, tail: float) -> float:
    """Return the k-th smallest value, k the floor of tail * n, counted from 0."""
    k = min(int(tail * len(values)), len(values) - 1)
    return float(np.partition(values, k)[k])
