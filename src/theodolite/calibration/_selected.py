"""Base class of calibrators that choose the confidence threshold of another calibrator on rows set aside for that."""

import hashlib
from collections import Counter
from typing import Any, Self

import numpy as np
from sklearn.base import clone

from theodolite.calibration.max_softmax import MaxSoftmax
from theodolite.core.calibrator import (
    CALIBRATE,
    CERTIFY,
    SUPPORT,
    Array,
    Calibrator,
    Predictions,
    ScoredSet,
    check_disjoint,
    check_usable,
    checked_parts,
    equal_rows,
    split,
)
from theodolite.core.errors import UserError

BELOW, NOWHERE = "below the certified confidence", "no confidence is enough for alpha"
STALE = "the support has changed since"


class Selected(Calibrator):
    """Accepts predictions of `method` whose confidence reaches a threshold, which is chosen on the certify part alone.

    method: an unfitted calibrator without a guarantee of its own, which splits the remaining rows itself. certify: the
    share of rows used for the choice where `fit` is given no `part` (which then holds "support", "calibrate" and
    "certify"). One row of each group takes part, drawn by the seed independently of the order of the rows. delta: the
    probability, over certify parts, that the guarantee fails. Subclasses define `_threshold(calibrate, certify)`:
    infinity where nothing can be accepted. Choices without a guarantee may use `calibrate` only.
    """

    def __init__(
        self, method: Any = None, alpha: float = 0.9, delta: float = 0.1, certify: float = 0.25, seed: int = 0
    ) -> None:
        self.method = method
        self.alpha = alpha
        self.delta = delta
        self.certify = certify
        self.seed = seed

    def fit(self, X: Any, y: Any, part: Any = None, groups: Any = None, ids: Any = None) -> Self:
        """Fits the method on the other rows, then chooses its threshold on the certify rows."""
        rows, target_n = self._checked(X, y)
        check_usable(rows, self.alpha)
        for name, value in (("delta", self.delta), ("certify", self.certify)):
            if not 0 < value < 1:
                raise UserError(f"{name}={value}: give a number between 0 and 1")
        method = MaxSoftmax() if self.method is None else clone(wrappable(self.method))
        if part is None:
            part_n = self._three_parts(method, rows, target_n, groups)
        else:
            part_n = checked_parts(part, target_n, (SUPPORT, CALIBRATE, CERTIFY))
        id_n = check_disjoint(rows, part_n, ids)
        certify = np.flatnonzero(part_n == CERTIFY)
        group_n = equal_rows(rows) if groups is None else np.asarray(groups)
        if group_n is not None:
            certify = certify[one_of_each(rows[certify], target_n[certify], group_n[certify], self.seed)]
        at = {CALIBRATE: np.flatnonzero(part_n == CALIBRATE), CERTIFY: certify}
        others = part_n != CERTIFY
        their_groups = None if groups is None else np.asarray(groups)[others]
        self.method_ = method.fit(
            rows[others], target_n[others], part=part_n[others], groups=their_groups, ids=id_n[others]
        )
        self.estimator_, self.too_few_ = self.method_.estimator_, self.method_.too_few_
        self.threshold_ = self._threshold(*(self.predictions(rows[i], target_n[i]) for i in at.values()))
        self.support_version_ = _support_version(self.method_)
        return self

    def _probability(self, part: ScoredSet) -> Array:
        return self.method_._probability(part)

    def _confidence(self, part: ScoredSet) -> Array:
        return self.method_._confidence(part)

    def _reasons(self, part: ScoredSet) -> Array:
        """Return the method's own reason where it has one, else whether the threshold is reached."""
        if _support_version(self.method_) != self.support_version_:
            return np.full(len(part.score_n), STALE, dtype=object)
        own_n = self.method_._reasons(part)
        own_n[own_n == ""] = BELOW if np.isfinite(self.threshold_) else NOWHERE
        confidence_n = self._confidence(part)
        own_n[(confidence_n >= self.threshold_) & (confidence_n > -np.inf)] = ""
        return own_n

    def _threshold(self, calibrate: Predictions, certify: Predictions) -> float:
        raise TypeError(f"{type(self).__name__} must define _threshold(calibrate, certify)")

    def _three_parts(self, method: Calibrator, rows: Array, target_n: Array, groups: Any) -> Array:
        groups = equal_rows(rows) if groups is None else groups
        part_n = np.full(len(target_n), CERTIFY, dtype=object)
        others = split(target_n, self.certify, self.seed, groups) == 0
        their_groups = None if groups is None else np.asarray(groups)[others]
        second = split(target_n[others], method.get_params()["calibrate"], self.seed, their_groups)
        part_n[others] = np.where(second, CALIBRATE, SUPPORT)
        return part_n


def wrappable(method: Any) -> Calibrator:
    """Return the method if another calibrator may wrap it; raises UserError otherwise."""
    if not isinstance(method, Calibrator) or isinstance(method, Selected):
        name = type(method).__name__
        raise UserError(
            f"method is {name}: give a calibrator without a guarantee of its own, such as MaxSoftmax({name}())"
        )
    return method


def _support_version(method: Any) -> str:
    """Return hashes of the current support of a method whose support can grow, and of the methods inside it."""
    inner = [_support_version(part) for name in ("method_", "gate_") if (part := getattr(method, name, None))]
    versions = getattr(method, "versions_", None)
    return " ".join([*inner, str(versions[-1]["sha256"])] if versions else inner)


def one_of_each(rows: Array, target_n: Array, group_n: Array, seed: int) -> Array:
    """Return the positions of one row per group, drawn uniformly: rows of one group are no independent trials.

    The draw hashes the row, its label and the seed, so that it does not depend on the order of the rows: the first row
    of a group would always have one label in a file that is sorted by label. Equal rows are numbered.

    >>> rows, target = np.array([[1.0], [2.0], [3.0]]), np.array([0, 1, 0])
    >>> one_of_each(rows, target, np.array([7, 7, 9]), seed=0).tolist()
    [1, 2]
    """
    contents = [row.tobytes() + bytes([int(y)]) for row, y in zip(np.ascontiguousarray(rows), target_n, strict=True)]
    times: Counter[bytes] = Counter()
    drawn = []
    for row in contents:
        times[row] += 1
        drawn.append(hashlib.sha256(row + f"{seed} {times[row]}".encode()).digest())
    order = np.argsort(np.array(drawn, dtype="S32"), kind="stable")
    first = np.unique(np.asarray(group_n)[order], return_index=True)[1]
    return np.sort(order[first])
