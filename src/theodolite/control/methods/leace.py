"""The write vector of LEACE."""

import numpy as np

from theodolite.control.control import Control, VectorControl
from theodolite.control.material import Material
from theodolite.control.method import Method
from theodolite.core.errors import UserError
from theodolite.core.reader import class_means


class Leace(Method):
    """h + strength * v, where v is the direction in which least-squares concept erasure changes a state.

    Belrose et al. (2023, arXiv:2306.03819): with W = Sigma_xx^(-1/2) and U the left singular vectors of W Sigma_xz,
    the eraser is h - W^+ U U^T W (h - mu). It reads along W^T U, which is Fisher's direction (`lda`), and writes along
    W^+ U. For two classes Sigma_xz has one column, proportional to the difference in means, which lies in the span of
    the rows; so W^+ U is that difference in means again, up to rounding. The two steer alike, and a table that has
    both shows how much rounding changes.

    It sees training rows and labels. No extra pass; one fit.
    """

    saw = "training rows and labels"

    def fit(self, material: Material) -> Control:
        """Return the control along the write vector, towards the positive mean."""
        rows = material.training
        write_d, rank = _write_vector(rows.rows, rows.labels)
        if not write_d.any():
            raise UserError(f"the classes of {rows.n} texts have equal mean states: there is nothing to write")
        self._done(passes=0, fits=1, parameters=len(write_d), rank=rank)
        return VectorControl.scaled(material.model, "leace", material.site, write_d, material.class_distance)


def _write_vector(rows_nd: np.ndarray, target_n: np.ndarray) -> tuple[np.ndarray, int]:
    """Return W^+ U (d), towards the positive class, and the rank of Sigma_xx."""
    wide_nd = rows_nd.astype(np.float64)
    centred_nd = wide_nd - wide_nd.mean(0)
    value_r, vector_dr = np.linalg.eigh(centred_nd.T @ centred_nd / len(wide_nd))
    # fewer texts than dimensions leave most of Sigma_xx at zero: as its authors do, drop what rounding may have made
    kept = value_r > value_r[-1] * len(value_r) * np.finfo(np.float64).eps
    root_r, vector_dr = np.sqrt(value_r[kept]), vector_dr[:, kept]
    negative_d, positive_d = class_means(wide_nd, target_n)
    # Sigma_xz = p (1 - p) (positive - negative): the factor does not turn it
    white_r = (vector_dr.T @ (positive_d - negative_d)) / root_r
    return vector_dr @ (root_r * white_r / (np.linalg.norm(white_r) or 1.0)), int(kept.sum())
