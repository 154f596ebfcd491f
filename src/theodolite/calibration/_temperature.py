"""The temperature that several methods divide a score by before they read it as a log-odds."""

import numpy as np
from scipy.optimize import minimize_scalar

Array = np.ndarray
_WIDEST = np.log(1e6)  # scores of readers lie between .001 and 1,000


def best_temperature(score_n: Array, target_n: Array) -> float:
    """Return the T with the least log loss of the probabilities 1 / (1 + e^(-score / T)) (Guo et al. 2017).

    >>> rng = np.random.default_rng(0)
    >>> score = rng.normal(size=20_000)
    >>> y = rng.random(20_000) < 1 / (1 + np.exp(-score))
    >>> round(best_temperature(3 * score, y), 1)
    3.0
    """
    sign_n = np.where(target_n > 0, 1.0, -1.0)
    loss = lambda ln_t: np.logaddexp(0, -sign_n * score_n * np.exp(-ln_t)).mean()  # noqa: E731
    return float(np.exp(minimize_scalar(loss, bounds=(-_WIDEST, _WIDEST), method="bounded").x))
