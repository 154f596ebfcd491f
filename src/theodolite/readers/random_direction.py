"""A direction that knows nothing."""

from typing import Any

import numpy as np

from theodolite.core.reader import LinearReader
from theodolite.core.seeds import generator


class RandomDirection(LinearReader):
    """Score along a unit Gaussian direction; draws 0 to 9 show the noise of knowing nothing.

    The sign is drawn too, not fitted: half of the draws lie below an AUROC of .5. Only the threshold is the training
    mean.

    >>> bool(RandomDirection(draw=3).fit([[0.0, 1.0], [1.0, 0.0]], [0, 1]).direction_ @ np.ones(2) != 0)
    True
    """

    accepts_sparse = True
    learns = False

    def __init__(self, draw: int = 0) -> None:
        self.draw = draw

    def _fit(self, rows: Any, target_n: np.ndarray) -> None:
        direction_d = generator(self.draw, "random direction").normal(size=rows.shape[1])
        self.coef_ = direction_d / np.linalg.norm(direction_d)
        self.intercept_ = -float((rows @ self.coef_).mean())
