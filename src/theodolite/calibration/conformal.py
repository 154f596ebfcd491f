"""Conformal prediction: sets of labels that hold the true one with a given probability."""

from typing import Any

import numpy as np

from theodolite.calibration.temperature import Temperature
from theodolite.core.calibrator import BOUNDARY, Array, ScoredSet
from theodolite.core.errors import unknown

WITHIN = ("all", "class", "prediction")


class Conformal(Temperature):
    """Accepts a prediction that is the only label in the set {c: p_c > 1 - alpha}.

    p_c is the rank, among calibration rows, of the probability of the label other than c. The set
    holds the true label with probability at least alpha, within: "all" rows (split conformal), the rows of each
    "class" (class-conditional), or those with each "prediction" (Mondrian; Vovk et al. 2005). This does
    not hold for the rows whose set is one label alone. Confidence is 1 minus the second largest p.
    """

    def __init__(
        self, estimator: Any = None, alpha: float = 0.9, calibrate: float = 0.5, seed: int = 0, within: str = "class"
    ) -> None:
        super().__init__(estimator, alpha, calibrate, seed)
        self.within = within

    def _calibrate(self, support: ScoredSet, calibrate: ScoredSet) -> None:
        if self.within not in WITHIN:
            raise unknown("taxonomy", self.within, WITHIN)
        super()._calibrate(support, calibrate)
        strange_n = nonconformity(self._probability(calibrate))[np.arange(len(calibrate.target_n)), calibrate.target_n]
        kind_n = {"class": calibrate.target_n, "prediction": calibrate.predicted_n}.get(self.within)
        everywhere = np.ones(len(strange_n), dtype=bool)
        self.strange_ = [np.sort(strange_n[everywhere if kind_n is None else kind_n == c]) for c in (0, 1)]

    def p_values(self, X: Any) -> Array:
        """Return the p-values of both labels, (n, 2)."""
        return self._p_values(self._part(X))

    def sets(self, X: Any) -> Array:
        """Return which labels each row's set holds, (n, 2) bool."""
        return self.p_values(X) > 1 - self.alpha

    def _p_values(self, part: ScoredSet) -> Array:
        strange_nc = nonconformity(self._probability(part))
        kind_nc = np.broadcast_to([0, 1], strange_nc.shape)
        if self.within == "prediction":
            kind_nc = np.repeat(part.predicted_n[:, None], 2, axis=1)
        p_nc = np.empty(strange_nc.shape)
        for kind, sorted_s in enumerate(self.strange_):
            as_strange = len(sorted_s) - np.searchsorted(sorted_s, strange_nc, side="left")
            p_nc = np.where(kind_nc == kind, (1 + as_strange) / (1 + len(sorted_s)), p_nc)
        return p_nc

    def _confidence(self, part: ScoredSet) -> Array:
        return 1 - self._p_values(part).min(1)

    def _reasons(self, part: ScoredSet) -> Array:
        return reasons(self._p_values(part) > 1 - self.alpha, part.predicted_n)


def nonconformity(positive_n: Array) -> Array:
    """Return the nonconformity score 1 - P_c of both labels, (n, 2)."""
    return np.column_stack([positive_n, 1 - positive_n])


def reasons(in_set_nc: Array, predicted_n: Array) -> Array:
    """Return "" where the set is the predicted label alone; "near the boundary" where it holds both labels or none."""
    alone_n = (in_set_nc.sum(1) == 1) & in_set_nc[np.arange(len(in_set_nc)), predicted_n]
    return np.where(alone_n, "", BOUNDARY).astype(object)
