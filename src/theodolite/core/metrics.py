"""Arrays in, one number out: how well scores tell label 1 from label 0, and how honest the probabilities are.

Every metric takes `y` (n,) of 0 and 1, scores or probabilities `s` (n,), and optional weights `w`, (n,) or (B, n).
With weights of shape (B, n), one row per bootstrap replicate, it returns (B,); otherwise a scalar. A row with a NaN
score is unscored and left out (`stats.estimate` counts them); with nothing left to measure the value is NaN. Sums run
in the dtype of `w`. Weights laid out text by text, as `bootstrap_weights` returns them, are read in place.

Shapes: n rows, p positives, m negatives, B replicates.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np

Array = np.ndarray


def auroc(y: Array, s: Array, w: Array | None = None, within: Array | None = None) -> Array:
    """Share of (positive, negative) pairs in which the positive scores higher; a tie counts half.

    within: codes of a grouping, (n,); only pairs inside a group count, so that the value is the mean of the groups'
    AUROCs weighted by their numbers of pairs. It is the pooled one when a group shifts no score.

    >>> y, s = np.array([1, 0, 1, 0]), np.array([0.9, 0.4, 0.4, 0.1])
    >>> float(auroc(y, s))                                     # 3 pairs of 4 in order, one of them a tie
    0.875
    >>> float(auroc(y, s, within=np.array([0, 0, 1, 1])))
    1.0
    """
    y, s, w_nb, shape, within = _scored(y, s, w, within)
    group = np.zeros(len(s), int) if within is None else np.unique(within, return_inverse=True)[1]
    in_order_b, pairs_b = np.zeros((2, w_nb.shape[1]), w_nb.dtype)
    for code in range(group.max(initial=-1) + 1):
        rows = np.flatnonzero(group == code)
        below_b = np.zeros(w_nb.shape[1], w_nb.dtype)
        for up_b, down_b in _climb(y, s, w_nb, rows):
            if down_b is None:
                in_order_b += up_b * below_b
            elif up_b is None:
                below_b += down_b
            else:
                in_order_b += up_b * (below_b + down_b / 2)
                below_b += down_b
        pairs_b += w_nb[rows[y[rows] == 1]].sum(0) * below_b
    return _ratio(in_order_b, pairs_b, shape)


def average_precision(y: Array, s: Array, w: Array | None = None) -> Array:
    """Precision at every positive's score as threshold, averaged over the positives (no interpolation).

    >>> round(float(average_precision(np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.4, 0.1]))), 4)    # (1 + 2/3) / 2
    0.8333
    """
    y, s, w_nb, shape, _ = _scored(y, s, w)
    precision_b, hits_b, alarms_b = np.zeros((3, w_nb.shape[1]), w_nb.dtype)
    tiny = np.finfo(w_nb.dtype).tiny
    for up_b, down_b in _climb(y, -s, w_nb, np.arange(len(s))):
        if down_b is not None:
            alarms_b += down_b
        if up_b is not None:
            hits_b += up_b
            precision_b += up_b * hits_b / np.maximum(hits_b + alarms_b, tiny)
    return _ratio(precision_b, hits_b, shape)


def brier(y: Array, p: Array, w: Array | None = None) -> Array:
    """Mean squared distance of the probability of label 1 from the label.

    >>> float(brier(np.array([1, 0]), np.array([0.5, 0.5])))
    0.25
    """
    y, p, w_nb, shape, _ = _scored(y, p, w)
    return _mean((p - y) ** 2, w_nb, shape)


def ece(y: Array, p: Array, w: Array | None = None, bins: int = 10) -> Array:
    """Expected calibration error: mean over bins of |mean probability - share of label 1|, weighted by mass.

    Bins hold equal numbers of rows (quantiles of `p`; equal probabilities stay together), not equal widths, which
    leave most bins empty for confident readers. Never 0 by chance: a calibrated reader shows about
    sqrt(2 p (1 - p) bins / (pi n)); `calibration_error` takes that out.

    >>> float(ece(np.array([1, 0, 0, 0]), np.full(4, 0.5)))
    0.25
    """
    y, p, w_nb, shape, _ = _scored(y, p, w)
    if not len(p):
        return _ratio(w_nb.sum(0), w_nb.sum(0), shape)
    return _ratio(np.abs(_gaps(y, p, w_nb, bins)).sum(0), w_nb.sum(0), shape)


def ece_noise(y: Array, p: Array, w: Array | None = None, bins: int = 10) -> Array:
    """Sum of |gap under `w` - gap of the rows as they are| over the bins: how far reweighting moves their gaps.

    >>> float(ece_noise(np.array([1, 0, 0, 0]), np.full(4, 0.5)))
    0.0
    """
    y, p, w_nb, shape, _ = _scored(y, p, w)
    if not len(p):
        return _ratio(w_nb.sum(0), w_nb.sum(0), shape)
    total_b = np.maximum(w_nb.sum(0), np.finfo(w_nb.dtype).tiny)
    as_it_is = _gaps(y, p, np.ones((len(p), 1), w_nb.dtype), bins) / len(p)
    return np.abs(_gaps(y, p, w_nb, bins) / total_b - as_it_is).sum(0).reshape(shape)[()]


def _gaps(y: Array, p: Array, w_nb: Array, bins: int) -> Array:
    """Sum of (probability - label) in each bin, (k, B): bins of equal numbers of rows, equal probabilities together."""
    edges = np.unique(np.quantile(p, np.arange(1, bins) / bins, method="higher"))
    member_kn = np.searchsorted(edges, p, side="right") == np.arange(len(edges) + 1)[:, None]
    return (member_kn * (p - y)).astype(w_nb.dtype) @ w_nb


def mean(y: Array, s: Array, w: Array | None = None) -> Array:
    """Mean of the scores: a rate where they are 0 and 1; the labels play no part.

    >>> float(mean(np.array([1, 0, 1]), np.array([1.0, 0.0, np.nan])))
    0.5
    """
    y, s, w_nb, shape, _ = _scored(y, s, w)
    return _mean(s, w_nb, shape)


def aurc(y: Array, s: Array, w: Array | None = None) -> Array:
    """Area under the risk-coverage curve (1805.08206): the error among the most confident, averaged over their share.

    s: the confidence, above 0, with a minus where the prediction is wrong; the labels play no part. Rows of equal
    confidence are accepted together. Errors among the most confident weigh most: see `augrc`.

    >>> round(float(aurc(np.zeros(4), np.array([4.0, 3.0, -2.0, 1.0]))), 5)     # errors 0, 0, 1/3, 1/4
    0.14583
    """
    wrong_kb, all_kb, shape = _accepted_steps(y, s, w)
    share_kb = np.diff(all_kb, axis=0, prepend=0)
    risk_b = (share_kb * wrong_kb / np.maximum(all_kb, np.finfo(all_kb.dtype).tiny)).sum(0)
    return _ratio(risk_b, share_kb.sum(0), shape)


def augrc(y: Array, s: Array, w: Array | None = None) -> Array:
    """Area under the generalised risk-coverage curve (Traub et al., 2407.01032).

    Counts accepted errors as a share of *all* rows, so that no error weighs more than another. It is half the
    error rate without skill, and always (1 - AUROC of right against wrong) times accuracy times error, plus half the
    squared error.

    >>> round(float(augrc(np.zeros(4), np.array([4.0, 3.0, -2.0, 1.0]))), 5)
    0.09375
    """
    wrong_kb, all_kb, shape = _accepted_steps(y, s, w)
    share_kb = np.diff(all_kb, axis=0, prepend=0)
    between_kb = wrong_kb - np.diff(wrong_kb, axis=0, prepend=0) / 2
    return _ratio((share_kb * between_kb).sum(0), share_kb.sum(0) ** 2, shape)


def rate_above(y: Array, s: Array, threshold: float, label: int, w: Array | None = None) -> Array:
    """Share of the rows of `label` that score above a threshold fixed elsewhere: TPR for label 1, realised FPR for 0.

    >>> y, s = np.array([1, 1, 0, 0]), np.array([0.9, 0.2, 0.6, 0.1])
    >>> float(rate_above(y, s, 0.5, label=1)), float(rate_above(y, s, 0.5, label=0))
    (0.5, 0.5)
    """
    y, s, w_nb, shape, _ = _scored(y, s, w)
    return _mean(s[y == label] > threshold, w_nb[y == label], shape)


def threshold_at(negatives: Array, fpr: float, fewest: int = 10) -> float | None:
    """The lowest score that at most a share `fpr` of these negatives lie above; None if that share is under 10 rows.

    Give it out-of-fold scores of *training* negatives: a threshold chosen on the rows it is tested on is no threshold.

    >>> threshold_at(np.arange(200.0), 0.05), threshold_at(np.arange(200.0), 0.01)
    (189.0, None)
    """
    kept = np.sort(negatives[~np.isnan(negatives)])
    allowed = int(fpr * len(kept) + 1e-9)
    return float(kept[len(kept) - 1 - allowed]) if allowed >= fewest else None


def _accepted_steps(y: Array, s: Array, w: Array | None) -> tuple[Array, Array, tuple[int, ...]]:
    """Weight of the wrong and of all rows (steps, B) among those of at least each confidence, the largest first."""
    _, s, w_nb, shape, _ = _scored(y, s, w)
    order = np.argsort(-np.abs(s), kind="stable")
    level_n = np.abs(s)[order]
    last_k = np.flatnonzero(np.r_[level_n[1:] != level_n[:-1], True]) if len(s) else np.zeros(0, int)
    w_nb = w_nb[order]
    wrong_kb, all_kb = np.cumsum(w_nb * (s[order] < 0)[:, None], axis=0), np.cumsum(w_nb, axis=0)
    return wrong_kb[last_k], all_kb[last_k], shape


def _scored(
    y: Array, s: Array, w: Array | None, within: Array | None = None
) -> tuple[Array, Array, Array, tuple[int, ...], Array | None]:
    """The scored rows with their weights as (n, B), and the shape to return."""
    y, s = np.asarray(y), np.asarray(s, np.float64)
    w = np.asarray(np.ones(len(y)) if w is None else w)
    w = w if np.issubdtype(w.dtype, np.floating) else w.astype(float)
    assert y.shape == s.shape == w.shape[-1:], f"y {y.shape}, scores {s.shape} and weights {w.shape} do not fit"
    w_nb = np.atleast_2d(w).T
    keep = ~np.isnan(s)
    if not keep.all():
        y, s, w_nb = y[keep], s[keep], w_nb[keep]
        within = within if within is None else np.asarray(within)[keep]
    return y, s, w_nb, w.shape[:-1], within


def _climb(y: Array, s: Array, w_nb: Array, rows: Array) -> Iterator[tuple[Any, Any]]:
    """Weights (B,) of the positives and of the negatives at every distinct score of these rows, lowest first.

    None stands for no row. Walking text by text keeps the running sums in the processor's first cache: 5x faster than
    a cumulative sum over an (n, B) copy.
    """
    score, label = s.tolist(), y.tolist()
    for _, tied in groupby(rows[np.argsort(s[rows], kind="stable")].tolist(), key=score.__getitem__):
        first, *more = tied
        if not more:
            yield (w_nb[first], None) if label[first] == 1 else (None, w_nb[first])
            continue
        up, down = ([i for i in (first, *more) if label[i] == wanted] for wanted in (1, 0))
        yield w_nb[up].sum(0) if up else None, w_nb[down].sum(0) if down else None


def _mean(loss: Array, w_nb: Array, shape: tuple[int, ...]) -> Array:
    return _ratio(loss.astype(w_nb.dtype) @ w_nb, w_nb.sum(0), shape)


def _ratio(above: Array, below: Array, shape: tuple[int, ...]) -> Array:
    return np.divide(above, below, out=np.full(below.shape, np.nan, below.dtype), where=below > 0).reshape(shape)[()]
