"""Spaces in which a judge compares rows: the model's state, maps of it, a dictionary's latents, what a reader reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA

from theodolite.core.reader import LinearReader, Reader
from theodolite.readers.lat import Lat

Array = np.ndarray
Rows = Callable[[str, str], Any]  # (view, site) -> rows of that view
N_COMPONENTS = 8  # of PLS
N_PRINCIPAL = 64  # of the latents: neighbours in thousands of columns say little, and cost much
FROM_LATENTS = {"latents", "dual+error"}  # maps that need a dictionary at the site


@dataclass(frozen=True)
class Map:
    """A space that was fitted on the support rows.

    state: the pooled state as it is. pls: 8 directions of it that go with the label. latents: 64 principal
    components of the pooled SAE latents.
    repe: the state of every block along LAT's direction there, in units of its deviation. dual: similarity in what the
    reader reads, each column times its coefficient, and distance in the state. dual+error: the same, with the length
    of the dictionary's error as one more coordinate, scaled to vary as much as the whole state.
    """

    name: str
    site: str
    view: str
    blocks: tuple[str, ...]
    arrays: dict[str, Array]

    def near(self, rows: Rows) -> Array:
        """Coordinates in which similar rows are sought, float32 (n, m)."""
        return np.asarray(self._near(rows), dtype=np.float32)

    def _near(self, rows: Rows) -> Array:
        if self.name == "pls":
            return (rows("state", self.site) - self.arrays["mean"]) @ self.arrays["matrix"]
        if self.name == "latents":
            return rows("latents", self.site) @ self.arrays["matrix"] - self.arrays["centre"]
        if self.name == "repe":
            return _repe(rows, self.blocks, self.arrays)
        if self.name.startswith("dual"):
            used = np.flatnonzero(self.arrays["coef"])
            return dense(rows(self.view, self.site)[:, used]) * self.arrays["coef"][used]
        return rows("state", self.site)

    def far(self, rows: Rows) -> Array | None:
        """Coordinates in which distance is measured, where these are others."""
        if not self.name.startswith("dual"):
            return None
        state = rows("state", self.site)
        if self.name == "dual":
            return state
        return np.column_stack([state, _error(rows, self.site) * self.arrays["scale"]]).astype(np.float32)


def names(reader: Reader, has_dictionary: bool) -> list[str]:
    """The maps there are for a reader: `dual` needs coefficients, some a dictionary."""
    found = ["state", "pls", "latents", "repe"]
    if isinstance(reader, LinearReader):
        found += ["dual", "dual+error"]
    return [name for name in found if has_dictionary or name not in FROM_LATENTS]


def fit(name: str, rows: Rows, target_n: Array, reader: Reader, view: str, site: str, blocks: Sequence[str]) -> Map:
    """Learn a map from the support rows and their labels."""
    arrays: dict[str, Array] = {}
    if name == "pls":
        state = np.asarray(rows("state", site), dtype=np.float64)
        fitted = PLSRegression(min(N_COMPONENTS, *state.shape), scale=False).fit(state, target_n)
        arrays = {"mean": state.mean(0), "matrix": fitted.x_rotations_}
    elif name == "latents":
        arrays = _principal(rows("latents", site))
    elif name == "repe":
        arrays = _directions(rows, target_n, blocks)
    elif name.startswith("dual"):
        assert isinstance(reader, LinearReader)
        arrays = {"coef": np.asarray(reader.coef_, dtype=np.float64)}
        if name == "dual+error":
            spread = np.sqrt(np.asarray(rows("state", site), dtype=np.float64).var(0).sum())
            arrays["scale"] = np.array(spread / (_error(rows, site).std() or 1.0))
    return Map(name, site, view, tuple(blocks) if name == "repe" else (), arrays)


def coordinates(fitted: Map, rows: Rows, log_odds: Array) -> Array:
    """A judge's rows: log-odds, coordinates of similarity, and those of distance where they are others; (n, 1 + m + f).

    float32: half the memory of a support, and distances are taken in float64.
    """
    near, far = fitted.near(rows), fitted.far(rows)
    return np.column_stack([log_odds, near, *([] if far is None else [far])]).astype(np.float32)


def dense(rows: Any) -> Array:
    """Rows of any view as an array."""
    return rows.toarray() if sparse.issparse(rows) else np.asarray(rows)


def _principal(latents: Any) -> dict[str, Array]:
    """The directions of largest variance on the support, with the signs that scikit-learn fixes."""
    fitted = PCA(min(N_PRINCIPAL, *latents.shape), svd_solver="full").fit(dense(latents).astype(np.float64))
    return {"matrix": fitted.components_.T, "centre": fitted.mean_ @ fitted.components_.T}


def _directions(rows: Rows, target_n: Array, blocks: Sequence[str]) -> dict[str, Array]:
    directions, centres, deviations = [], [], []
    for block in blocks:
        state = np.asarray(rows("state", block), dtype=np.float64)
        direction = Lat().fit(state, target_n).direction_
        along = state @ direction
        directions.append(direction)
        centres.append(along.mean())
        deviations.append(along.std() or 1.0)
    return {"directions": np.array(directions), "centres": np.array(centres), "deviations": np.array(deviations)}


def _repe(rows: Rows, blocks: Sequence[str], arrays: dict[str, Array]) -> Array:
    along = [rows("state", block) @ direction for block, direction in zip(blocks, arrays["directions"], strict=True)]
    return (np.column_stack(along) - arrays["centres"]) / arrays["deviations"]


def _error(rows: Rows, site: str) -> Array:
    return np.linalg.norm(np.asarray(rows("error", site), dtype=np.float64), axis=1)
