"""Null directions keep nothing of the concept; plain shuffles do, at every number of texts."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from theodolite.control.nulls import (
    LEFT_OUT,
    band,
    half_differences,
    imbalance,
    random_directions,
    shuffled_labels,
    stratified_labels,
    unit,
)
from theodolite.core.errors import UserError
from theodolite.toys.shuffled_labels import shuffles

DRAWS = 300


def rms(effect: np.ndarray) -> float:
    return float(np.sqrt(np.mean(effect**2)))


@pytest.mark.parametrize("n", [60, 600])
def test_plain_shuffles_are_no_null_after_matching_and_stratified_ones_are(n: int) -> None:
    toy = shuffles(n=n)
    plain = toy.effect(toy.differences(shuffled_labels(toy.labels, DRAWS)))
    stratified = toy.effect(toy.differences(stratified_labels(toy.labels, DRAWS)))
    truth = toy.effect(toy.differences(toy.labels[None]))[0]
    # as the closed form says, and more texts do not help: matching scales part and noise up together
    assert rms(plain) == pytest.approx(toy.expected(plain=True), rel=0.1)
    assert rms(stratified) == pytest.approx(toy.expected(plain=False), rel=0.15)
    assert rms(plain) > 0.4 * truth
    assert rms(stratified) < 0.15 * truth


def test_an_unbalanced_concept_is_no_better_for_plain_shuffles() -> None:
    toy = shuffles(n=600, positives=0.2, gap=15.0)  # p (1 - p) gap^2 of variance along the concept, here 36 again
    plain = toy.effect(toy.differences(shuffled_labels(toy.labels, DRAWS)))
    stratified = toy.effect(toy.differences(stratified_labels(toy.labels, DRAWS)))
    assert rms(plain) > 3 * rms(stratified)


def test_random_directions_of_a_concepts_own_states_contain_it_unless_labels_are_given() -> None:
    toy = shuffles(n=600)
    mixed = toy.effect(random_directions(toy.rows, DRAWS))
    within = toy.effect(random_directions(toy.rows, DRAWS, label_n=toy.labels))
    assert rms(mixed) == pytest.approx(toy.expected(plain=True), rel=0.15)
    assert rms(within) == pytest.approx(toy.expected(plain=False), rel=0.15)


def test_random_directions_have_the_covariance_of_the_rows() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 4)) @ np.diag([3.0, 2.0, 1.0, 0.0]) + 100
    covariance = np.cov(rows.T)
    found = random_directions(rows, 4000)
    drawn = unit(rng.multivariate_normal(np.zeros(4), covariance, size=4000))
    assert np.linalg.norm(found, axis=1) == pytest.approx(1)
    assert found.T @ found / 4000 == pytest.approx(drawn.T @ drawn / 4000, abs=0.03)


def test_a_draw_depends_on_its_number_alone() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 5))
    assert np.array_equal(random_directions(rows, 3), random_directions(rows, 6)[:3])
    assert not np.array_equal(random_directions(rows, 3), random_directions(rows, 3, seed=1))


def test_stratified_labels_are_balanced_exactly() -> None:
    label = np.array([1] * 7 + [0] * 12)
    for found in stratified_labels(label, 20):
        assert imbalance(label, found) == 0
        assert (found == LEFT_OUT).sum() == 1  # of the seven
        assert (found == 1).sum() == (found == 0).sum() == 9


def test_stratified_labels_keep_groups_whole() -> None:
    label = np.repeat([1, 0], 30)
    group = np.repeat(np.arange(20), 3)
    for found in stratified_labels(label, 5, group_n=group):
        assert all(len(set(found[group == g])) == 1 for g in range(20))
        assert imbalance(label, found) == 0
    odd = np.repeat(np.arange(4), 15)  # two groups a class
    assert imbalance(label, stratified_labels(label, 1, group_n=odd)[0]) == 0


def test_imbalance_is_the_share_of_the_true_difference_that_is_kept() -> None:
    label = np.repeat([1, 0], 10)
    shuffled = np.array([1] * 6 + [0] * 4 + [1] * 4 + [0] * 6)
    rows = label[:, None] * np.array([[2.0, 0.0]])  # the true difference in means is (2, 0), without noise
    kept = rows[shuffled == 1].mean(0) - rows[shuffled == 0].mean(0)
    assert imbalance(label, shuffled) == pytest.approx(0.2)
    assert kept[0] == pytest.approx(0.2 * 2)


def test_halves_of_neutral_texts() -> None:
    rng = np.random.default_rng(0)
    found = half_differences(rng.normal(size=(40, 6)) + 50, np.repeat(np.arange(20), 2), DRAWS)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1)
    assert abs(found.mean(0)).max() < 0.15  # either half comes first as often: no side is favoured
    with pytest.raises(UserError, match="two groups"):
        half_differences(np.eye(2), np.zeros(2), 1)


def test_rows_that_do_not_differ_have_no_direction() -> None:
    with pytest.raises(UserError, match="no length"):
        random_directions(np.ones((5, 3)), 2)


def test_the_band_of_many_draws_is_a_quantile_with_its_order_statistics() -> None:
    effect = np.random.default_rng(0).normal(size=1000)
    found = band(effect)
    size = np.sort(abs(effect))
    assert found.rule == "quantile"
    assert found.width == pytest.approx(np.quantile(size, 0.95))
    # Binomial(1000, .95): mean 950, sd 6.9, so about the 936th and the 963rd of the sizes
    assert size[934] <= found.lo <= size[937]
    assert size[961] <= found.hi <= size[965]
    assert found.sd == pytest.approx(1, abs=0.08)
    assert found.in_sd(2.5 * found.sd) == pytest.approx(2.5)
    assert 0.5 in found
    assert -3.0 not in found


def test_the_band_of_few_draws_is_normal() -> None:
    effect = np.array([1.0, -1.0] * 6)  # root mean square 1
    found = band(np.append(effect, np.nan))
    assert (found.rule, found.n, found.n_left_out) == ("normal", 12, 1)
    assert found.width == pytest.approx(norm.ppf(0.975))
    assert found.lo == pytest.approx(1.96 * math.sqrt(12 / 23.337), rel=1e-3)  # chi-squared of 12, .975 and .025
    assert found.hi == pytest.approx(1.96 * math.sqrt(12 / 4.404), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("m", [12, 60, 100])
def test_the_interval_of_the_band_covers_the_true_one(m: int) -> None:
    truth, rng = norm.ppf(0.975), np.random.default_rng(m)
    found = [band(rng.normal(size=m)) for _ in range(400)]
    assert np.mean([b.lo <= truth <= b.hi for b in found]) >= 0.93
