"""A linear classifier of scikit-learn, as it is."""

from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import (
    LogisticRegression,
    LogisticRegressionCV,
    Perceptron,
    RidgeClassifier,
    RidgeClassifierCV,
    SGDClassifier,
)
from sklearn.svm import LinearSVC
from sklearn.utils import get_tags

from theodolite.core.errors import UserError, unknown
from theodolite.core.reader import LinearReader

# A closed list: an artefact names one of them, and never anything that would have to be imported by its name. All are
# linear, so that what they fit is a vector and a number, which is all that an artefact keeps of them.
CLASSIFIERS: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (
        LinearDiscriminantAnalysis,
        LinearSVC,
        LogisticRegression,
        LogisticRegressionCV,
        Perceptron,
        RidgeClassifier,
        RidgeClassifierCV,
        SGDClassifier,
    )
}


class Scikit(LinearReader):
    """A linear classifier of scikit-learn, by the name of its class, with `options` for its constructor.

    Rows come as they are, in float64: columns are not standardised, and nothing is tuned but what the class tunes.

    >>> reader = Scikit("RidgeClassifier", options={"alpha": 1e-9}).fit([[0.0], [2.0], [4.0], [6.0]], [0, 0, 1, 1])
    >>> reader.coef_.round(6), round(reader.intercept_, 6)
    (array([0.4]), -1.2)
    """

    accepts_sparse = True

    def __init__(
        self, estimator: str = "LogisticRegression", options: dict[str, Any] | None = None, seed: int = 0
    ) -> None:
        self.estimator = estimator
        self.options = options
        self.seed = seed

    def _fit(self, rows: Any, target_n: np.ndarray) -> None:
        if self.estimator not in CLASSIFIERS:
            raise unknown("linear classifier of scikit-learn", self.estimator, CLASSIFIERS)
        classifier = _made(CLASSIFIERS[self.estimator], dict(self.options or {}), self.seed)
        rows = rows.astype(np.float64)
        if issparse(rows) and not get_tags(classifier).input_tags.sparse:
            rows = rows.toarray()
        try:
            classifier.fit(rows, target_n)
        except ValueError as error:
            raise UserError(f"{self.estimator}: {error}") from None
        self.coef_ = np.asarray(classifier.coef_, dtype=np.float64).ravel().copy()
        self.intercept_ = float(np.ravel(classifier.intercept_)[0])


def _made(cls: type[Any], options: dict[str, Any], seed: int) -> BaseEstimator:
    known = cls().get_params()
    for name in options:
        if name not in known:
            raise unknown(f"parameter of {cls.__name__}", name, known)
    seeded = {"random_state": seed} if "random_state" in known else {}
    return cls(**(seeded | options))
