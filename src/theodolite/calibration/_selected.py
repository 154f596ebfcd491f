"""What methods share that choose, on rows of their own, from which confidence another method is relied on."""

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
    one row of each group takes part. delta: how often, over certify parts, the guarantee may fail. A method defines
    `_threshold(calibrate, certify)`, infinity where nothing can be relied on; what it chooses freely it chooses on the
    former.
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
        at = {CALIBRATE: np.flatnonzero(part_n == CALIBRATE), CERTIFY: _one_of_each(rows, part_n, groups)}
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


def _one_of_each(rows: Array, part_n: Array, groups: Any) -> Array:
    """The first certify row of each group, or of equal ones: rows that tell one story are no independent trials."""
    (at,) = np.nonzero(part_n == CERTIFY)
    group_n = equal_rows(rows) if groups is None else np.asarray(groups)
    return at if group_n is None else np.sort(at[np.unique(group_n[at], return_index=True)[1]])
