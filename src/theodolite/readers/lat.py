"""Linear artificial tomography, the reading method of representation engineering."""

from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from theodolite.core.reader import LinearReader, class_means
from theodolite.core.seeds import generator


class Lat(LinearReader):
    """First principal component of pair differences, each taken in random order, its sign learnt from the same pairs.

    As in the code of Zou et al. (2023, arXiv:2310.01405): differences are centred before the decomposition, which the
    random order within a pair makes harmless; the sign is the one under which most positives of a pair lie higher.
    Their pairs are *contrastive prompts*: one text under two instructions. Labelled texts have none, so the pairs
    here are seeded *cross-label pairs*, any positive with any negative, and carry the difference of their topics too.

    >>> rows = np.random.default_rng(0).normal(size=(80, 5))
    >>> y = np.arange(80) % 2
    >>> rows[:, 3] += 9 * y
    >>> bool(Lat().fit(rows, y).direction_[3] > 0.99)
    True
    """

    accepts_sparse = True
    order_free = False

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def _fit(self, rows: Any, target_n: np.ndarray) -> None:
        difference_pd = _pair_differences(rows, target_n, self.seed)
        order_p = generator(self.seed, "lat order").choice([-1.0, 1.0], size=len(difference_pd))
        component_d = _first_component(order_p[:, None] * difference_pd)
        higher = (difference_pd @ component_d > 0).mean()
        self.coef_ = component_d if higher >= 0.5 else -component_d
        negative_d, positive_d = class_means(rows, target_n)
        self.intercept_ = float(-self.coef_ @ (positive_d + negative_d) / 2)


def _pair_differences(rows: Any, target_n: np.ndarray, seed: int) -> np.ndarray:
    """Positive minus negative for as many random pairs as the smaller class has rows, each row used once."""
    rng = generator(seed, "lat pairs")
    positives = rng.permutation(np.flatnonzero(target_n == 1))
    negatives = rng.permutation(np.flatnonzero(target_n == 0))
    pairs = min(len(positives), len(negatives))
    difference_pd = rows[positives[:pairs]].astype(np.float64) - rows[negatives[:pairs]]
    return difference_pd.toarray() if sp.issparse(difference_pd) else difference_pd


def _first_component(rows_pd: np.ndarray) -> np.ndarray:
    """Unit vector of the largest variance, through the Gram matrix of the smaller side; the mean if nothing varies."""
    centred_pd = rows_pd - rows_pd.mean(axis=0)
    wide = centred_pd.shape[0] <= centred_pd.shape[1]
    gram = centred_pd @ centred_pd.T if wide else centred_pd.T @ centred_pd
    last = len(gram) - 1
    vector = scipy.linalg.eigh(gram, subset_by_index=[last, last])[1][:, 0]
    component_d = centred_pd.T @ vector if wide else vector
    norm = np.linalg.norm(component_d)
    return component_d / norm if norm > 0 else rows_pd.mean(axis=0)
