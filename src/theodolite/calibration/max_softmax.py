"""Maximum softmax probability: the classifier's own confidence."""

from scipy.special import expit

from theodolite.core.calibrator import Array, Calibrator, ScoredSet


class MaxSoftmax(Calibrator):
    """Reads the score as a log-odds and changes nothing (Hendrycks & Gimpel, 1610.02136).

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(400, 2))
    >>> rule = MaxSoftmax().fit(X, X[:, 0] > 0)
    >>> rule.accept([[2.0, 0.0], [0.01, 0.0]]).tolist(), rule.reasons([[0.01, 0.0]])[0]
    ([True, False], 'near the boundary')
    """

    def _calibrate(self, support: ScoredSet, calibrate: ScoredSet) -> None:
        """Learns nothing."""

    def _probability(self, part: ScoredSet) -> Array:
        return expit(part.score_n)
