"""Mahalanobis distance to the nearest class mean."""

from typing import Any

import numpy as np
from sklearn.covariance import ledoit_wolf

from theodolite.calibration._geometric import Geometric
from theodolite.calibration._neighbours import Array


class Mahalanobis(Geometric):
    """A gate on -min_c (h - mu_c)' S^-1 (h - mu_c), S pooled within classes and shrunk (Lee et al., 1807.03888).

    relative: subtracts the distance by one mean and covariance of all rows (Ren et al., 2106.09022), so that what is
    unusual for every class does not count. The covariance is Ledoit and Wolf's: with a ridge that depends on the rows'
    scale, or none, others' implementations guessed at random where there were more columns than rows.
    """

    def __init__(
        self,
        estimator: Any = None,
        alpha: float = 0.9,
        calibrate: float = 0.5,
        seed: int = 0,
        space: Any = None,
        relative: bool = False,
    ) -> None:
        super().__init__(estimator, alpha, calibrate, seed, space)
        self.relative = relative

    def _place(self, placed_md: Array, target_m: Array) -> None:
        self.means_ = np.stack([placed_md[target_m == c].mean(0) for c in (0, 1)])
        self.precision_ = _precision(placed_md - self.means_[target_m])
        self.mean_ = placed_md.mean(0)
        self.precision_of_all_ = _precision(placed_md - self.mean_)

    def _nearness(self, placed_nd: Array, predicted_n: Array) -> Array:
        far_n = np.min([_squared(placed_nd - mean, self.precision_) for mean in self.means_], axis=0)
        return -far_n + (_squared(placed_nd - self.mean_, self.precision_of_all_) if self.relative else 0.0)


def _precision(centred_md: Array) -> Array:
    covariance, _ = ledoit_wolf(centred_md, assume_centered=True)
    return np.linalg.pinv(covariance, hermitian=True)


def _squared(difference_nd: Array, precision_dd: Array) -> Array:
    return np.einsum("nd,nd->n", difference_nd @ precision_dd, difference_nd)
