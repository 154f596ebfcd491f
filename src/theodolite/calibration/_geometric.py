"""Base class of calibrators that measure where a row lies relative to the support."""

from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone

from theodolite.calibration.temperature import Temperature
from theodolite.core.calibrator import FAR, Array, ScoredSet

NEARLY_ALL = 0.95  # the share of the calibration rows that lie inside a gate


class Geometric(Temperature):
    """Accepts a prediction whose row is as near as nearly all calibration rows and whose probability reaches alpha.

    space: a transformer, fitted on the support with its labels, in whose space rows are compared (None: as they are).
    Subclasses define `_place(placed, target)`, which gets support rows in that space, and `_nearness(placed,
    predicted)`; `outside` is the reason given for a row beyond the gate.
    """

    outside: ClassVar[str] = FAR

    def __init__(
        self, estimator: Any = None, alpha: float = 0.9, calibrate: float = 0.5, seed: int = 0, space: Any = None
    ) -> None:
        super().__init__(estimator, alpha, calibrate, seed)
        self.space = space

    def _calibrate(self, support: ScoredSet, calibrate: ScoredSet) -> None:
        self.space_ = None if self.space is None else clone(self.space).fit(support.rows, support.target_n)
        self._place(self._mapped(support.rows), support.target_n)
        super()._calibrate(support, calibrate)
        self.gate_ = float(np.quantile(self._confidence(calibrate), 1 - NEARLY_ALL))

    def _mapped(self, rows: Any) -> Array:
        return np.asarray(rows if self.space_ is None else self.space_.transform(rows))

    def _confidence(self, part: ScoredSet) -> Array:
        return self._nearness(self._mapped(part.rows), part.predicted_n)

    def _reasons(self, part: ScoredSet) -> Array:
        reason_n = super()._reasons(part)
        return np.where(self._confidence(part) < self.gate_, self.outside, reason_n).astype(object)

    def _place(self, placed_md: Array, target_m: Array) -> None:
        raise TypeError(f"{type(self).__name__} must define _place(placed, target)")

    def _nearness(self, placed_nd: Array, predicted_n: Array) -> Array:
        raise TypeError(f"{type(self).__name__} must define _nearness(placed, predicted)")
