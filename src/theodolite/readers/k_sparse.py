"""A logistic probe on few latents."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from theodolite.core.errors import UserError
from theodolite.core.reader import LinearReader, class_means
from theodolite.readers._path import PathReader, half_decades
from theodolite.readers._span import Span, variance
from theodolite.readers.logistic import penalised


class KSparse(PathReader, LinearReader):
    """Logistic regression on the k columns whose class means differ most, in units of the column's deviation.

    Columns are chosen on the training rows alone (Gurnee et al. 2023, arXiv:2305.01610; Kantamneni et al. 2025,
    arXiv:2502.16681). `latents_` holds their numbers, the most different first; `coef_` is 0 everywhere else. With
    fewer than k columns it takes them all.

    >>> rows = np.random.default_rng(0).normal(size=(60, 9))
    >>> y = (rows[:, 4] - rows[:, 7] > 0).astype(int)
    >>> sorted(KSparse(k=2).fit(rows, y).latents_.tolist())
    [4, 7]
    """

    view = "latents"
    accepts_sparse = True
    log_odds = True
    scale_free = True

    latents_: np.ndarray

    def __init__(self, k: int = 16, C: float = 0.1) -> None:
        self.k = k
        self.C = C

    @classmethod
    def grid(cls, **fixed: Any) -> list[dict[str, Any]]:
        """Twelve values of C at one k, or four of C at three of k: the fewest latents and strongest penalty first."""
        ks = [fixed["k"]] if "k" in fixed else [16, 64, 128]
        fine, coarse = half_decades(-4), [0.003, 0.03, 0.3, 3.0]
        Cs = [fixed["C"]] if "C" in fixed else fine if "k" in fixed else coarse
        return [{n: v for n, v in (("k", k), ("C", C)) if n not in fixed} for k in ks for C in Cs]

    def _fit_path(self, readers: Sequence[Any], rows: Any, target_n: np.ndarray) -> None:
        if min(reader.k for reader in readers) < 1:
            raise UserError(f"k must be at least 1, got {min(reader.k for reader in readers)}")
        ranked_d = _ranked(rows, target_n)
        for k in {reader.k for reader in readers}:
            same = [reader for reader in readers if reader.k == k]
            latents = ranked_d[:k]
            chosen = rows[:, latents]
            span = Span.of(chosen.toarray() if sp.issparse(chosen) else chosen)
            coef_kc, intercept_c = penalised(span, target_n, [reader.C for reader in same])
            for c, reader in enumerate(same):
                reader.latents_ = latents.copy()
                reader.coef_ = np.zeros(rows.shape[1])
                reader.coef_[latents], reader.intercept_ = coef_kc[:, c], float(intercept_c[c])


def _ranked(rows: Any, target_n: np.ndarray) -> np.ndarray:
    """Column numbers by falling |difference in class means| / deviation; equal ones keep their order.

    Dividing by the deviation within classes instead would rank them the same way: it is a rising function of this.
    """
    negative_d, positive_d = class_means(rows, target_n)
    share = target_n.mean()
    mean_d = share * positive_d + (1 - share) * negative_d
    variance_d = variance(rows.astype(np.float64), mean_d)
    effect_d = np.abs(positive_d - negative_d) / np.sqrt(np.where(variance_d > 0, variance_d, np.inf))
    return np.argsort(-effect_d, kind="stable")
