"""LEACE: the smallest affine change after which no linear classifier finds a concept (Belrose et al. 2023)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from theodolite.core.basis import Subspace
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.rules import Mean


@dataclass(frozen=True, eq=False)
class Leace:
    """The eraser h - W^+ U U^T W (h - mean), fitted on rows (n, d) and their classes.

    W = Sigma_xx^(-1/2), and U is an orthonormal basis of the columns of W Sigma_xz. On the rows of the fit the class
    means then coincide exactly, so that no linear classifier beats a constant one. `write_kd` holds the columns of
    W^+ U and `read_kd` the rows of U^T W: k is the number of classes less one.

    >>> rows = np.array([[0.0, 1.0], [0.0, 3.0], [4.0, 1.0], [4.0, 3.0]])
    >>> Leace.fit(rows, [0, 0, 1, 1])(rows).round(6).tolist()
    [[2.0, 1.0], [2.0, 3.0], [2.0, 1.0], [2.0, 3.0]]
    """

    write_kd: np.ndarray
    read_kd: np.ndarray
    mean_d: np.ndarray

    @classmethod
    def fit(cls, rows_nd: Any, labels_n: Any, *, shrinkage: bool = True) -> "Leace":
        """Return the eraser of the classes of rows (n, d).

        With `shrinkage` the covariance is drawn towards an isotropic one by the rule of Bodnar, Gupta and Parolya
        (2014), as the authors do: with few rows, directions that hardly vary would otherwise be stretched. The class
        means coincide with it too.
        """
        rows = np.asarray(rows_nd, np.float64)
        classes, codes = np.unique(np.asarray(labels_n), return_inverse=True)
        if rows.ndim != 2 or len(rows) != len(codes):
            raise UserError(f"rows have shape {rows.shape}, there are {len(codes)} labels: give one label for each row")
        if len(classes) < 2:
            raise UserError(f"all rows are of the class {classes.tolist()}: an erasure needs two classes or more")
        if not np.isfinite(rows).all():
            raise UserError("rows hold NaN or infinite numbers")
        mean, onehot = rows.mean(0), np.eye(len(classes))[codes]
        centred = rows - mean
        cov_xx, cov_xz = centred.T @ centred / len(rows), centred.T @ (onehot - onehot.mean(0)) / len(rows)
        values, vectors = np.linalg.eigh(_shrunk(cov_xx, len(rows)) if shrinkage else cov_xx)
        # what varies by rounding alone is no axis: torch's and numpy's threshold of a pseudo-inverse
        real = values > values[-1] * len(values) * np.finfo(np.float64).eps
        roots = np.sqrt(np.where(real, values, 1.0))
        whiten, colour = (vectors * np.where(real, x, 0.0) @ vectors.T for x in (1 / roots, roots))
        left, strengths, _ = np.linalg.svd(whiten @ cov_xz, full_matrices=False)
        if strengths[0] < 1e-9:
            raise UserError("the class means coincide already: there is nothing to erase")
        u_dk = left[:, strengths > 1e-9 * max(1.0, strengths[0])]
        return cls((colour @ u_dk).T.astype(np.float32), (u_dk.T @ whiten).astype(np.float32), mean.astype(np.float32))

    @property
    def basis(self) -> Subspace:
        """The coordinates that are erased: read by U^T W, written by W^+ U."""
        return Subspace(self.write_kd, read=self.read_kd)

    def intervention(self, site: Any, positions: Any = "all", **modifiers: Any) -> Intervention:
        """Return the erasure as an intervention at the site where its rows were read."""
        return Intervention(site, Mean(self.mean_d[None]), self.basis, positions, **modifiers)

    def __call__(self, rows_nd: np.ndarray) -> np.ndarray:
        """Return rows (n, d) without the concept."""
        return rows_nd - (rows_nd - self.mean_d) @ self.read_kd.T @ self.write_kd


def _shrunk(cov_dd: np.ndarray, n: int) -> np.ndarray:
    """Return the covariance of n rows drawn towards the isotropic one of equal trace; the trace stays."""
    target = np.eye(len(cov_dd)) * (np.trace(cov_dd) / len(cov_dd))
    squared, norm = float((target**2).sum()), float((cov_dd**2).sum())
    spread = norm * squared - float((cov_dd * target).sum()) ** 2
    if spread <= 0:  # isotropic already
        return cov_dd
    kept = np.clip(1 - np.trace(cov_dd) ** 2 * squared / n / spread, 0.0, 1.0)
    return kept * cov_dd + (1 - kept) * target
