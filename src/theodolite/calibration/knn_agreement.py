"""Share of the nearest support rows that carry the predicted label."""

from typing import Any

import numpy as np

from theodolite.calibration._geometric import Geometric
from theodolite.calibration._neighbours import Array, neighbours
from theodolite.core.calibrator import DISAGREE, Part


class KnnAgreement(Geometric):
    """Confidence is the share of the k nearest support rows labelled as predicted; it is relied on from alpha up.

    The plainest rival of SDM's similarity: it counts neighbours where that one counts how long they agree.
    """

    outside = DISAGREE

    def __init__(
        self, estimator: Any = None, alpha: float = 0.9, calibrate: float = 0.5, seed: int = 0, space: Any = None,
        k: int = 50,
    ) -> None:  # fmt: skip
        super().__init__(estimator, alpha, calibrate, seed, space)
        self.k = k

    def _place(self, placed_md: Array, target_m: Array) -> None:
        self.support_, self.labels_ = neighbours(placed_md), target_m

    def _nearness(self, placed_nd: Array, predicted_n: Array) -> Array:
        _, near_nk = self.support_.nearest(placed_nd, self.k)
        return (self.labels_[near_nk] == predicted_n[:, None]).mean(1)

    def _reasons(self, part: Part) -> Array:
        return np.where(self._confidence(part) >= self.alpha, "", DISAGREE).astype(object)
