"""Selection with a guarantee: learn-then-test over the accuracies within each class and each prediction."""

import warnings
from collections.abc import Sequence

import numpy as np
from scipy.stats import binom

from theodolite.calibration._selected import Selected
from theodolite.core.calibrator import RARE, Array, Predictions, ScoredSet, TooFewRows

GRID = 25  # thresholds that may be tried


class Certified(Selected):
    """Guarantees with probability 1 - delta over certify parts that all four conditional accuracies reach alpha.

    The four are those of accepted rows of each class, and of accepted rows predicted as each (Angelopoulos et al.,
    2110.01052, with a fixed sequence of thresholds). It holds for rows drawn like those of the certify part,
    independently, one of each group, for any confidence and any classifier; it does not hold for other rows.

    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, 2000)
    >>> X = rng.normal(size=(2000, 3)) + 2 * y[:, None]
    >>> rule = Certified(alpha=0.95).fit(X, y)
    >>> bool(rule.accept(X).mean() > 0.9), rule.predict(X).shape
    (True, (2000,))
    """

    def _reasons(self, part: ScoredSet) -> Array:
        return np.full(len(part.score_n), RARE, dtype=object) if self.preflight_ else super()._reasons(part)

    def _threshold(self, calibrate: Predictions, certify: Predictions) -> float:
        self.preflight_ = preflight(certify.target_n, self.alpha, self.delta)
        if self.preflight_:
            warnings.warn(self.preflight_, TooFewRows, 3)
        self.cuts_ = cuts(calibrate, self.alpha)
        return threshold(self.cuts_, certify, self.alpha, self.delta)


def cells(predictions: Predictions, accepted_n: Array) -> list[tuple[int, int]]:
    """Return (correct, n) of the accepted rows of each class, then of the accepted rows predicted as each class."""
    true_n, predicted_n = predictions.target_n, predictions.predicted_n
    correct_n = predicted_n == true_n
    inside = [accepted_n & (of_n == c) for of_n in (true_n, predicted_n) for c in (0, 1)]
    return [(int(correct_n[cell].sum()), int(cell.sum())) for cell in inside]


def p_value(correct: int, n: int, alpha: float) -> float:
    """Return the probability of so many correct rows or more if the accuracy is alpha; 1 without rows.

    >>> round(p_value(45, 45, 0.95), 3), p_value(0, 0, 0.95)
    (0.099, 1.0)
    """
    return float(binom.sf(correct - 1, n, alpha)) if n else 1.0


def needed(alpha: float, delta: float) -> int:
    """Return how many rows without an error each cell needs before anything can be certified.

    >>> needed(0.95, 0.1), needed(0.9, 0.1)
    (45, 22)
    """
    return int(np.ceil(np.log(delta) / np.log(alpha)))


def preflight(target_n: Array, alpha: float, delta: float) -> str:
    """Return why a certify part with these labels is too small, "" if it may be large enough.

    >>> preflight(np.repeat([0, 1], [200, 12]), 0.9, 0.1)
    'certifying 0.9 needs at least 22 rows without an error in every cell, the rarer class has 12'
    """
    n, fewest = needed(alpha, delta), int(np.bincount(target_n, minlength=2).min())
    if fewest >= n:
        return ""
    return f"certifying {alpha:g} needs at least {n} rows without an error in every cell, the rarer class has {fewest}"


def expected_coverage(calibrate: Predictions, alpha: float, delta: float) -> float:
    """Return the share of the calibration rows that would be accepted if they were the certify rows.

    A choice among rules may use it, because it does not use the certify rows.
    """
    cut = threshold(cuts(calibrate, alpha), calibrate, alpha, delta)
    return float((calibrate.confidence_n >= cut).mean())


def cuts(calibrate: Predictions, alpha: float) -> list[float]:
    """Return the thresholds to test: quantiles of the calibration confidence, from the one of least p-value downwards.

    The strictest thresholds rest on few rows, where a single error would end the sequence at its first step.
    """
    sure_n = calibrate.confidence_n[calibrate.confidence_n > -np.inf]
    quantiles = np.quantile(sure_n, np.linspace(1, 0, GRID + 1)[1:], method="lower") if len(sure_n) else []
    tried = list(dict.fromkeys(map(float, quantiles)))
    doubts = [doubt(calibrate, cut, alpha) for cut in tried]
    return tried[int(np.argmin(doubts)) :] if tried else []


def doubt(predictions: Predictions, cut: float, alpha: float) -> float:
    """Return the largest p-value of the four cells if predictions of at least this confidence are accepted."""
    accepted_n = predictions.confidence_n >= cut
    return max(p_value(correct, n, alpha) for correct, n in cells(predictions, accepted_n))


def threshold(cuts: Sequence[float], certify: Predictions, alpha: float, delta: float) -> float:
    """Return the last threshold before the first that fails; infinity if the first one fails.

    Each is tested at level delta as long as all before it passed (fixed sequence), and a threshold passes when all
    four cells do (intersection-union): neither divides delta. The thresholds must not come from the certify rows.
    """
    found = np.inf
    for cut in cuts:
        if doubt(certify, cut, alpha) > delta:
            break
        found = cut
    return found
