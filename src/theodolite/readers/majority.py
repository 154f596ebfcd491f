"""The larger class, always."""

from typing import Any

import numpy as np

from theodolite.core.reader import Reader


class Majority(Reader):
    """One score for every row, the log-odds of the classes: what accuracy alone rewards. Its AUROC is exactly .5.

    >>> Majority().fit([[0.0], [1.0], [2.0]], [0, 1, 1]).predict([[5.0], [6.0]])
    array([1, 1])
    """

    accepts_sparse = True
    learns = False
    log_odds = True
    scale_free = True

    log_odds_: float

    def _fit(self, rows: Any, target_n: np.ndarray) -> None:
        self.log_odds_ = float(np.log(target_n.mean() / (1 - target_n.mean())))

    def _scores(self, rows: Any) -> np.ndarray:
        return np.full(rows.shape[0], self.log_odds_)
