"""Logistic regression: the linear probe."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from theodolite.core.errors import UserError
from theodolite.core.newton import logistic_path
from theodolite.core.reader import LinearReader
from theodolite.readers._path import PathReader, half_decades
from theodolite.readers._span import Span, standard_deviation


class Logistic(PathReader, LinearReader):
    """L2-penalised logistic regression on standardised columns, `C` as in scikit-learn (and equal to its solution).

    `split` names the column at which a second block begins (state | latents): each block then gets the same total
    variance, so that 4,096 latents do not outvote 576 state columns by their number.

    >>> rows = np.random.default_rng(0).normal(size=(40, 3))
    >>> y = (rows[:, 0] > 0).astype(int)
    >>> path = Logistic().fit_path(rows, y, [{"C": 0.01}, {"C": 1.0}])
    >>> [float(abs(reader.coef_).argmax()) for reader in path], path[1].predict_proba(rows).shape
    ([0.0, 0.0], (40, 2))
    """

    accepts_sparse = True
    log_odds = True
    scale_free = True

    def __init__(self, C: float = 0.01, split: int | None = None) -> None:
        self.C = C
        self.split = split

    @classmethod
    def grid(cls, **fixed: Any) -> list[dict[str, Any]]:
        """Twelve values of C, half a decade apart, the strongest penalty first."""
        return [{}] if "C" in fixed else [{"C": C} for C in half_decades(-4)]

    def _fit_path(self, readers: Sequence[Any], rows: Any, target_n: np.ndarray) -> None:
        span = Span.of(rows, None if self.split is None else _balanced_scale(rows, self.split))
        coef_dk, intercept_k = penalised(span, target_n, [reader.C for reader in readers])
        for k, reader in enumerate(readers):
            reader.coef_, reader.intercept_ = coef_dk[:, k].copy(), float(intercept_k[k])


def penalised(span: Span, target_n: np.ndarray, Cs: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (d, k) and intercepts (k,) in the units of the rows, one fit per C."""
    if min(Cs) <= 0:
        raise UserError(f"C must be positive, got {min(Cs)}")
    beta_rk, intercept_k = logistic_path(span.rows_nr, target_n, np.asarray(Cs, dtype=np.float64))
    coef_dk, shift_k = span.lift(beta_rk)
    return coef_dk, intercept_k + shift_k


def _balanced_scale(rows: Any, split: int) -> np.ndarray:
    """Standard deviations times the root of each block's share of the columns, twice over: the total stays d."""
    d = rows.shape[1]
    if not 0 < split < d:
        raise UserError(f"split={split} must lie inside the {d} columns")
    rows = rows.astype(np.float64)
    scale_d = standard_deviation(rows, np.asarray(rows.mean(axis=0)).ravel())
    scale_d[:split] *= np.sqrt(2 * split / d)
    scale_d[split:] *= np.sqrt(2 * (d - split) / d)
    return scale_d
