"""Means, shares, contrasts, doses and sizes elsewhere of steering effects, on numbers worked by hand."""

import math
from itertools import pairwise

import numpy as np
import pytest

from theodolite.control.statistics import (
    both_signs,
    cell,
    contrast,
    decide,
    dose,
    mean_effect,
    one_fit,
    share,
    size_elsewhere,
    slopes,
    spearman,
)
from theodolite.core.errors import UserError
from theodolite.core.training_sets import TrainingSets

APART = TrainingSets(overlap=0.0)


def test_the_interval_of_one_fit_is_students() -> None:
    effect = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    found = mean_effect(effect, np.arange(5))
    # mean 3, sd sqrt(2.5), standard error sqrt(.5), t_4 = 2.776; the bootstrap of 2,000 draws has an error of 2 %
    assert found.value == 3
    assert found.df == 4
    assert found.sd == pytest.approx(math.sqrt(0.5), rel=0.05)
    assert found.hi - found.value == pytest.approx(2.776 * found.sd, rel=1e-3)
    assert one_fit(found)


def test_openings_of_one_group_count_as_one() -> None:
    single = np.repeat([1.0, 2.0, 3.0, 4.0], 1)
    doubled = np.repeat(single, 2)
    found = mean_effect(doubled, np.repeat(np.arange(4), 2))
    assert found.n == 8
    assert found.n_groups == 4
    assert found.df == 3
    assert found.sd == pytest.approx(math.sqrt(5 / 3 / 4), rel=0.05)


def test_refits_widen_the_interval_by_their_scatter() -> None:
    # three fits, each a constant over openings: nothing varies but the fits, 1, 2, 3 with variance 1
    effect = np.repeat([[1.0], [2.0], [3.0]], 20, axis=1)
    found = mean_effect(effect, np.arange(20), training=APART)
    assert found.sd_rows == pytest.approx(0, abs=1e-6)
    assert found.sd == pytest.approx(math.sqrt(1 / 3), rel=1e-5)
    assert found.df == pytest.approx(2, rel=1e-3)
    assert found.hi - 2 == pytest.approx(4.303 * math.sqrt(1 / 3), rel=1e-3)
    halves = mean_effect(effect, np.arange(20))  # halves of one pool: 1/3 + 1 in place of 1/3
    assert halves.sd == pytest.approx(math.sqrt(4 / 3), rel=1e-5)
    assert not one_fit(halves)


def test_an_interval_of_nats_is_not_cut_at_one() -> None:
    found = mean_effect(np.array([5.0, 7.0, 6.0, 8.0]), np.arange(4))
    assert 1 < found.lo < 6.5 < found.hi


def test_unscored_openings_are_counted() -> None:
    found = mean_effect(np.array([1.0, np.nan, 3.0]), np.arange(3))
    assert (found.value, found.n, found.n_unscored) == (2.0, 2, 1)


def test_two_fits_have_no_interval() -> None:
    found = mean_effect(np.random.default_rng(0).normal(size=(2, 20)), np.arange(20))
    assert math.isnan(found.lo)
    assert "at least 3 fits" in found.reason


def test_one_group_has_no_interval_and_says_why() -> None:
    found = mean_effect(np.array([1.0, 2.0]), np.array([0, 0]))
    assert math.isnan(found.lo)
    assert "1.0 effective groups" in found.reason
    assert decide([found], margin=0.1)[0].needs.code == "no interval"


def test_a_cell_asks_a_fall_of_a_negative_strength() -> None:
    found = cell(np.array([-1.0, -2.0, 3.0, 0.0]), -1, np.arange(4))
    assert found.effect.value == 0
    assert found.right_share.value == 0.5
    assert found.wrong_way.value == 0.25
    with pytest.raises(UserError, match="sign=0"):
        cell(np.array([1.0]), 0, np.arange(1))


def test_a_share_of_all_keeps_room_for_what_groups_hide() -> None:
    found = share(np.ones(100), np.arange(100))
    assert found.value == 1
    assert found.hi == 1
    assert found.lo == pytest.approx(0.964, abs=0.001)  # Clopper and Pearson: 1 - .025^(1/100) = .036


def test_both_signs_cancels_what_they_share() -> None:
    assert both_signs(np.array([3.0]), np.array([-1.0])).tolist() == [2.0]


def test_a_contrast_is_paired() -> None:
    rng = np.random.default_rng(0)
    opening = 10 * rng.normal(size=60)
    one, other = opening + 0.5 + 0.1 * rng.normal(size=60), opening + 0.1 * rng.normal(size=60)
    found = contrast(one, other, np.arange(60))
    assert found.sd == pytest.approx(0.1 * math.sqrt(2 / 60), rel=0.3)
    assert mean_effect(one, np.arange(60)).sd > 1
    with pytest.raises(UserError, match="not of the same"):
        contrast(one, other[:-1], np.arange(60))


def test_words_of_a_family() -> None:
    spread = np.linspace(-0.5, 0.5, 60)
    groups = np.arange(60)
    at = {"better": 0.5, "worse": -0.5, "equivalent": 0.0, "undecided": -0.08}
    found = {word: contrast(spread + shift, np.zeros(60), groups) for word, shift in at.items()}
    found["undecided"] = contrast(3 * spread - 0.1, np.zeros(60), groups)
    verdicts = decide(list(found.values()), margin=0.2)
    assert [v.word for v in verdicts] == list(found)
    assert verdicts[3].needs.code == "more"


