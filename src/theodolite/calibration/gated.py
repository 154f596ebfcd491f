"""One calibrator's confidence, for rows that another one's distance gate lets through."""

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from theodolite.calibration._selected import wrappable
from theodolite.calibration.knn_distance import KnnDistance
from theodolite.calibration.max_softmax import MaxSoftmax
from theodolite.core.calibrator import CALIBRATE, FAR, SUPPORT, Array, Calibrator, ScoredSet
from theodolite.core.errors import UserError

_OUTSIDE = -np.inf  # a confidence below every threshold


class GatedConfidence(Calibrator):
    """Accepts the predictions that `method` accepts on rows that `gate` does not reject as far from the data.

    The confidence is that of `method`, and minus infinity outside the gate. method, gate: unfitted calibrators without
    a guarantee of their own; both wrap the same classifier, and the gate must be one that rejects rows as far.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(400, 2))
    >>> GatedConfidence().fit(X, X[:, 0] > 0).reasons([[2.0, 0.0], [2.0, 40.0]]).tolist()
    ['', 'far from the data']
    """

    def __init__(
        self,
        estimator: Any = None,
        alpha: float = 0.9,
        calibrate: float = 0.5,
        seed: int = 0,
        method: Any = None,
        gate: Any = None,
    ) -> None:
        super().__init__(estimator, alpha, calibrate, seed)
        self.method = method
        self.gate = gate

    def _calibrate(self, support: ScoredSet, calibrate: ScoredSet) -> None:
        if self.gate is not None and getattr(self.gate, "outside", "") != FAR:
            raise UserError(
                f"gate is {type(self.gate).__name__}, which never rejects a row as far: give KnnDistance() or "
                "Mahalanobis()"
            )
        rows = np.concatenate([support.rows, calibrate.rows])
        target_n = np.r_[support.target_n, calibrate.target_n]
        part = [SUPPORT] * len(support.rows) + [CALIBRATE] * len(calibrate.rows)
        shared = {"estimator": FrozenEstimator(self.estimator_), "alpha": self.alpha}
        method = MaxSoftmax() if self.method is None else clone(wrappable(self.method))
        gate = KnnDistance() if self.gate is None else clone(wrappable(self.gate))
        self.method_, self.gate_ = (
            inner.set_params(**shared).fit(rows, target_n, part=part) for inner in (method, gate)
        )

    def _probability(self, part: ScoredSet) -> Array:
        return self.method_._probability(part)

    def _confidence(self, part: ScoredSet) -> Array:
        return np.where(self._far(part), _OUTSIDE, self.method_._confidence(part))

    def _reasons(self, part: ScoredSet) -> Array:
        return np.where(self._far(part), FAR, self.method_._reasons(part)).astype(object)

    def _far(self, part: ScoredSet) -> Array:
        return self.gate_._reasons(part) == FAR
