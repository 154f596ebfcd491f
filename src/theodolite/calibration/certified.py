"""Selection with a guarantee: learn-then-test over the accuracies within each class and each prediction."""

import warnings
from collections.abc import Sequence

import numpy as np
from scipy.stats import binom

from theodolite.calibration._selected import Selected
from theodolite.core.calibrator import RARE, Array, Judged, Part, TooFewRows

GRID = 25  # thresholds that may be tried


class Certified(Selected):
    """With probability 1 - delta over certify parts, all four conditional accuracies of what is admitted reach alpha.

    The four: among rows of each class, and among rows predicted as each (Angelopoulos et al., 2110.01052, with a
    fixed sequence of thresholds). It holds for rows drawn like those of the certify part, independently, one of each
    group, for any confidence, whatever the classifier; nothing is said of other rows.

    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, 2000)
    >>> X = rng.normal(size=(2000, 3)) + 2 * y[:, None]
    >>> judge = Certified(alpha=0.95).fit(X, y)
    >>> bool(judge.admit(X).mean() > 0.9), judge.predict(X).shape
    (True, (2000,))
    """

    def _reasons(self, part: Part) -> Array:
        return np.full(len(part.score_n), RARE, dtype=object) if self.preflight_ else super()._reasons(part)

    def _threshold(self, calibrate: Judged, certify: Judged) -> float:
        self.preflight_ = preflight(certify.target_n, self.alpha, self.delta)
        if self.preflight_:
            warnings.warn(self.preflight_, TooFewRows, 3)
        self.cuts_ = cuts(calibrate, self.alpha)
        return threshold(self.cuts_, certify, self.alpha, self.delta)


def cells(judged: Judged, admitted_n: Array) -> list[tuple[int, int]]:
    """(right, n) of what is admitted of each class, then of what is predicted as each."""
    right_n = judged.predicted_n == judged.target_n
    inside = [admitted_n & (of_n == c) for of_n in (judged.target_n, judged.predicted_n) for c in (0, 1)]
    return [(int(right_n[cell].sum()), int(cell.sum())) for cell in inside]


def p_value(right: int, n: int, alpha: float) -> float:
    """Of an accuracy below alpha: the chance of as many right or more; 1 without rows.

    >>> round(p_value(45, 45, 0.95), 3), p_value(0, 0, 0.95)
    (0.099, 1.0)
    """
    return float(binom.sf(right - 1, n, alpha)) if n else 1.0


def needed(alpha: float, delta: float) -> int:
    """Rows without an error that each cell needs before anything can be certified.

    >>> needed(0.95, 0.1), needed(0.9, 0.1)
    (45, 22)
    """
    return int(np.ceil(np.log(delta) / np.log(alpha)))


def preflight(target_n: Array, alpha: float, delta: float) -> str:
    """What a certify part with these labels is too small for; "" if it may do.

    >>> preflight(np.repeat([0, 1], [200, 12]), 0.9, 0.1)
    'certifying 0.9 needs at least 22 rows without an error in every cell, the rarer class has 12'
    """
    n, fewest = needed(alpha, delta), int(np.bincount(target_n, minlength=2).min())
    if fewest >= n:
        return ""
    return f"certifying {alpha:g} needs at least {n} rows without an error in every cell, the rarer class has {fewest}"


def promised(calibrate: Judged, alpha: float, delta: float) -> float:
    """Share of the calibration rows that would be admitted, were they the certify rows: what a choice may go by."""
    cut = threshold(cuts(calibrate, alpha), calibrate, alpha, delta)
    return float((calibrate.confidence_n >= cut).mean())


def cuts(calibrate: Judged, alpha: float) -> list[float]:
    """Thresholds to try: quantiles of the calibration rows, from the most convincing one there to the loosest.

    The strictest would do with few rows, where a single error ends the sequence before it began.
    """
    sure_n = calibrate.confidence_n[calibrate.confidence_n > -np.inf]
    quantiles = np.quantile(sure_n, np.linspace(1, 0, GRID + 1)[1:], method="lower") if len(sure_n) else []
    tried = list(dict.fromkeys(map(float, quantiles)))
    doubts = [doubt(calibrate, cut, alpha) for cut in tried]
    return tried[int(np.argmin(doubts)) :] if tried else []


def doubt(judged: Judged, cut: float, alpha: float) -> float:
    """The largest p-value of the four cells of what is admitted from this confidence on."""
    return max(p_value(right, n, alpha) for right, n in cells(judged, judged.confidence_n >= cut))


def threshold(cuts: Sequence[float], certify: Judged, alpha: float, delta: float) -> float:
    """The last of these thresholds before the first at which any cell may be below alpha; infinity if it is the first.

    Each is tested at level delta as long as all before were passed (fixed sequence), and a threshold passes when all
    four cells do (intersection-union): neither divides delta. The thresholds must not come from the certify rows.
    """
    found = np.inf
    for cut in cuts:
        if doubt(certify, cut, alpha) > delta:
            break
        found = cut
    return found
