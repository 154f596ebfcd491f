"""Two features and three latents, worked by hand."""

import numpy as np
import pytest

from theodolite.dictionaries.recovery import mcc, recovery

FEATURES = np.eye(2)
LEARNT = np.array([[3.0, 0.0], [0.6, 0.8], [0.8, -0.6]])
Z = np.array([[1.0, 0.0], [1.0, 2.0], [0.0, 1.0], [0.0, 0.0]])


def test_matching_gives_a_feature_to_one_latent_only() -> None:
    assert mcc(LEARNT, FEATURES) == pytest.approx((1 + 0.8) / 2)
    assert mcc(LEARNT[[0, 2]], FEATURES) == pytest.approx((1 + 0.6) / 2)
    assert mcc(np.zeros((2, 2)), FEATURES) == 0


def test_firing_is_judged_against_the_best_feature() -> None:
    """Latent 0 fires on rows 0, 1 (exactly feature 0); 1 on row 1 (half of feature 1's); 2 never."""
    fired = np.array([[1.0, 0.0, 0.0], [1.0, -1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    found = recovery(LEARNT, fired, FEATURES, Z)
    assert found.uniqueness == pytest.approx(2 / 3)
    assert found.precision == pytest.approx((1 + 1 + 0) / 3)
    assert found.recall == pytest.approx((1 + 0.5 + 0) / 3)
    assert found.f1 == pytest.approx((1 + 2 / 3 + 0) / 3)
