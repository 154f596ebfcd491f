"""What is planted is there: sparse sums of the features, children only with their parents, siblings alone."""

import numpy as np
import pytest

from theodolite.toys.synthetic_dictionary import SyntheticDictionary

TOY = SyntheticDictionary(features=128, d=24, trees=2, children=3, depth=2, bias=0.0)
X, Z = TOY.sample(20_000, seed=0)


def test_rows_are_the_sums_of_their_features() -> None:
    np.testing.assert_allclose(X, Z @ TOY.features_fd, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(TOY.features_fd, axis=1), 1)


def test_children_are_active_only_with_their_parent_and_without_siblings() -> None:
    active, parent = Z > 0, TOY.parent_f
    children = np.flatnonzero(parent >= 0)
    assert len(children) == 2 * (3 + 9)
    assert active[:, children].any(0).all()
    assert not (active[:, children] & ~active[:, parent[children]]).any()
    for first in range(2, 2 + len(children), 3):
        assert active[:, first : first + 3].sum(1).max() == 1


def test_features_outside_trees_are_as_frequent_as_said() -> None:
    free = np.arange(26, 128)
    assert (TOY.parent_f[free] == -1).all()
    expected, found = TOY.probability_f[free], (Z[:, free] > 0).mean(0)
    assert (np.abs(found - expected) < 5 * np.sqrt(expected / len(Z))).all()
    assert TOY.probability_f[0] == pytest.approx(0.4)
    assert TOY.probability_f[-1] == pytest.approx(5e-4)


def test_magnitudes_fall_from_five_to_four() -> None:
    for i, mean in ((0, 5), (40, 5 - 40 / 127)):
        there = Z[:, i][Z[:, i] > 0]
        assert there.mean() == pytest.approx(mean, abs=5 * 0.5 / len(there) ** 0.5)


def test_features_are_less_alike_than_random_directions() -> None:
    random = np.random.default_rng(0).normal(size=(128, 24))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    assert _likeness(TOY.features_fd) < 0.95 * _likeness(random)


def _likeness(rows: np.ndarray) -> float:
    cosine = rows @ rows.T
    return float((cosine[np.triu_indices(len(rows), 1)] ** 2).mean())


def test_factors_make_features_correlate() -> None:
    alone = SyntheticDictionary(features=128, d=24, trees=0, loading=0.0)
    joined = SyntheticDictionary(features=128, d=24, trees=0, loading=0.3)
    spread = [
        np.corrcoef(toy.sample(20_000, 0)[1][:, :8].T > 0)[np.triu_indices(8, 1)].std() for toy in (alone, joined)
    ]
    assert spread[1] > 5 * spread[0]


def test_the_seed_is_all() -> None:
    again = SyntheticDictionary(features=128, d=24, trees=2, children=3, depth=2, bias=0.0).sample(100, seed=3)
    assert np.array_equal(again[0], TOY.sample(100, seed=3)[0])
    assert not np.array_equal(again[0], TOY.sample(100, seed=4)[0])
