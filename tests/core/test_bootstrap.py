import numpy as np
import pytest

from theodolite.core.bootstrap import bootstrap_weights, crossed_variance, fewest_groups, with_crossing

MANY = 8_000


def test_rows_of_a_group_share_their_weight() -> None:
    group = np.array(["b", "a", "b", "c"])
    w = bootstrap_weights(group, n_boot=50)
    assert w.shape == (50, 4)
    assert w.dtype == np.float32
    np.testing.assert_array_equal(w[:, 0], w[:, 2])
    assert len(np.unique(w)) == 3 * 50


def test_weights_follow_the_row_not_its_place() -> None:
    group, order = np.array(list("cabca")), np.array([3, 1, 4, 0, 2])
    np.testing.assert_array_equal(bootstrap_weights(group[order]), bootstrap_weights(group)[:, order])


def test_the_seed_decides() -> None:
    group = np.arange(5)
    np.testing.assert_array_equal(bootstrap_weights(group, seed=1), bootstrap_weights(group, seed=1))
    assert (bootstrap_weights(group, seed=1) != bootstrap_weights(group, seed=2)).all()


def variance_of_mean(x: np.ndarray, group: np.ndarray, seed: int = 0) -> float:
    w = bootstrap_weights(group, n_boot=MANY, seed=seed)
    return float(np.var(w @ x / w.sum(1)))


def crossed(x: np.ndarray, *groups: np.ndarray) -> float:
    return crossed_variance(np.array([variance_of_mean(x, g, p) for p, g in enumerate(with_crossing(groups))]))


def test_variance_of_a_mean_falls_short_by_the_known_factor() -> None:
    x = np.random.default_rng(0).normal(size=20)
    unbiased = x.var(ddof=1) / 20
    assert variance_of_mean(x, np.arange(20)) == pytest.approx(unbiased * 19 / 21, rel=0.05)


def test_crossed_groupings_count_what_neither_explains_once() -> None:
    rng = np.random.default_rng(1)
    request, template = np.repeat(np.arange(40), 30), np.tile(np.arange(30), 40)
    a, b, noise = rng.normal(size=40), rng.normal(size=30), rng.normal(size=1200)
    main = a.var() / 40 + b.var() / 30
    assert crossed(a[request] + b[template], request, template) == pytest.approx(main, rel=0.1)
    assert crossed(noise, request, template) == pytest.approx(1 / 1200, rel=0.25)
    assert variance_of_mean(a[request] + b[template], request) < 0.7 * main  # one grouping alone is too narrow


def test_cells_are_where_two_groupings_meet() -> None:
    one, other = np.array(list("aabb")), np.array([7, 8, 7, 7])
    *same, cells = with_crossing([one, other])
    assert same[0] is one
    assert same[1] is other
    assert len(set(cells.tolist())) == 3
    assert cells[2] == cells[3]
    assert with_crossing([one]) == [one]


def test_a_noisy_difference_of_variances_never_falls_below_one_grouping() -> None:
    assert crossed_variance(np.array([3.0, 2.0, 4.0])) == 3.0
    assert crossed_variance(np.array([3.0, 2.0, 1.0])) == 4.0
    assert crossed_variance(np.array([3.0])) == 3.0


def test_fewest_groups_are_those_of_the_class_that_has_fewer() -> None:
    y = np.array([1, 1, 0, 0, 0, 0])
    assert fewest_groups(y, np.arange(6)) == 2
    assert fewest_groups(y, np.array(list("aabbbb"))) == 1
    assert fewest_groups(y[:0], y[:0]) == 0
