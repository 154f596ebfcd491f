"""The selection rules that `compare --admit` compares, by name, and the columns of a row that they use.

A row holds a reader's log-odds of a text, then its coordinates for similarity, then those for distance, both in one
feature space. So nothing here knows a model, or fits a reader again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.frozen import FrozenEstimator

from theodolite.calibration.beta import Beta
from theodolite.calibration.certified import Certified
from theodolite.calibration.conditional_conformal import ConditionalConformal
from theodolite.calibration.conformal import Conformal
from theodolite.calibration.gated import GatedConfidence
from theodolite.calibration.isotonic import Isotonic
from theodolite.calibration.knn_agreement import KnnAgreement
from theodolite.calibration.knn_distance import KnnDistance
from theodolite.calibration.mahalanobis import Mahalanobis
from theodolite.calibration.max_softmax import MaxSoftmax
from theodolite.calibration.sdm import Sdm
from theodolite.calibration.sgr import Sgr
from theodolite.calibration.temperature import Temperature
from theodolite.calibration.trust_score import TrustScore
from theodolite.calibration.venn_abers import VennAbers
from theodolite.core.calibrator import Calibrator

Array = np.ndarray


class FirstColumn(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose log-odds are a row's first column."""

    classes_ = np.array([0, 1])

    def decision_function(self, X: Array) -> Array:
        """Return the first column, (n,)."""
        return np.asarray(X)[:, 0]


class ColumnSlice(TransformerMixin, BaseEstimator):
    """A transformer that selects the columns from `start` up to `stop`."""

    def __init__(self, start: int = 1, stop: int | None = None) -> None:
        self.start = start
        self.stop = stop

    def fit(self, X: Array, y: Any = None) -> "ColumnSlice":
        """Return self; there is nothing to learn."""
        return self

    def transform(self, X: Array) -> Array:
        """Return the columns, (n, stop - start)."""
        return np.asarray(X)[:, self.start : self.stop]


@dataclass(frozen=True)
class ColumnSpec:
    """Columns of a row in which a rule measures similarity, and distance (None: the same ones)."""

    similarity: ColumnSlice
    own_distance: ColumnSlice | None

    @classmethod
    def of(cls, n_similarity: int, has_distance: bool) -> "ColumnSpec":
        """Return the spec of rows that hold log-odds, so many columns for similarity, and the rest for distance."""
        rest = ColumnSlice(1 + n_similarity, None) if has_distance else None
        return cls(ColumnSlice(1, 1 + n_similarity), rest)

    @property
    def distance(self) -> ColumnSlice:
        """Columns in which distance is measured."""
        return self.own_distance or self.similarity


RuleFactory = Callable[[ColumnSpec, float], Calibrator]
_LOG_ODDS = FrozenEstimator(FirstColumn())

# Confidences that a certificate can be put on. The first ignores where a row lies; the others need a feature space.
PLAIN = "max_softmax"
CONFIDENCES: dict[str, RuleFactory] = {
    PLAIN: lambda spec, alpha: MaxSoftmax(_LOG_ODDS, alpha),
    "sdm": lambda spec, alpha: Sdm(_LOG_ODDS, alpha, space=spec.similarity, far_space=spec.own_distance),
    "knn_agreement": lambda spec, alpha: KnnAgreement(_LOG_ODDS, alpha, space=spec.similarity),
    "gated(max_softmax)": lambda spec, alpha: GatedConfidence(_LOG_ODDS, alpha, gate=KnnDistance(space=spec.distance)),
    "gated(knn_agreement)": lambda spec, alpha: GatedConfidence(
        _LOG_ODDS, alpha, method=KnnAgreement(space=spec.similarity), gate=KnnDistance(space=spec.distance)
    ),
}
# The confidences to choose among. One that ignores where a row lies accepts more where nothing is far away, and would
# be chosen every time.
GATED = ("sdm", "gated(max_softmax)", "gated(knn_agreement)")
# Rules that use the log-odds alone, and rules that use a feature space; a certificate of each confidence comes on top.
WITHOUT_SPACE: dict[str, RuleFactory] = {
    PLAIN: CONFIDENCES[PLAIN],
    "temperature": lambda spec, alpha: Temperature(_LOG_ODDS, alpha),
    "isotonic": lambda spec, alpha: Isotonic(_LOG_ODDS, alpha),
    "beta": lambda spec, alpha: Beta(_LOG_ODDS, alpha),
    "venn_abers": lambda spec, alpha: VennAbers(_LOG_ODDS, alpha),
    "conformal(all)": lambda spec, alpha: Conformal(_LOG_ODDS, alpha, within="all"),
    "conformal(class)": lambda spec, alpha: Conformal(_LOG_ODDS, alpha, within="class"),
    "conformal(prediction)": lambda spec, alpha: Conformal(_LOG_ODDS, alpha, within="prediction"),
}
WITH_SPACE: dict[str, RuleFactory] = {
    "sdm": CONFIDENCES["sdm"],
    "knn_agreement": CONFIDENCES["knn_agreement"],
    "knn_distance": lambda spec, alpha: KnnDistance(_LOG_ODDS, alpha, space=spec.distance),
    "trust_score": lambda spec, alpha: TrustScore(_LOG_ODDS, alpha, space=spec.similarity),
    "mahalanobis": lambda spec, alpha: Mahalanobis(_LOG_ODDS, alpha, space=spec.distance),
    "mahalanobis(relative)": lambda spec, alpha: Mahalanobis(_LOG_ODDS, alpha, space=spec.distance, relative=True),
}


def certified(confidence: str, spec: ColumnSpec, alpha: float, delta: float) -> Certified:
    """Return the certificate of one of `CONFIDENCES`."""
    return Certified(CONFIDENCES[confidence](spec, alpha), alpha, delta)


def sgr(spec: ColumnSpec, alpha: float, delta: float) -> Sgr:
    """Return selection with guaranteed risk on the maximum softmax."""
    return Sgr(CONFIDENCES[PLAIN](spec, alpha), alpha, delta)


def conditional_conformal(spec: ColumnSpec, alpha: float, seed: int) -> ConditionalConformal:
    """Return conformal prediction within clusters of the rows in the space of distance."""
    return ConditionalConformal(_LOG_ODDS, alpha, seed=seed, space=spec.distance)
