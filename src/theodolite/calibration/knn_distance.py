"""Distance to the k-th nearest support row."""

from typing import Any

from theodolite.calibration._geometric import Geometric
from theodolite.calibration._neighbours import Array, neighbours


class KnnDistance(Geometric):
    """A gate on the distance to the k-th nearest support row (as Sun et al., 2204.06507, without scaling rows)."""

    def __init__(
        self,
        estimator: Any = None,
        alpha: float = 0.9,
        calibrate: float = 0.5,
        seed: int = 0,
        space: Any = None,
        k: int = 10,
    ) -> None:
        super().__init__(estimator, alpha, calibrate, seed, space)
        self.k = k

    def _place(self, placed_md: Array, target_m: Array) -> None:
        self.support_ = neighbours(placed_md)

    def _nearness(self, placed_nd: Array, predicted_n: Array) -> Array:
        distance_nk, _ = self.support_.nearest(placed_nd, self.k)
        return -(distance_nk[:, -1] ** 0.5)
