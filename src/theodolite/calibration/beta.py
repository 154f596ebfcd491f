"""Beta calibration."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from theodolite.core.calibrator import Array, Calibrator, ScoredSet


class Beta(Calibrator):
    """Log-odds a ln p - b ln(1 - p) + c of the classifier's probability p, a and b at least 0 (Kull et al. 2017)."""

    def _calibrate(self, support: ScoredSet, calibrate: ScoredSet) -> None:
        columns, sign_n = _columns(calibrate.score_n), np.where(calibrate.target_n > 0, 1.0, -1.0)

        def loss(abc: Array) -> tuple[float, Array]:
            margin_n = sign_n * (columns @ abc)
            return -float(log_expit(margin_n).mean()), -(columns.T @ (sign_n * expit(-margin_n))) / len(margin_n)

        bounds = [(0, None), (0, None), (None, None)]
        self.abc_ = minimize(loss, np.array([1.0, 1.0, 0.0]), jac=True, bounds=bounds, method="L-BFGS-B").x

    def _probability(self, part: ScoredSet) -> Array:
        return expit(_columns(part.score_n) @ self.abc_)


def _columns(score_n: Array) -> Array:
    return np.column_stack([log_expit(score_n), -log_expit(-score_n), np.ones(len(score_n))])
