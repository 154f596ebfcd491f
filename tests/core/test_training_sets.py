import numpy as np
import pytest

from theodolite.core.bootstrap import effective_groups, heaviest
from theodolite.core.stats import pool_factor
from theodolite.core.training_sets import TrainingSets

NONE_FIXED = np.zeros(12, bool)


def measured(member: list[list[int]], fixed: np.ndarray = NONE_FIXED) -> TrainingSets:
    y = np.arange(12) % 2
    return TrainingSets.measured(np.array(member, bool), np.arange(12), y, fixed)


def test_overlap_by_hand() -> None:
    """Three sets of six of twelve rows, each pair with three rows in common: half, and all of S - 1 = 2."""
    member = [[1] * 6 + [0] * 6, [1, 1, 1, 0, 0, 0] * 2, [1, 0, 0, 1, 1, 0, 1, 1, 0, 0, 1, 0]]
    assert (np.array(member) @ np.array(member).T)[np.triu_indices(3, 1)].tolist() == [3, 3, 3]
    found = measured(member)
    assert found.overlap == pytest.approx(0.5)
    assert found.df_share == pytest.approx(1.0)
    assert found.groups == 6
    assert pool_factor(3, found.overlap) == pytest.approx(1 / 3 + 1)


def test_disjoint_training_sets_share_nothing() -> None:
    found = measured([[1] * 4 + [0] * 8, [0] * 4 + [1] * 4 + [0] * 4, [0] * 8 + [1] * 4])
    assert (found.overlap, found.df_share) == (pytest.approx(0), pytest.approx(1))


def test_five_sets_that_are_two_have_one_degree_of_freedom() -> None:
    a, b = [1] * 6 + [0] * 6, [0] * 6 + [1] * 6
    assert measured([a, a, b, b, b]).df_share == pytest.approx(1 / 4)


def test_what_every_set_holds_is_not_counted_where_it_is_fixed() -> None:
    fixed = np.arange(12) < 4
    with_it = [[1] * 4 + part for part in ([1] * 4 + [0] * 4, [0] * 4 + [1] * 4)]
    assert measured(with_it).overlap > 0.2
    found = measured(with_it, fixed)
    assert found.overlap == pytest.approx(0)
    assert (found.fixed, found.fixed_share) == (4, pytest.approx(1 / 3))


def test_the_variance_of_a_mean_over_training_sets_is_what_the_factor_says() -> None:
    """Means of unequal rows: s2 times the factor against the variance over fresh pools, for sets that overlap oddly."""
    member = np.array([[1] * 6 + [0] * 6, [1] * 4 + [0] * 4 + [1] * 4, [1] * 5 + [0] * 3 + [1] * 3 + [0]], bool)
    found = measured(member.astype(int).tolist())
    x = np.random.default_rng(0).normal(size=(20_000, 12))
    f = x @ (member / member.sum(1, keepdims=True)).T
    assert np.mean(f.var(1, ddof=1)) * pool_factor(3, found.overlap) == pytest.approx(f.mean(1).var(), rel=0.03)


def test_effective_groups_and_their_weight_by_hand() -> None:
    group = np.repeat(["a", "b", "c"], [4, 1, 1])
    assert effective_groups(group) == pytest.approx(36 / 18)
    assert heaviest(group) == pytest.approx(((4 / 6) ** 3 + 2 / 216) / (18 / 36))
    assert effective_groups(group[:0]) == 0
