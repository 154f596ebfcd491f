"""The contract of every estimator of uncertainty: calibrated probabilities, confidence, and selective prediction."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.special import logit
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.utils.validation import check_is_fitted

from theodolite.core.errors import UserError, unknown
from theodolite.core.reader import Reader

Array = np.ndarray
TWENTIETHS = 20
FEWEST = 30  # calibration rows of a class: with fewer nothing is accepted
SUPPORT, CALIBRATE, CERTIFY = "support", "calibrate", "certify"  # what rows are for
# reasons why a prediction is rejected
TOO_FEW, FAR, DISAGREE, BOUNDARY = (
    "too few calibration rows",
    "far from the data",
    "neighbours disagree",
    "near the boundary",
)
RARE = "class too rare"
_SURE = 1 - 1e-9  # a probability of 1 has no log-odds


class TooFewRows(UserWarning):
    """Warns that a class has too few calibration rows, so that nothing is accepted."""


class CalibrationRows(UserWarning):
    """Warns that rows were not added to a support because its thresholds are chosen on them."""


@dataclass(frozen=True)
class ScoredSet:
    """Rows (n, d) with the classifier's scores of them: its log-odds, or whatever its `decision_function` gives.

    Labels, groups and ids are -1 where they are unknown. The suffix _n marks arrays of one entry per row.
    """

    rows: Array
    score_n: Array
    target_n: Array
    group_n: Array
    id_n: Array

    @property
    def predicted_n(self) -> Array:
        return (self.score_n > 0).astype(int)

    @property
    def correct_n(self) -> Array:
        return self.predicted_n == self.target_n


@dataclass(frozen=True)
class Predictions:
    """Predictions of labelled rows: confidence, predicted label and true label (both 0 or 1), each (n,)."""

    confidence_n: Array
    predicted_n: Array
    target_n: Array


class Calibrator(Reader):
    """A two-class classifier that wraps another one and accepts or rejects each of its predictions.

    estimator: an unfitted classifier, fitted on the support part; `FrozenEstimator(fitted)`, used as it is; None:
    logistic regression. alpha: the accuracy wanted of the accepted predictions, above 1/2. calibrate: the share of the
    rows that calibration gets where `fit` is given no `part`. seed: the seed of that split.

    A method is one subclass in one file: `_calibrate(support, calibrate)` learns; `_probability(part)` returns
    the calibrated probability of class 1; `_confidence(part)` is higher where a prediction is safer; `_reasons(part)`
    returns "" for accepted predictions. The last two have a default that uses the probability.
    """

    log_odds = True
    order_free = False

    def __init__(self, estimator: Any = None, alpha: float = 0.9, calibrate: float = 0.5, seed: int = 0) -> None:
        self.estimator = estimator
        self.alpha = alpha
        self.calibrate = calibrate
        self.seed = seed

    def fit(self, X: Any, y: Any, part: Any = None, groups: Any = None, ids: Any = None) -> Self:
        """Fits the classifier on one part of the rows and calibrates on another.

        part: "support" or "calibrate" for each row, where the caller has split them. Otherwise the split is
        stratified, and rows of one group (or equal rows, without `groups`) stay together. ids: names of the rows as
        exemplars (default: their positions). Raises UserError for a row, or an id, that is in both parts.
        """
        rows, target_n = self._checked(X, y)
        check_usable(rows, self.alpha)
        if part is None:
            part_n = self._parts(rows, target_n, groups)
        else:
            part_n = checked_parts(part, target_n, (SUPPORT, CALIBRATE))
        id_n = check_disjoint(rows, part_n, ids)
        at = {name: np.flatnonzero(part_n == name) for name in (SUPPORT, CALIBRATE)}
        self.estimator_ = _fitted(self.estimator, rows[at[SUPPORT]], target_n[at[SUPPORT]])
        group_n = np.arange(len(target_n)) if groups is None else np.asarray(groups)
        support, calibrate = (
            ScoredSet(rows[i], scores(self.estimator_, rows[i]), target_n[i].astype(int), group_n[i], id_n[i])
            for i in at.values()
        )
        fewest = int(np.bincount(calibrate.target_n, minlength=2).min())
        self.too_few_ = fewest < FEWEST
        if self.too_few_:
            message = f"{fewest} calibration rows of a class, {FEWEST} are needed: nothing is accepted"
            warnings.warn(message, TooFewRows, stacklevel=2)
        self._calibrate(support, calibrate)
        return self

    def confidence(self, X: Any) -> Array:
        """Return one number per row (n,), higher where the prediction is safer; the scale depends on the method."""
        return self._confidence(self._part(X))

    def accept(self, X: Any) -> Array:
        """Return whether each prediction is accepted at level `alpha`, (n,) bool."""
        return self.reasons(X) == ""

    def reasons(self, X: Any) -> Array:
        """Return why each prediction is rejected, (n,) str; "" where it is accepted."""
        part = self._part(X)
        return np.full(len(part.score_n), TOO_FEW, dtype=object) if self.too_few_ else self._reasons(part)

    def predictions(self, X: Any, y: Any) -> Predictions:
        """Return the predictions of labelled rows (labels 0 and 1); the same predictions as `predict`."""
        part = self._part(X)
        predicted_n = (self._probability(part) > 0.5).astype(int)
        return Predictions(self._confidence(part), predicted_n, np.asarray(y).astype(int))

    def _scores(self, rows: Any) -> Array:
        return logit(np.clip(self._probability(self._unlabelled(rows)), 1 - _SURE, _SURE))

    def _calibrate(self, support: ScoredSet, calibrate: ScoredSet) -> None:
        raise TypeError(f"{type(self).__name__} must define _calibrate(support, calibrate)")

    def _probability(self, part: ScoredSet) -> Array:
        raise TypeError(f"{type(self).__name__} must define _probability(part)")

    def _confidence(self, part: ScoredSet) -> Array:
        positive_n = self._probability(part)
        return np.maximum(positive_n, 1 - positive_n)

    def _reasons(self, part: ScoredSet) -> Array:
        positive_n = self._probability(part)
        return np.where(np.maximum(positive_n, 1 - positive_n) >= self.alpha, "", BOUNDARY).astype(object)

    def _part(self, X: Any) -> ScoredSet:
        check_is_fitted(self)
        return self._unlabelled(self._rows(X, reset=False))

    def _parts(self, rows: Array, target_n: Array, groups: Any) -> Array:
        groups = equal_rows(rows) if groups is None else groups
        return np.array([SUPPORT, CALIBRATE], dtype=object)[split(target_n, self.calibrate, self.seed, groups)]

    def _unlabelled(self, rows: Any) -> ScoredSet:
        unknown_n = np.full(rows.shape[0], -1)
        return ScoredSet(rows, scores(self.estimator_, rows), unknown_n, unknown_n, unknown_n)


def check_usable(rows: Any, alpha: float) -> None:
    """Raises UserError for an alpha outside (1/2, 1), and for rows that are all equal."""
    if not 0.5 < alpha < 1:
        raise UserError(f"alpha={alpha}: give an accuracy above 0.5 and below 1 (not an error rate)")
    if (rows == rows[:1]).all():
        raise UserError(f"all {len(rows)} rows are the same: no classifier can separate them")


def check_disjoint(rows: Array, part_n: Array, ids: Any = None) -> Array:
    """Return the ids of the rows, (n,).

    Raises UserError for a row or an id in two parts: a threshold would be chosen on a row that it is applied to.
    """
    id_n = np.arange(len(rows)) if ids is None else np.asarray(ids, dtype=object)
    if len(id_n) != len(rows):
        raise UserError(f"{len(id_n)} ids for {len(rows)} rows: give one id per row")
    for what, code_n in (("id", np.unique(id_n.astype(str), return_inverse=True)[1]), ("values", content(rows))):
        order = np.argsort(code_n, kind="stable")
        same = (code_n[order][1:] == code_n[order][:-1]) & (part_n[order][1:] != part_n[order][:-1])
        if same.any():
            one, other = order[np.flatnonzero(same)[0] :][:2]
            raise UserError(
                f"rows {one} and {other} have the same {what}, and one is in the part {part_n[one]!r}, the other in "
                f"{part_n[other]!r}: a row may be in one part only"
            )
    return id_n


def equal_rows(rows: Array) -> Array | None:
    """Return a group number for each row, equal for equal rows; None if no two rows are equal."""
    code_n = content(rows)
    return code_n if code_n.max() + 1 < len(code_n) else None


def content(rows: Array) -> Array:
    """Return a number for each row, equal for rows of the same bytes, (n,)."""
    whole = np.ascontiguousarray(rows)
    return np.unique(whole.view(f"V{whole.dtype.itemsize * whole.shape[1]}").ravel(), return_inverse=True)[1]


def split(target_n: Array, share: float, seed: int, groups: Any = None) -> Array:
    """Return 1 for this share of the rows (rounded to a twentieth) and 0 for the others, (n,).

    The split is stratified by class, keeps groups whole, and leaves no side empty.
    """
    n_folds = min(TWENTIETHS, int(np.bincount(target_n.astype(int)).min()))
    if n_folds < 2:  # a class has one row
        return np.arange(len(target_n)) % 2
    wanted = min(max(round(share * n_folds), 1), n_folds - 1)
    taken = np.concatenate([fold for _, fold in list(folds(n_folds, target_n, groups, seed))[:wanted]])
    return np.isin(np.arange(len(target_n)), taken).astype(int)


def folds(n: int, target_n: Array, groups: Any, seed: int) -> Iterator[tuple[Array, Array]]:
    """Return stratified folds as pairs (other rows, rows of the fold).

    Groups stay whole where any has more than one row; otherwise the plain splitter is used, which is much faster.
    """
    if groups is None or len(np.unique(groups)) == len(target_n):
        return StratifiedKFold(n, shuffle=True, random_state=seed).split(target_n, target_n)
    return StratifiedGroupKFold(n, shuffle=True, random_state=seed).split(target_n, target_n, groups)


def scores(classifier: Any, rows: Any) -> Array:
    """Return a classifier's decision function, or the log-odds of its probabilities, (n,) float64."""
    if hasattr(classifier, "decision_function"):
        return np.asarray(classifier.decision_function(rows), dtype=np.float64)
    return logit(np.clip(classifier.predict_proba(rows)[:, 1], 1 - _SURE, _SURE))


def _fitted(estimator: Any, rows: Any, target_n: Array) -> Any:
    if isinstance(estimator, FrozenEstimator):
        return estimator
    if len(np.unique(target_n)) < 2:
        raise UserError("the support part holds rows of 1 class: give it rows of both")
    return clone(default(estimator)).fit(rows, target_n)


def default(estimator: Any) -> BaseEstimator:
    """Return the given classifier, or logistic regression for None."""
    return LogisticRegression(max_iter=1000) if estimator is None else estimator


def checked_parts(part: Any, target_n: Array, parts: Sequence[str]) -> Array:
    """Return the caller's part of each row, (n,).

    Raises UserError for a word that is not in `parts`, and for a part without rows of both classes.
    """
    part_n = np.asarray(part, dtype=object)
    if part_n.shape != target_n.shape:
        raise UserError(f"part has shape {part_n.shape}, there are {len(target_n)} rows: give one word per row")
    for word in dict.fromkeys(part_n):
        if word not in parts:
            raise unknown("part", str(word), parts)
    for name in parts:
        classes = np.unique(target_n[part_n == name])
        if len(classes) < 2:
            raise UserError(f"part {name!r} holds rows of {len(classes)} class(es): give it rows of both")
    return part_n
