"""The judges that `compare --admit` puts side by side: what each is called, and how it looks at a row.

A row is what a reader and a map say of a text: the reader's log-odds, then the coordinates in which similar rows are
sought, then those in which distance is measured. So nothing here knows a model, or fits a reader again.
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
from theodolite.calibration.gated import Gated
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


class Given(ClassifierMixin, BaseEstimator):
    """The classifier whose log-odds are a row's first column."""

    classes_ = np.array([0, 1])

    def decision_function(self, X: Array) -> Array:
        """The first column, (n,)."""
        return np.asarray(X)[:, 0]


class Columns(TransformerMixin, BaseEstimator):
    """The columns from `start` up to `stop`."""

    def __init__(self, start: int = 1, stop: int | None = None) -> None:
        self.start = start
        self.stop = stop

    def fit(self, X: Array, y: Any = None) -> "Columns":
        """Nothing to learn."""
        return self

    def transform(self, X: Array) -> Array:
        """(n, stop - start)."""
        return np.asarray(X)[:, self.start : self.stop]


@dataclass(frozen=True)
class Look:
    """How a judge looks at a row: the classifier, and the spaces of similarity and of distance."""

    near: Columns
    far: Columns | None

    @classmethod
    def of(cls, n_near: int, has_far: bool) -> "Look":
        """For log-odds, then so many columns of similarity; what follows is for distance, else the same ones serve."""
        return cls(Columns(1, 1 + n_near), Columns(1 + n_near, None) if has_far else None)

    @property
    def outer(self) -> Columns:
        """The space of distance."""
        return self.far or self.near


Make = Callable[[Look, float], Calibrator]
_GIVEN = FrozenEstimator(Given())

# Confidences that a certificate can be put on. The first does not look at where a row lies; the others need a map.
PLAIN = "max_softmax"
CONFIDENCES: dict[str, Make] = {
    PLAIN: lambda look, alpha: MaxSoftmax(_GIVEN, alpha),
    "sdm": lambda look, alpha: Sdm(_GIVEN, alpha, space=look.near, far_space=look.far),
    "knn_agreement": lambda look, alpha: KnnAgreement(_GIVEN, alpha, space=look.near),
    "gated(max_softmax)": lambda look, alpha: Gated(_GIVEN, alpha, gate=KnnDistance(space=look.outer)),
    "gated(knn_agreement)": lambda look, alpha: Gated(
        _GIVEN, alpha, method=KnnAgreement(space=look.near), gate=KnnDistance(space=look.outer)
    ),
}
# Of these, the ones that are chosen among: a confidence that is blind to where a row lies promises more where nothing
# is far away, and would be taken every time.
GATED = ("sdm", "gated(max_softmax)", "gated(knn_agreement)")
# Judges that look at the log-odds alone, and those that look at a map; a certificate of each confidence comes on top.
WITHOUT_MAP: dict[str, Make] = {
    PLAIN: CONFIDENCES[PLAIN],
    "temperature": lambda look, alpha: Temperature(_GIVEN, alpha),
    "isotonic": lambda look, alpha: Isotonic(_GIVEN, alpha),
    "beta": lambda look, alpha: Beta(_GIVEN, alpha),
    "venn_abers": lambda look, alpha: VennAbers(_GIVEN, alpha),
    "conformal(all)": lambda look, alpha: Conformal(_GIVEN, alpha, within="all"),
    "conformal(class)": lambda look, alpha: Conformal(_GIVEN, alpha, within="class"),
    "conformal(prediction)": lambda look, alpha: Conformal(_GIVEN, alpha, within="prediction"),
}
WITH_MAP: dict[str, Make] = {
    "sdm": CONFIDENCES["sdm"],
    "knn_agreement": CONFIDENCES["knn_agreement"],
    "knn_distance": lambda look, alpha: KnnDistance(_GIVEN, alpha, space=look.outer),
    "trust_score": lambda look, alpha: TrustScore(_GIVEN, alpha, space=look.near),
    "mahalanobis": lambda look, alpha: Mahalanobis(_GIVEN, alpha, space=look.outer),
    "mahalanobis(relative)": lambda look, alpha: Mahalanobis(_GIVEN, alpha, space=look.outer, relative=True),
}


def certified(confidence: str, look: Look, alpha: float, delta: float) -> Certified:
    """The certificate of one of `CONFIDENCES`."""
    return Certified(CONFIDENCES[confidence](look, alpha), alpha, delta)


def sgr(look: Look, alpha: float, delta: float) -> Sgr:
    """Selection with guaranteed risk on the maximum softmax."""
    return Sgr(CONFIDENCES[PLAIN](look, alpha), alpha, delta)


def conditional_conformal(look: Look, alpha: float, seed: int) -> ConditionalConformal:
    """Conformal prediction within clusters of the rows in the space of distance."""
    return ConditionalConformal(_GIVEN, alpha, seed=seed, space=look.outer)
