"""Venn-ABERS prediction: two probabilities, of which one is calibrated whatever the data are."""

import numpy as np
from scipy.optimize import isotonic_regression

from theodolite.core.calibrator import Array, Calibrator, ScoredSet

DECIMALS = 9  # of a score: products of other batches differ in the last bits, which must not separate equal rows


class VennAbers(Calibrator):
    """Isotonic regression with the new row added as negative (p0) and as positive (p1) (Vovk et al., 1511.00213).

    The probability is p1 / (1 - p0 + p1), which loses least in log loss whichever of the two is right. Confidence is
    the smaller of the two chances of the predicted label.
    """

    def _calibrate(self, support: ScoredSet, calibrate: ScoredSet) -> None:
        score_n = np.round(calibrate.score_n, DECIMALS)
        order = np.argsort(score_n, kind="stable")
        self.scores_, self.targets_ = score_n[order], calibrate.target_n[order].astype(np.float64)

    def _probability(self, part: ScoredSet) -> Array:
        p0_n, p1_n = self._both(part.score_n)
        return p1_n / (1 - p0_n + p1_n)

    def _confidence(self, part: ScoredSet) -> Array:
        p0_n, p1_n = self._both(part.score_n)
        return np.where(self._probability(part) > 0.5, p0_n, 1 - p1_n)

    def _both(self, score_n: Array) -> tuple[Array, Array]:
        """Return p0 and p1 of each row, (n,) each; rows that fall between the same calibration scores share them."""
        value_n, inverse = np.unique(np.round(score_n, DECIMALS), return_inverse=True)
        place_n = np.searchsorted(self.scores_, value_n, side="left")
        tied_n = np.searchsorted(self.scores_, value_n, side="right") > place_n
        keys, back = np.unique(np.column_stack([place_n, tied_n]), axis=0, return_inverse=True)
        both = np.array([[self._with(int(place), bool(tied), y) for y in (0.0, 1.0)] for place, tied in keys])
        found = both[back.ravel()][inverse]
        return found[:, 0], found[:, 1]

    def _with(self, place: int, tied: bool, y: float) -> float:
        """Return the fit at a score inserted at this place with label y; equal scores are one point."""
        scores = self.scores_ if tied else np.insert(self.scores_, place, np.nan)
        targets = np.insert(self.targets_, place, y)
        if tied:
            scores = np.insert(scores, place, scores[place])
        starts = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])
        weight = np.diff(np.r_[starts, len(scores)]).astype(np.float64)
        mean = np.add.reduceat(targets, starts) / weight
        fitted = isotonic_regression(mean, weights=weight).x
        return float(fitted[np.searchsorted(starts, place, side="right") - 1])
