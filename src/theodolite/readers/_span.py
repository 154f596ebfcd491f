"""Centred rows in an orthonormal basis of their own span: no penalised linear fit needs more than min(n, d) columns.

Shapes: n rows, d columns, r = rank <= min(n, d), k fits.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import scipy.linalg
import scipy.sparse as sp

_BLOCK = 1024


@dataclass(frozen=True)
class Span:
    """(X - mean) / scale = U S V', kept as U S: an L2-penalised fit on it, lifted, is the fit on all d columns.

    One symmetric eigenproblem of the smaller side replaces twelve fits on d columns; sparse rows are never made dense
    unless n > d. U S also makes the penalised Hessian nearly diagonal, which is what `logistic_path` lives on.
    """

    scaled: Any
    mean_d: np.ndarray
    scale_d: np.ndarray
    rows_nr: np.ndarray
    singular_r: np.ndarray

    @classmethod
    def of(cls, rows: Any, scale_d: np.ndarray | None = None) -> Self:
        """The span of `rows`, each column divided by its standard deviation, or by `scale_d` if given."""
        rows = rows.astype(np.float64)
        mean_d = np.asarray(rows.mean(axis=0)).ravel()
        scale_d = standard_deviation(rows, mean_d) if scale_d is None else scale_d
        scaled = rows @ sp.diags_array(1 / scale_d) if sp.issparse(rows) else (rows - mean_d) / scale_d
        rows_nr, singular_r = _rotate(scaled, mean_d / scale_d if sp.issparse(rows) else None)
        return cls(scaled, mean_d, scale_d, rows_nr, singular_r)

    def lift(self, beta_rk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients in the units of the rows, (d, k), and what to add to each intercept, (k,)."""
        coef_dk = self.back(beta_rk) / self.scale_d[:, None]
        return coef_dk, -self.mean_d @ coef_dk

    def project(self, weight_dk: np.ndarray) -> np.ndarray:
        """V' W: weights on standardised columns in the basis of the span, (r, k)."""
        return (self.rows_nr.T @ (self.scaled @ weight_dk)) / self.singular_r[:, None] ** 2

    def back(self, beta_rk: np.ndarray) -> np.ndarray:
        """V beta, with V = Z' U / S: the same coefficients on standardised columns, (d, k).

        Sparse rows are scaled but not centred, here and in `project`: the columns of U sum to 0, so it is the same.
        """
        return np.asarray(self.scaled.T @ (self.rows_nr @ (beta_rk / self.singular_r[:, None] ** 2)))


def standard_deviation(rows: Any, mean_d: np.ndarray) -> np.ndarray:
    """Standard deviation of each column; infinite for constant columns, which then read 0 whatever their size."""
    variance_d = variance(rows, mean_d)
    return np.where(variance_d > 0, np.sqrt(variance_d), np.inf)


def variance(rows: Any, mean_d: np.ndarray) -> np.ndarray:
    """Variance of each column about the given mean, in two passes; exactly 0 where nothing but rounding is left."""
    n = rows.shape[0]
    if sp.issparse(rows):
        rows = rows.tocsc()
        stored_d = np.diff(rows.indptr)
        column = np.repeat(np.arange(len(mean_d)), stored_d)
        square_d = np.bincount(column, (rows.data - mean_d[column]) ** 2, len(mean_d)) + (n - stored_d) * mean_d**2
    else:
        square_d = np.square(rows - mean_d).sum(axis=0)
    rounding_d = n * (n * np.finfo(np.float64).eps * mean_d) ** 2
    return np.where(square_d > rounding_d, square_d / n, 0.0)


def _rotate(scaled: Any, offset_d: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """U S and S of the centred rows, from the Gram matrix of the smaller side; `offset_d` centres sparse rows."""
    n, d = scaled.shape
    wide = n <= d
    gram = _gram(scaled if wide else scaled.T)
    if offset_d is not None:
        gram = _double_centred(gram) if wide else gram - n * np.outer(offset_d, offset_d)
    square_r, vector = scipy.linalg.eigh(gram, driver="evd", overwrite_a=True, check_finite=False)
    kept = square_r > max(square_r[-1], 1.0) * len(square_r) * np.finfo(np.float64).eps
    singular_r, vector = np.sqrt(square_r[kept]), vector[:, kept]
    if wide:
        return vector * singular_r, singular_r
    rows_nr = scaled @ vector
    return (rows_nr if offset_d is None else rows_nr - offset_d @ vector), singular_r


def _gram(rows: Any) -> np.ndarray:
    """Rows times rows; of sparse rows through dense blocks of columns once a tenth is filled, which is then faster."""
    if not sp.issparse(rows):
        return rows @ rows.T
    if rows.nnz < 0.1 * np.prod(rows.shape):
        return (rows @ rows.T).toarray()
    gram = np.zeros((rows.shape[0], rows.shape[0]))
    columns = rows.tocsc()
    for start in range(0, rows.shape[1], _BLOCK):
        block = columns[:, start : start + _BLOCK].toarray()
        gram += block @ block.T
    return gram


def _double_centred(gram_nn: np.ndarray) -> np.ndarray:
    """H K H with H = I - 11'/n: the Gram matrix of rows minus their mean."""
    mean_n = gram_nn.mean(axis=0)
    return gram_nn - mean_n - mean_n[:, None] + mean_n.mean()
