"""The smallest difference that a comparison finds, by hand and in its limits."""

import math

import pytest
from scipy.stats import t as student

from theodolite.core.detectable import Assumed, smallest_detectable
from theodolite.core.training_sets import TrainingSets


def test_smallest_detectable_by_hand_and_in_its_limits() -> None:
    # Hanley & McNeil at .85 with 100 against 100: q1 = .7391, q2 = .7811, sd of one AUROC .0273
    q1, q2 = 0.85 / 1.15, 2 * 0.85**2 / 1.85
    variance = (0.85 * 0.15 + 99 * (q1 - 0.85**2) + 99 * (q2 - 0.85**2)) / 100**2
    rows_only = smallest_detectable(100, 100, 5, Assumed(spread=0.0))
    assert rows_only == pytest.approx((student.ppf(0.975, 99) + student.ppf(0.8, 99)) * math.sqrt(variance))
    seeds_only = smallest_detectable(10**9, 10**9, 5, Assumed(spread=0.01))
    assert seeds_only == pytest.approx((student.ppf(0.975, 4) + student.ppf(0.8, 4)) * 0.01 * math.sqrt(1.2), rel=1e-3)
    assert math.isnan(smallest_detectable(100, 100, 4))


def test_a_smallest_difference_follows_the_training_sets() -> None:
    usual = smallest_detectable(100, 100, 5, Assumed(spread=0.05))
    assert smallest_detectable(100, 100, 5, Assumed(spread=0.05), training=TrainingSets(overlap=0.8)) > 1.3 * usual
    assert math.isnan(smallest_detectable(100, 100, 5, training=TrainingSets(groups=5)))
    assert math.isnan(smallest_detectable(1, 100, 5))
