"""Selection with guaranteed risk: the lowest confidence threshold that bounds the error among all accepted rows."""

import numpy as np
from scipy.stats import beta

from theodolite.calibration._selected import Selected
from theodolite.core.calibrator import Predictions


class Sgr(Selected):
    """With probability 1 - delta the share of errors among the accepted predictions is at most 1 - alpha (1705.08500).

    A binary search over thresholds; each of its steps uses delta / log2(n) for an exact binomial bound. Classes are
    not bounded separately: all errors may lie in the rarer one.
    """

    def _threshold(self, calibrate: Predictions, certify: Predictions) -> float:
        confidence_n = certify.confidence_n
        order = np.argsort(-confidence_n, kind="stable")
        wrong_n = (certify.predicted_n != certify.target_n)[order].cumsum()
        n_steps = int(np.ceil(np.log2(len(order)))) or 1
        low, high, found = 0, len(order) - 1, np.inf
        for _ in range(n_steps):
            middle = (low + high + 1) // 2
            at = float(confidence_n[order[middle]])
            last = int((confidence_n >= at).sum()) - 1
            if at > -np.inf and upper_bound(int(wrong_n[last]), last + 1, self.delta / n_steps) <= 1 - self.alpha:
                found, low = min(found, at), middle
            else:
                high = max(middle - 1, 0)
        return found


def upper_bound(wrong: int, n: int, delta: float) -> float:
    """Return the largest error rate under which `wrong` or fewer errors in n have at least probability delta.

    >>> round(upper_bound(0, 45, 0.1), 3)
    0.05
    """
    return 1.0 if wrong >= n else float(beta.ppf(1 - delta, wrong + 1, n - wrong))
