"""Feature spaces in which a rule compares rows: the state, projections of it, a dictionary's latents, reader inputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA

from theodolite.core.reader import LinearReader, Reader
from theodolite.readers.lat import Lat
from theodolite.study.views import FROM_DICTIONARY

Array = np.ndarray
GetView = Callable[[str, str], Any]  # (view, site) -> that view of some rows
N_COMPONENTS = 8  # PLS directions
N_PRINCIPAL = 64  # components of the latents: neighbours in thousands of columns carry little information and cost much
FROM_LATENTS = {"latents", "dual+error"}  # spaces that need a dictionary at the site


@dataclass(frozen=True)
class FeatureSpace:
    """A feature space fitted on the support rows.

    state: the pooled state. pls: its 8 PLS directions for the label. latents: 64 principal
    components of the pooled SAE latents.
    repe: the state of every block projected on LAT's direction there, standardised. dual: similarity in the reader's
    input, each column times its coefficient, and distance in the state. dual+error: `dual` with the norm of the
    dictionary's error as one more coordinate of distance, scaled to the variance of the whole state.
    """

    name: str
    site: str
    view: str
    blocks: tuple[str, ...]
    arrays: dict[str, Array]

    @property
    def reads_dictionary(self) -> bool:
        """Return whether its coordinates come from a dictionary: by its kind, or by the reader's input."""
        return self.name in FROM_LATENTS or (self.name == "dual" and self.view in FROM_DICTIONARY)

    def similarity(self, rows: GetView) -> Array:
        """Return the coordinates in which similarity is measured, float32 (n, m)."""
        return np.asarray(self._similarity(rows), dtype=np.float32)

    def _similarity(self, rows: GetView) -> Array:
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

    def distance(self, rows: GetView) -> Array | None:
        """Return the coordinates in which distance is measured, (n, f); None where they are those of similarity."""
        if not self.name.startswith("dual"):
            return None
        state = rows("state", self.site)
        if self.name == "dual":
            return state
        return np.column_stack([state, _error(rows, self.site) * self.arrays["scale"]]).astype(np.float32)


def names(reader: Reader, has_dictionary: bool) -> list[str]:
    """Return the spaces available for a reader: `dual` needs coefficients, others need a dictionary."""
    found = ["state", "pls", "latents", "repe"]
    if isinstance(reader, LinearReader):
        found += ["dual", "dual+error"]
    return [name for name in found if has_dictionary or name not in FROM_LATENTS]


def fit(
    name: str, rows: GetView, target_n: Array, reader: Reader, view: str, site: str, blocks: Sequence[str]
) -> FeatureSpace:
    """Fit a feature space on the support rows and their labels."""
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
    return FeatureSpace(name, site, view, tuple(blocks) if name == "repe" else (), arrays)


def coordinates(space: FeatureSpace, views: GetView, log_odds: Array) -> Array:
    """Return the rows that rules get, (n, 1 + m + f): log-odds, coordinates for similarity, then those for distance.

    float32: half the memory of a support, and distances are taken in float64.
    """
    near, far = space.similarity(views), space.distance(views)
    return np.column_stack([log_odds, near, *([] if far is None else [far])]).astype(np.float32)


def dense(rows: Any) -> Array:
    """Return rows of any view as a dense array."""
    return rows.toarray() if sparse.issparse(rows) else np.asarray(rows)


def _principal(latents: Any) -> dict[str, Array]:
    """Return the principal components of the support, with the signs that scikit-learn fixes."""
    fitted = PCA(min(N_PRINCIPAL, *latents.shape), svd_solver="full").fit(dense(latents).astype(np.float64))
    return {"matrix": fitted.components_.T, "centre": fitted.mean_ @ fitted.components_.T}


def _directions(rows: GetView, target_n: Array, blocks: Sequence[str]) -> dict[str, Array]:
    directions, centres, deviations = [], [], []
    for block in blocks:
        state = np.asarray(rows("state", block), dtype=np.float64)
        direction = Lat().fit(state, target_n).direction_
        along = state @ direction
        directions.append(direction)
        centres.append(along.mean())
        deviations.append(along.std() or 1.0)
    return {"directions": np.array(directions), "centres": np.array(centres), "deviations": np.array(deviations)}


def _repe(rows: GetView, blocks: Sequence[str], arrays: dict[str, Array]) -> Array:
    along = [rows("state", block) @ direction for block, direction in zip(blocks, arrays["directions"], strict=True)]
    return (np.column_stack(along) - arrays["centres"]) / arrays["deviations"]


def _error(rows: GetView, site: str) -> Array:
    return np.linalg.norm(np.asarray(rows("error", site), dtype=np.float64), axis=1)
