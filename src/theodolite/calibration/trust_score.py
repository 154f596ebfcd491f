"""Trust score: how much nearer the predicted class lies than the other."""

from typing import Any

import numpy as np

from theodolite.calibration._geometric import Geometric
from theodolite.calibration._neighbours import Array, Neighbours, neighbours
from theodolite.core.calibrator import DISAGREE

_LEAST = 1e-12


class TrustScore(Geometric):
    """Distance to the nearest support row of another class over that to one of the predicted class (1805.11783).

    The share `trim` of each class with the largest distance to its own k-th neighbour is left out first.
    """

    outside = DISAGREE

    def __init__(
        self,
        estimator: Any = None,
        alpha: float = 0.9,
        calibrate: float = 0.5,
        seed: int = 0,
        space: Any = None,
        k: int = 10,
        trim: float = 0.0,
    ) -> None:
        super().__init__(estimator, alpha, calibrate, seed, space)
        self.k = k
        self.trim = trim

    def _place(self, placed_md: Array, target_m: Array) -> None:
        self.classes_support_ = [self._dense(placed_md[target_m == c]) for c in (0, 1)]

    def _dense(self, rows_md: Array) -> Neighbours:
        support = neighbours(rows_md)
        if self.trim <= 0 or len(rows_md) < 2:
            return support
        reach_m = support.nearest(rows_md, self.k, itself=True)[0][:, -1]
        return neighbours(rows_md[reach_m <= np.quantile(reach_m, 1 - self.trim)])

    def _nearness(self, placed_nd: Array, predicted_n: Array) -> Array:
        near_nc = np.column_stack([c.nearest(placed_nd, 1)[0][:, 0] ** 0.5 for c in self.classes_support_])
        n = np.arange(len(predicted_n))
        return near_nc[n, 1 - predicted_n] / np.maximum(near_nc[n, predicted_n], _LEAST)
