"""Share of the nearest support rows that carry the predicted label."""

from typing import Any

import numpy as np

from theodolite.calibration._geometric import Geometric
from theodolite.calibration._neighbours import Array, neighbours
from theodolite.core.calibrator import DISAGREE, ScoredSet


class KnnAgreement(Geometric):
    """Confidence is the share of the k nearest support rows labelled as predicted; accepts from alpha on.

    The simplest alternative to SDM's similarity, which counts how many neighbours agree before the first that does not.
    """

    outside = DISAGREE

    def __init__(
        self,
        estimator: Any = None,
        alpha: float = 0.9,
        calibrate: float = 0.5,
        seed: int = 0,
        space: Any = None,
        k: int = 50,
    ) -> None:
        super().__init__(estimator, alpha, calibrate, seed, space)
        self.k = k

    def _place(self, placed_md: Array, target_m: Array) -> None:
        self.support_, self.labels_ = neighbours(placed_md), target_m

    def _nearness(self, placed_nd: Array, predicted_n: Array) -> Array:
        _, near_nk = self.support_.nearest(placed_nd, self.k)
        return (self.labels_[near_nk] == predicted_n[:, None]).mean(1)

    def _reasons(self, part: ScoredSet) -> Array:
        return np.where(self._confidence(part) >= self.alpha, "", DISAGREE).astype(object)
