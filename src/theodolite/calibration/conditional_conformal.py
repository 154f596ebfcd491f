"""Conformal prediction whose coverage holds within regions of the representation space that may overlap."""

from typing import Any

import numpy as np
from scipy.optimize import linprog
from sklearn.base import clone
from sklearn.cluster import KMeans

from theodolite.calibration._temperature import best_temperature
from theodolite.calibration.conformal import nonconformity, reasons
from theodolite.calibration.temperature import Temperature
from theodolite.core.calibrator import Array, ScoredSet

MOST = 500  # calibration rows: the size of the linear programmes
HALVINGS = 30  # bisection steps in [0, 1], the range of the nonconformity score


class ConditionalConformal(Temperature):
    """Label sets that hold the true label with probability alpha for every weighting of the regions (2305.12616).

    The regions: each predicted label, and each of `n_clusters` k-means clusters of the support in
    `space`. A label is in the set where its nonconformity is at most the alpha-quantile regressed on the regions *with
    the new row among the rows*, which is read off the dual of that regression. Rows of one region share it, so it is
    sought once for each. Not randomised: coverage is at least alpha.
    """

    def __init__(
        self,
        estimator: Any = None,
        alpha: float = 0.9,
        calibrate: float = 0.5,
        seed: int = 0,
        n_clusters: int = 4,
        space: Any = None,
    ) -> None:
        super().__init__(estimator, alpha, calibrate, seed)
        self.n_clusters = n_clusters
        self.space = space

    def _calibrate(self, support: ScoredSet, calibrate: ScoredSet) -> None:
        # fitted on the support: nonconformity must not depend on the calibration rows
        self.temperature_ = best_temperature(support.score_n, support.target_n)
        self.space_ = None if self.space is None else clone(self.space).fit(support.rows, support.target_n)
        placed = self._placed(support)
        n_clusters = min(self.n_clusters, len(np.unique(placed, axis=0)))
        self.clusters_ = KMeans(n_clusters, random_state=self.seed, n_init=3).fit(placed)
        used = np.random.default_rng(self.seed).permutation(len(calibrate.target_n))[:MOST]
        strange_nc = nonconformity(self._probability(calibrate))
        self.strange_ = strange_nc[used, calibrate.target_n[used]]
        n_clusters = self.clusters_.n_clusters
        self.regions_ = _regions(calibrate.predicted_n, self._clusters(calibrate), n_clusters)[used]
        places = [(label, cluster) for label in (0, 1) for cluster in range(n_clusters)]
        label_p, cluster_p = np.array(places).T
        limits = [self._limit(region_r) for region_r in _regions(label_p, cluster_p, n_clusters)]
        self.limits_ = np.array(limits).reshape(2, n_clusters)

    def sets(self, X: Any) -> Array:
        """Return which labels each row's set holds, (n, 2) bool."""
        return self._sets(self._part(X))

    def _sets(self, part: ScoredSet) -> Array:
        return nonconformity(self._probability(part)) <= self.limits_[part.predicted_n, self._clusters(part)][:, None]

    def _limit(self, region_r: Array) -> float:
        """Return the largest nonconformity of a label in the set in this region: the dual grows with it."""
        low, high = 0.0, 1.0
        if self._holds(high, region_r):
            return np.inf
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._holds(middle, region_r) else (low, middle)
        return low

    def _holds(self, strange: float, region_r: Array) -> bool:
        """Return whether a row of this nonconformity is within the quantile: its dual is below alpha."""
        columns = np.vstack([self.regions_, region_r]).T
        weights = np.append(self.strange_, strange)
        found = linprog(
            -weights, A_eq=columns, b_eq=np.zeros(len(columns)), bounds=(self.alpha - 1, self.alpha), method="highs"
        )
        return bool(found.x[-1] < self.alpha - 1e-9)

    def _clusters(self, part: ScoredSet) -> Array:
        return self.clusters_.predict(self._placed(part).astype(self.clusters_.cluster_centers_.dtype))

    def _placed(self, part: ScoredSet) -> Array:
        return np.asarray(part.rows if self.space_ is None else self.space_.transform(part.rows))

    def _reasons(self, part: ScoredSet) -> Array:
        return reasons(self._sets(part), part.predicted_n)


def _regions(predicted_n: Array, cluster_n: Array, n_clusters: int) -> Array:
    """Return one column for each predicted label and each cluster but the first, whose column the others add up to."""
    return np.column_stack([np.eye(2)[predicted_n], np.eye(n_clusters)[cluster_n][:, 1:]])
