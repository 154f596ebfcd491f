"""What methods share that choose, on rows of their own, from which confidence another method is relied on."""

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
    Judged,
    Part,
    check_apart,
    check_usable,
    equal_rows,
    split,
    told,
)
from theodolite.core.errors import UserError

BELOW, NOWHERE = "below the certified confidence", "no confidence is enough for alpha"
STALE = "the support has changed since"


class Selected(Calibrator):
    """Relies on the predictions of `method` from a confidence on that the certify part chose; it is used for that only.

    method: a calibrator, unfitted, that promises nothing itself; its own split is made in what is left. certify: the
    share of rows kept for the choice where `fit` is not told (`part` then names "support", "calibrate" and "certify");
    one row of each group takes part, drawn by the seed whatever the order of the rows. delta: how often, over certify
    parts, the guarantee may fail. A method defines `_threshold(calibrate, certify)`, infinity where nothing can be
    relied on; what it chooses freely it chooses on the former.
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
        """Fit the method on the other rows, then choose its threshold on these."""
        rows, target_n = self._checked(X, y)
        check_usable(rows, self.alpha)
        for name, value in (("delta", self.delta), ("certify", self.certify)):
            if not 0 < value < 1:
                raise UserError(f"{name}={value}: give a number between 0 and 1")
        method = MaxSoftmax() if self.method is None else clone(judging(self.method))
        if part is None:
            part_n = self._three_parts(method, rows, target_n, groups)
        else:
            part_n = told(part, target_n, (SUPPORT, CALIBRATE, CERTIFY))
        id_n = check_apart(rows, part_n, ids)
        certify = np.flatnonzero(part_n == CERTIFY)
        group_n = equal_rows(rows) if groups is None else np.asarray(groups)
        if group_n is not None:
            certify = certify[one_of_each(rows[certify], target_n[certify], group_n[certify], self.seed)]
        at = {CALIBRATE: np.flatnonzero(part_n == CALIBRATE), CERTIFY: certify}
        others = part_n != CERTIFY
        kept = None if groups is None else np.asarray(groups)[others]
        self.method_ = method.fit(rows[others], target_n[others], part=part_n[others], groups=kept, ids=id_n[others])
        self.estimator_, self.too_few_ = self.method_.estimator_, self.method_.too_few_
        self.threshold_ = self._threshold(*(self.judged(rows[i], target_n[i]) for i in at.values()))
        self.support_version_ = _support_version(self.method_)
        return self

    def _probability(self, part: Part) -> Array:
        return self.method_._probability(part)

    def _confidence(self, part: Part) -> Array:
        return self.method_._confidence(part)

    def _reasons(self, part: Part) -> Array:
        """The method's own reason where it has one."""
        if _support_version(self.method_) != self.support_version_:
            return np.full(len(part.score_n), STALE, dtype=object)
        own_n = self.method_._reasons(part)
        own_n[own_n == ""] = BELOW if np.isfinite(self.threshold_) else NOWHERE
        confidence_n = self._confidence(part)
        own_n[(confidence_n >= self.threshold_) & (confidence_n > -np.inf)] = ""
        return own_n

    def _threshold(self, calibrate: Judged, certify: Judged) -> float:
        raise TypeError(f"{type(self).__name__} must define _threshold(calibrate, certify)")

    def _three_parts(self, method: Calibrator, rows: Array, target_n: Array, groups: Any) -> Array:
        groups = equal_rows(rows) if groups is None else groups
        part_n = np.full(len(target_n), CERTIFY, dtype=object)
        others = split(target_n, self.certify, self.seed, groups) == 0
        kept = None if groups is None else np.asarray(groups)[others]
        second = split(target_n[others], method.get_params()["calibrate"], self.seed, kept)
        part_n[others] = np.where(second, CALIBRATE, SUPPORT)
        return part_n


def judging(method: Any) -> Calibrator:
    """The method, if it is a judge that another can wrap."""
    if not isinstance(method, Calibrator) or isinstance(method, Selected):
        name = type(method).__name__
        raise UserError(f"method is {name}: give a judge that promises nothing itself, such as MaxSoftmax({name}())")
    return method


def _support_version(method: Any) -> str:
    """What the support is now, of a method whose support can grow, or of those inside it."""
    inner = [_support_version(judge) for name in ("method_", "gate_") if (judge := getattr(method, name, None))]
    versions = getattr(method, "versions_", None)
    return " ".join([*inner, str(versions[-1]["sha256"])] if versions else inner)


def one_of_each(rows: Array, target_n: Array, group_n: Array, seed: int) -> Array:
    """Places of one row of each group, each of its rows as likely: rows that tell one story are no independent trials.

    The draw is a hash of the row, its label and the seed, so that it is the same in whatever order the rows come: the
    first row of a group would be of one label in a file that is sorted by it. Equal rows count by their number.

    >>> rows, target = np.array([[1.0], [2.0], [3.0]]), np.array([0, 1, 0])
    >>> one_of_each(rows, target, np.array([7, 7, 9]), seed=0).tolist()
    [0, 2]
    """
    said = [row.tobytes() + bytes([int(y)]) for row, y in zip(np.ascontiguousarray(rows), target_n, strict=True)]
    times: Counter[bytes] = Counter()
    drawn = []
    for row in said:
        times[row] += 1
        drawn.append(hashlib.sha256(row + f"{seed} {times[row]}".encode()).digest())
    order = np.argsort(np.array(drawn, dtype="S32"), kind="stable")
    first = np.unique(np.asarray(group_n)[order], return_index=True)[1]
    return np.sort(order[first])
