"""Isotonic regression of the label on the score."""

import numpy as np
from sklearn.isotonic import IsotonicRegression

from theodolite.core.calibrator import Array, Calibrator, ScoredSet


class Isotonic(Calibrator):
    """The non-decreasing step function of the score with the least squared error (Zadrozny & Elkan 2002)."""

    def _calibrate(self, support: ScoredSet, calibrate: ScoredSet) -> None:
        fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(calibrate.score_n, calibrate.target_n)
        self.scores_, self.probabilities_ = fitted.X_thresholds_, fitted.y_thresholds_

    def _probability(self, part: ScoredSet) -> Array:
        return np.interp(part.score_n, self.scores_, self.probabilities_)
