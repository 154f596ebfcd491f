"""A certified threshold above which steering moves a prompt the right way: one accuracy, not the four of a reader."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import beta

from theodolite.calibration._selected import Selected
from theodolite.calibration.certified import GRID, p_value
from theodolite.core.calibrator import Array, Predictions, ScoredSet


class CertifiedMoves(Selected):
    """Accepts prompts predicted to move the right way, with a share of right moves of at least alpha among them.

    The guarantee is that of `calibration.certified.Certified`: with probability 1 - delta over certify parts, for rows
    drawn like theirs, by learn-then-test over a fixed sequence of thresholds (Angelopoulos et al., 2110.01052). What
    differs is the number of cells. A reader is accepted in both its predictions; a prompt that is predicted not to
    move is left unsteered, so that "accepted" and "predicted 1" are one cell.

    >>> from theodolite.calibration.max_softmax import MaxSoftmax
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(800, 2))
    >>> rule = CertifiedMoves(MaxSoftmax(), alpha=0.9).fit(X, X[:, 0] > 0)
    >>> rule.accept([[2.0, 0.0], [-2.0, 0.0]]).tolist()
    [True, False]
    """

    def _confidence(self, part: ScoredSet) -> Array:
        moves_n = self.method_._probability(part) > 0.5
        return np.where(moves_n, self.method_._confidence(part), -np.inf)

    def _threshold(self, calibrate: Predictions, certify: Predictions) -> float:
        # The 30 rows of either class that `Calibrator` asks for serve two accuracies; here the certificate of the one
        # accuracy counts its own rows.
        self.too_few_ = False
        self.cuts_ = cuts(calibrate, self.alpha)
        return threshold(self.cuts_, certify, self.alpha, self.delta)


def cuts(calibrate: Predictions, alpha: float) -> list[float]:
    """Return the thresholds to test, from the one of least p-value on the calibration rows downwards.

    They are quantiles of the confidence of rows that the method would steer, as in `calibration.certified.cuts`.
    """
    sure_n = calibrate.confidence_n[calibrate.confidence_n > -np.inf]
    quantiles = np.quantile(sure_n, np.linspace(1, 0, GRID + 1)[1:], method="lower") if len(sure_n) else []
    tried = list(dict.fromkeys(map(float, quantiles)))
    doubts = [p_value(*moves(calibrate, cut), alpha) for cut in tried]
    return tried[int(np.argmin(doubts)) :] if tried else []


def threshold(cuts: Sequence[float], certify: Predictions, alpha: float, delta: float) -> float:
    """Return the last threshold before the first that fails; infinity if the first one fails.

    Each is tested at level delta as long as all before it passed. The thresholds must not come from the certify rows.
    """
    found = np.inf
    for cut in cuts:
        if p_value(*moves(certify, cut), alpha) > delta:
            break
        found = cut
    return found


def moves(predictions: Predictions, cut: float) -> tuple[int, int]:
    """Return (right moves, prompts) among those whose confidence reaches the threshold.

    >>> moves(Predictions(np.array([0.9, 0.8, 0.2]), np.ones(3, int), np.array([1, 0, 1])), 0.5)
    (1, 2)
    """
    accepted_n = predictions.confidence_n >= cut
    return int(predictions.target_n[accepted_n].sum()), int(accepted_n.sum())


def expected_coverage(calibrate: Predictions, alpha: float, delta: float) -> float:
    """Return the share of calibration rows that would be accepted if they were the certify rows; to choose by."""
    cut = threshold(cuts(calibrate, alpha), calibrate, alpha, delta)
    return float((calibrate.confidence_n >= cut).mean())


def lower_limit(right: int, n: int, delta: float) -> float:
    """Return the lower limit of a share at level 1 - delta (Clopper & Pearson 1934, one-sided); 0 without rows.

    It is at least alpha exactly where `p_value(right, n, alpha)` is at most delta.

    >>> round(lower_limit(45, 45, 0.1), 2), lower_limit(0, 9, 0.1)
    (0.95, 0.0)
    """
    return float(beta.ppf(delta, right, n - right + 1)) if right else 0.0
