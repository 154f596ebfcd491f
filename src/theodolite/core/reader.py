"""The contract of everything that is fitted on rows: a probe, a reading direction, a detector, a text baseline."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils import Tags, assert_all_finite
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from theodolite.core.errors import UserError

#: What a reader can be given for the same texts: arrays (n, d), except `text` (n strings).
VIEWS = (
    "state",  # activations at the site, pooled: float32 (n, d_model)
    "latents",  # the dictionary's latents, encoded per token, then pooled: csr (n, width)
    "state+latents",  # both, side by side: csr (n, d_model + width)
    "reconstruction",  # what the dictionary keeps of the state
    "error",  # what it loses: state - reconstruction
    "control",  # latents of the frozen-encoder control: its encoder was drawn at random and never trained
    "embedding",  # mean of the model's own token embeddings
    "sentence",  # a sentence embedder's vector
    "answer",  # the model's own yes/no log-odds: columns zero_shot, few_shot
    "text",
)


class Reader(ClassifierMixin, BaseEstimator):
    """A scikit-learn classifier for two classes that declares which view of a text it reads.

    A method is one subclass in one file: `__init__` only stores its parameters, `_fit(rows, target_n)` learns from
    checked rows and 0/1 targets into names that end in `_`, `_scores(rows)` returns one float per row, higher for
    the positive class (the larger label) and 0 at its own decision threshold. What is fitted must be arrays, numbers,
    strings or lists of them: that is all an artefact may hold. `theodolite check file.py:Class` runs the laws.
    """

    view: ClassVar[str] = "state"
    accepts_sparse: ClassVar[bool] = False
    learns: ClassVar[bool] = True  # False: a baseline that finds nothing (random, shuffled, majority) or fits nothing
    log_odds: ClassVar[bool] = False  # the score is a log-odds trained as such, so it has native probabilities
    order_free: ClassVar[bool] = True  # the order of the training rows does not matter
    scale_free: ClassVar[bool] = False  # rescaling columns does not matter
    classes_: np.ndarray
    n_features_in_: int

    @classmethod
    def grid(cls, **fixed: Any) -> list[dict[str, Any]]:
        """At most 12 configurations to cross-validate, the simplest first, given the parameters in `fixed`."""
        return [{}]

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from rows and their two-valued labels."""
        rows, target_n = self._checked(X, y)
        self._fit(rows, target_n)
        return self

    def fit_path(self, X: Any, y: Any, grid: Sequence[dict[str, Any]]) -> list[Self]:
        """One fitted copy per configuration; readers that can share work between configurations override it."""
        return [clone(self).set_params(**params).fit(X, y) for params in grid]

    def decision_function(self, X: Any) -> np.ndarray:
        """One score per row, float64, higher for the positive class."""
        check_is_fitted(self)
        return np.asarray(self._scores(self._rows(X, reset=False)), dtype=np.float64)

    def predict(self, X: Any) -> np.ndarray:
        """The label on whose side of 0 the score lies."""
        score_n = self.decision_function(X)
        return self.classes_[(score_n > 0).astype(int)]

    @available_if(lambda self: self.log_odds)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the negative and the positive class, shape (n, 2)."""
        score_n = self.decision_function(X)
        return np.column_stack([expit(-score_n), expit(score_n)])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.classifier_tags.poor_score = not self.learns
        tags.input_tags.sparse = self.accepts_sparse
        tags.input_tags.string = self.view == "text"
        tags.input_tags.two_d_array = self.view != "text"
        return tags

    def _fit(self, rows: Any, target_n: np.ndarray) -> None:
        raise TypeError(f"{type(self).__name__} must define _fit(rows, target_n)")

    def _scores(self, rows: Any) -> np.ndarray:
        raise TypeError(f"{type(self).__name__} must define _scores(rows)")

    def _checked(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        """Rows and 0/1 targets after every check on both; sets `classes_` and `n_features_in_`."""
        if y is None:
            raise UserError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        rows = self._rows(X, reset=True)
        label_n = column_or_1d(y, warn=True)
        assert_all_finite(label_n, input_name="y")
        check_classification_targets(label_n)
        if type_of_target(label_n) == "multiclass":
            raise UserError("Only binary classification is supported. The type of the target is multiclass.")
        self.classes_, target_n = np.unique(label_n, return_inverse=True)
        if len(label_n) != rows.shape[0]:
            raise UserError(f"{type(self).__name__} got {rows.shape[0]} rows and {len(label_n)} labels")
        if len(self.classes_) < 2:
            raise UserError(f"{type(self).__name__} needs rows of two classes, got 1 class: {self.classes_[0]!r}")
        return rows, target_n.astype(np.float64)

    def _rows(self, X: Any, *, reset: bool) -> Any:
        if self.view == "text":
            return _texts(X)
        try:
            return validate_data(self, X, reset=reset, accept_sparse="csr" if self.accepts_sparse else False)
        except ValueError as error:
            raise UserError(f"{type(self).__name__}: {error}") from None


class LinearReader(Reader):
    """A reader whose score is `X @ coef_ + intercept_`, in the units of the view."""

    coef_: np.ndarray
    intercept_: float

    @property
    def direction_(self) -> np.ndarray:
        """The unit vector along which the score rises fastest; zero if the score is constant."""
        return self.coef_ / (np.linalg.norm(self.coef_) or 1.0)

    def _scores(self, rows: Any) -> np.ndarray:
        return rows @ self.coef_ + self.intercept_


def class_means(rows: Any, target_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the negative and of the positive rows, dense float64 also for sparse rows.

    >>> class_means(np.array([[0.0, 2.0], [4.0, 0.0], [0.0, 4.0]]), np.array([0, 1, 0]))
    (array([0., 3.]), array([4., 0.]))
    """
    # a product with float64 shares: the mean of sparse float32 rows is summed in float32, whatever dtype is asked for
    negative_d, positive_d = ((target_n == t) / (target_n == t).sum() @ rows for t in (0, 1))
    return negative_d, positive_d


def _texts(X: Any) -> np.ndarray:
    """Texts as a one-dimensional object array; anything that is not a string is refused by its place."""
    text_n = np.empty(len(X), dtype=object)
    text_n[:] = list(X)
    wrong = next((i for i, text in enumerate(text_n) if not isinstance(text, str)), None)
    if wrong is not None:
        raise UserError(f"row {wrong} is {type(text_n[wrong]).__name__}, not a text")
    if not len(text_n):
        raise UserError("no texts: found 0 rows, a minimum of 1 is required")
    return text_n
