"""Maximum softmax probability: the classifier's own word for it."""

from scipy.special import expit

from theodolite.core.calibrator import Array, Calibrator, Part


class MaxSoftmax(Calibrator):
    """Reads the score as a log-odds and changes nothing (Hendrycks & Gimpel, 1610.02136).

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(400, 2))
    >>> judge = MaxSoftmax().fit(X, X[:, 0] > 0)
    >>> judge.admit([[2.0, 0.0], [0.01, 0.0]]).tolist(), judge.reasons([[0.01, 0.0]])[0]
    ([True, False], 'near the boundary')
    """

    def _calibrate(self, support: Part, calibrate: Part) -> None:
        """Nothing to learn."""

    def _probability(self, part: Part) -> Array:
        return expit(part.score_n)
