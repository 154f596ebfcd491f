"""Rows that are sparse sums of known features, as in SynthSAEBench (2602.14687), at the size of a test.

Common features and rare ones (Zipf), some in trees whose siblings exclude each other, weakly correlated, not quite
orthogonal because there are more of them than dimensions. Shapes: n rows, f features, d dimensions, r factors.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import ndtri

from theodolite.core.seeds import generator


@dataclass(frozen=True)
class SyntheticDictionary:
    """Planted dictionary: `features` unit rows in `d` dimensions and how often each is active, and with what magnitude.

    Feature i is active with probability (i + 1)^-exponent between p_max and p_min, given its parent if it has one; of
    siblings active at once one stays, drawn at random. The first features are the roots of `trees` trees of `children`
    children to a node and `depth` levels below the root. Gaussian factors of rank `rank`, each with loadings of
    standard deviation `loading`, correlate all features. Magnitudes are |N(m, .5)|, m falling from 5 to 4.

    >>> x_nd, z_nf = SyntheticDictionary(features=64, d=16, trees=2, depth=1).sample(1000, seed=1)
    >>> x_nd.shape, z_nf.shape, bool((z_nf >= 0).all())
    ((1000, 16), (1000, 64), True)
    """

    features: int = 1024
    d: int = 96
    p_max: float = 0.4
    p_min: float = 5e-4
    exponent: float = 0.5
    trees: int = 8
    children: int = 4
    depth: int = 3
    rank: int = 25
    loading: float = 0.1
    bias: float = 0.5
    seed: int = 42

    @cached_property
    def features_fd(self) -> np.ndarray:
        """Unit rows, pushed apart by 100 gradient steps on the squares of their cosines."""
        w = self._random("features").normal(size=(self.features, self.d))
        for _ in range(100):
            w /= np.linalg.norm(w, axis=1, keepdims=True)
            cosine = w @ w.T
            np.fill_diagonal(cosine, 0)
            w -= 0.1 * cosine @ w * self.d / self.features
        return w / np.linalg.norm(w, axis=1, keepdims=True)

    @cached_property
    def probability_f(self) -> np.ndarray:
        """Rate at which a feature is wanted before its parent and its siblings have their say."""
        zipf = (1.0 + np.arange(self.features)) ** -self.exponent
        low, high = zipf[-1], zipf[0]
        return self.p_min + (self.p_max - self.p_min) * (zipf - low) / (high - low)

    @cached_property
    def parent_f(self) -> np.ndarray:
        """Each feature's parent, -1 for a root and for features outside the trees; parents come first."""
        parent, level, start = np.full(self.features, -1), np.arange(self.trees), self.trees
        for _ in range(self.depth):
            stop = start + len(level) * self.children
            assert stop <= self.features, "the trees have more nodes than there are features"
            parent[start:stop] = np.repeat(level, self.children)
            level, start = np.arange(start, stop), stop
        return parent

    def sample(self, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows (n, d) and the magnitudes of the features in them (n, f), float32."""
        rng = self._random("rows", seed)
        mean = np.linspace(5, 4, self.features)
        magnitude_nf = np.abs(rng.normal(mean, 0.5, size=(n, self.features)))
        z_nf = np.where(self._active(n, rng), magnitude_nf, 0)
        centre = self._random("bias").normal(size=self.d)
        x_nd = z_nf @ self.features_fd + self.bias * centre / np.linalg.norm(centre)
        return x_nd.astype(np.float32), z_nf.astype(np.float32)

    def _active(self, n: int, rng: np.random.Generator) -> np.ndarray:
        loading_fr = self.loading * self._random("loadings").normal(size=(self.features, self.rank))
        loading_fr /= np.maximum(1, np.linalg.norm(loading_fr, axis=1, keepdims=True) / 0.9)  # noise keeps a share
        own = np.sqrt(1 - (loading_fr**2).sum(1))
        u_nf = rng.normal(size=(n, self.rank)) @ loading_fr.T + own * rng.normal(size=(n, self.features))
        parent, p = self.parent_f, self.probability_f
        p = np.where(parent >= 0, np.minimum(p / p[parent], 1 / self.children), p)
        active_nf = u_nf < ndtri(p)
        for first in range(self.trees, int((parent >= 0).sum()) + self.trees, self.children):
            family = slice(first, first + self.children)
            alone = active_nf[:, family] & active_nf[:, parent[first], None]
            order = rng.random(alone.shape) * alone
            active_nf[:, family] = alone & (order == order.max(1, keepdims=True))
        return active_nf

    def _random(self, *names: object) -> np.random.Generator:
        return generator(self.seed, "synthetic dictionary", *names)
