"""A toy on which plain shuffled labels steer towards the concept, and labels shuffled within the classes do not.

States x = y D / 2 + e, y = +-1, e ~ N(0, I_d), D of length `gap` along the first axis. A push v changes the next-token
distribution by KL(v) = |v|^2 / 2 and the score of the concept by v_1. So at a matched KL of `nats` the effect of a
direction u of length 1 is sqrt(2 nats) u_1, and the true direction reaches sqrt(2 nats).

A difference in means under shuffled labels has covariance (4 / n) times that of the states it shuffles: with the
concept in it, I + D D' / 4, for plain shuffles, and I for stratified ones. n cancels when the length is matched. With
variance a along the concept and 1 along the others,

    E[effect^2] / (2 nats)  =  E[a z^2 / (a z^2 + d - 1)],   z ~ N(0, 1),   a = 1 + gap^2 / 4 (plain) or 1 (stratified)

Shapes: n texts, d columns, m draws.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import erfcx

from theodolite.core.seeds import generator


@dataclass(frozen=True)
class Shuffles:
    """Texts' states (n, d) with labels (n,) of 0 and 1, and what a push does to disturbance and score."""

    rows: np.ndarray
    labels: np.ndarray
    gap: float

    def effect(self, direction_md: np.ndarray, nats: float = 0.1) -> np.ndarray:
        """Effect (m,) of each direction, scaled so that its KL is `nats`."""
        strength_m = np.sqrt(2 * nats) / np.linalg.norm(direction_md, axis=1)  # KL = |s v|^2 / 2
        return strength_m * direction_md[:, 0]

    def differences(self, label_mn: np.ndarray) -> np.ndarray:
        """Differences in means (m, d) by labels (m, n) of 1 and 0; other values are left out."""
        return np.array([self.rows[y == 1].mean(0) - self.rows[y == 0].mean(0) for y in label_mn])

    def expected(self, plain: bool, nats: float = 0.1) -> float:
        """Root mean square of the effect of a shuffle by the formula above, for many columns and even classes."""
        along = 1 + self.gap**2 / 4 if plain else 1.0
        t = (self.rows.shape[1] - 1) / along  # E[z^2 / (z^2 + t)] = 1 - sqrt(pi t / 2) exp(t / 2) erfc(sqrt(t / 2))
        return float(np.sqrt(2 * nats * (1 - np.sqrt(np.pi * t / 2) * erfcx(np.sqrt(t / 2)))))


def shuffles(n: int = 200, d: int = 64, gap: float = 12.0, positives: float = 0.5, seed: int = 0) -> Shuffles:
    """Draw n texts of which a share are positive.

    >>> toy = shuffles()
    >>> toy.rows.shape, round(toy.expected(plain=True), 3), round(toy.expected(plain=False), 3)
    ((200, 64), 0.23, 0.055)
    """
    rng = generator(seed, "shuffled labels")
    label_n = (np.arange(n) < positives * n).astype(int)
    rows_nd = rng.normal(size=(n, d))
    rows_nd[:, 0] += (label_n - 0.5) * gap
    return Shuffles(rows_nd, label_n, gap)