def test_what_would_decide_is_what_a_power_formula_says() -> None:
    # sd .29 of a uniform on [-.5, .5], mean .05: (1.96 + .8416)^2 (.29 / .05)^2 = 266 openings in place of 60
    d = contrast(np.linspace(-0.45, 0.55, 60), np.zeros(60), np.arange(60))
    (found,) = decide([d], margin=0.01)
    assert found.word == "undecided"
    assert found.needs.rows == pytest.approx(266, rel=0.1)


def test_holm_makes_a_family_stricter() -> None:
    rng = np.random.default_rng(3)
    one = contrast(rng.normal(size=40) + 0.5, np.zeros(40), np.arange(40))
    alone = decide([one], margin=0.01)[0]
    assert alone.word == "better"
    together = decide([one] * 10, margin=0.01)[0]
    assert together.p_different == pytest.approx(10 * alone.p)
    assert together.word == "undecided"


def test_a_margin_must_be_positive() -> None:
    with pytest.raises(UserError, match="margin=0"):
        decide([], margin=0)


def test_slopes_are_least_squares() -> None:
    strength = np.array([-2.0, 0.0, 1.0, 3.0])
    rng = np.random.default_rng(0)
    effect = rng.normal(size=(4, 5))
    assert slopes(effect, strength) == pytest.approx(np.polyfit(strength, effect, 1)[0])
    with pytest.raises(UserError, match="two different strengths"):
        slopes(effect, np.ones(4))


def test_spearman_of_the_mean_effect() -> None:
    strength = np.array([-1.0, 0.0, 1.0, 2.0])
    effect = np.array([-1.0, 0.0, 2.0, 1.0])[:, None] + np.zeros(10)
    found = spearman(effect, strength, np.arange(10))
    assert found.value == found.lo == found.hi == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    noisy = spearman(effect + 3 * np.random.default_rng(0).normal(size=(4, 10)), strength, np.arange(10))
    assert noisy.lo < noisy.value < noisy.hi


STRENGTH = np.array([-0.3, -0.1, -0.03, 0.0, 0.03, 0.1, 0.3])
JITTER = np.linspace(-0.01, 0.01, 12)


@pytest.mark.parametrize(
    ("curve", "word", "why"),
    [
        (np.sign(STRENGTH) * np.sqrt(abs(STRENGTH)), "control", ""),
        (np.sqrt(abs(STRENGTH)), "damage, not control", "same direction"),
        (-np.sqrt(abs(STRENGTH)), "damage, not control", "same direction"),
        (-STRENGTH, "damage, not control", "wrong way"),
        (np.maximum(STRENGTH, 0), "damage, not control", "one sign"),
        (np.array([-0.1, -0.5, -1.0, 0.0, 1.0, 0.5, 0.1]), "damage, not control", "not monotone"),
        (np.zeros(7), "no effect shown", "inside the noise"),
    ],
)
def test_the_word_of_a_dose(curve: np.ndarray, word: str, why: str) -> None:
    found = dose(curve[:, None] + np.where(STRENGTH == 0, 0, 1)[:, None] * JITTER, STRENGTH, np.arange(12))
    assert (found.word, found.why) == (word, why)


def test_a_dose_tells_the_share_that_falls() -> None:
    effect = STRENGTH[:, None] * np.array([1.0, 1.0, 1.0, -0.5])
    found = dose(effect, STRENGTH, np.arange(4))
    assert found.slope.value == pytest.approx(0.625)
    assert found.falling.value == 0.25


def test_a_dose_needs_both_signs() -> None:
    with pytest.raises(UserError, match="both signs"):
        dose(np.ones((2, 3)), np.array([0.1, 0.3]), np.arange(3))


def test_the_size_elsewhere_is_that_of_the_means() -> None:
    others = np.array([np.full(6, -2.0), np.tile([5.0, -5.0], 3)])  # the second moves nothing on average
    found = size_elsewhere(others, np.arange(6))
    assert found.value == pytest.approx(1)
    assert found.hi > 1.5  # scatter of the second concept is in the interval
    # an opening that lacks an effect on one concept is left out for all
    lacking = np.column_stack([others, [100.0, np.nan]])
    again = size_elsewhere(lacking, np.arange(7))
    assert (again.value, again.n, again.n_groups) == (pytest.approx(1), 6, 6)
    assert np.isnan(size_elsewhere(np.full((2, 3), np.nan), np.arange(3)).value)
    assert np.isnan(size_elsewhere(others, np.zeros(6)).hi)
    with pytest.raises(UserError, match="other concept"):
        size_elsewhere(np.zeros((0, 6)), np.arange(6))


def test_a_rerun_and_another_order_give_the_same_interval() -> None:
    rng = np.random.default_rng(1)
    effect, group = rng.normal(size=30), np.repeat(np.arange(10), 3)
    order = rng.permutation(30)
    first, again, shuffled = (mean_effect(e, g) for e, g in [(effect, group)] * 2 + [(effect[order], group[order])])
    assert (first.lo, first.hi) == (again.lo, again.hi)
    assert all(a == pytest.approx(b, rel=1e-5) for a, b in pairwise([first.lo, shuffled.lo]))
