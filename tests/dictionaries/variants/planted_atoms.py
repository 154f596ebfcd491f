"""Rows that are sparse sums of known atoms: what a dictionary that learns should find again."""

import numpy as np
import torch

D, ATOMS = 24, 48


def unit_rows(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Random directions."""
    rows = np.random.default_rng(seed).standard_normal((n, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def strengths(n: int, atoms: int, seed: int) -> np.ndarray:
    """Three atoms of a row are present, each with a strength in 1..2."""
    rng = np.random.default_rng(seed)
    z = np.zeros((n, atoms))
    np.put_along_axis(z, rng.random((n, atoms)).argsort(axis=1)[:, :3], rng.uniform(1, 2, (n, 3)), axis=1)
    return z


def mixtures(n: int, seed: int, atoms: int = ATOMS, around: float = 5.0) -> tuple[torch.Tensor, np.ndarray]:
    """Rows that are sums of 3 unit atoms, around a large mean; and the atoms."""
    rows = unit_rows(atoms, D)
    return torch.tensor(strengths(n, atoms, seed) @ rows + around, dtype=torch.float32), rows
