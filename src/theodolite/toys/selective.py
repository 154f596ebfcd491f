"""Rows on which a linear probe's accuracy is known everywhere: where its predictions should be accepted or rejected."""

import numpy as np

from theodolite.core.seeds import generator

Array = np.ndarray
DISTANCE = 1.6  # of each class's mean from 0, in standard deviations of the noise, along the first axis


def gaussians(n: int, d: int, seed: int, positive: float = 0.5) -> tuple[Array, Array]:
    """Return two classes 3.2 standard deviations apart along the first axis, noise along the others.

    >>> X, y = gaussians(1000, 4, seed=0)
    >>> round(float(((X[:, 0] > 0) == y).mean()), 2)
    0.95
    """
    rng = generator(seed, "gaussians")
    y = (rng.random(n) < positive).astype(int)
    X = rng.normal(size=(n, d))
    X[:, 0] += DISTANCE * (2 * y - 1)
    return X, y


def pocket(n: int, d: int, seed: int, share: float = 0.08) -> tuple[Array, Array]:
    """Return `gaussians` with a share of the rows in two dense pockets off to one side, where the label is flipped.

    A linear probe is confident there, and wrong.
    """
    X, y = gaussians(n, d, seed)
    rng = generator(seed, "pocket")
    inside = rng.random(n) < share
    count = int(inside.sum())
    X[inside] = 0.3 * rng.normal(size=(count, d))
    X[inside, 0] -= 3 * (2 * y[inside] - 1)
    X[inside, 1] += 6
    return X, y


def off_support(X: Array, by: float, axis: int = 1) -> Array:
    """Return the rows moved along an axis that the classes do not differ in, which the probe does not see."""
    moved = X.copy()
    moved[:, axis] += by
    return moved


def flipped(X: Array, y: Array, axis: int = 2, above: float = 0.8) -> Array:
    """Return labels flipped where a coordinate exceeds a value: the rows are the same, the label rule is another."""
    return np.where(X[:, axis] > above, 1 - y, y)
