"""The null reader: labels that mean nothing."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from theodolite.core.seeds import generator
from theodolite.readers.logistic import Logistic


class ShuffledLabels(Logistic):
    """Logistic regression trained on permuted labels and scored on the true ones: it must stay at chance.

    One shuffle in five training sets says little, so draws 0 to 9 of each are made, each a permutation of its own; the
    range of their figures is what labels without meaning give here. C stays as it is: there is nothing to tune.

    >>> rows = np.random.default_rng(0).normal(size=(200, 4))
    >>> y = (rows[:, 0] > 0).astype(int)
    >>> ShuffledLabels().fit(rows, y).score(rows, y) < Logistic().fit(rows, y).score(rows, y)
    True
    """

    learns = False
    order_free = False

    def __init__(self, C: float = 0.01, split: int | None = None, draw: int = 0, seed: int = 0) -> None:
        super().__init__(C, split)
        self.draw = draw
        self.seed = seed

    @classmethod
    def grid(cls, **fixed: Any) -> list[dict[str, Any]]:
        """One configuration."""
        return [{}]

    def _fit_path(self, readers: Sequence[Any], rows: Any, target_n: np.ndarray) -> None:
        super()._fit_path(readers, rows, generator(self.seed, "shuffled labels", self.draw).permutation(target_n))
