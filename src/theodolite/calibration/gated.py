"""One method's confidence, where another's gate lets the row through."""

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from theodolite.calibration._selected import judging
from theodolite.calibration.knn_distance import KnnDistance
from theodolite.calibration.max_softmax import MaxSoftmax
from theodolite.core.calibrator import CALIBRATE, FAR, SUPPORT, Array, Calibrator, Part
from theodolite.core.errors import UserError

_OUTSIDE = -np.inf  # a confidence that no threshold admits


class Gated(Calibrator):
    """Relies on what `method` relies on and `gate` does not call far from the data; the confidence is that of `method`.

    method, gate: judges that promise nothing themselves, unfitted; both judge the same classifier, and the gate must be
    one that calls rows far.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(400, 2))
    >>> Gated().fit(X, X[:, 0] > 0).reasons([[2.0, 0.0], [2.0, 40.0]]).tolist()
    ['', 'far from the data']
    """

    def __init__(
        self, estimator: Any = None, alpha: float = 0.9, calibrate: float = 0.5, seed: int = 0, method: Any = None,
        gate: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(estimator, alpha, calibrate, seed)
        self.method = method
        self.gate = gate

    def _calibrate(self, support: Part, calibrate: Part) -> None:
        if self.gate is not None and getattr(self.gate, "outside", "") != FAR:
            raise UserError(
                f"gate is {type(self.gate).__name__}, which never calls a row far: give KnnDistance() or so"
            )
        rows = np.concatenate([support.rows, calibrate.rows])
        target_n = np.r_[support.target_n, calibrate.target_n]
        part = [SUPPORT] * len(support.rows) + [CALIBRATE] * len(calibrate.rows)
        given = {"estimator": FrozenEstimator(self.estimator_), "alpha": self.alpha}
        self.method_, self.gate_ = (
            (default() if judge is None else clone(judging(judge))).set_params(**given).fit(rows, target_n, part=part)
            for judge, default in ((self.method, MaxSoftmax), (self.gate, KnnDistance))
        )

    def _probability(self, part: Part) -> Array:
        return self.method_._probability(part)

    def _confidence(self, part: Part) -> Array:
        return np.where(self._far(part), _OUTSIDE, self.method_._confidence(part))

    def _reasons(self, part: Part) -> Array:
        return np.where(self._far(part), FAR, self.method_._reasons(part)).astype(object)

    def _far(self, part: Part) -> Array:
        return self.gate_._reasons(part) == FAR
