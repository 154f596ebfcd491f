"""The mean over concepts, on published figures."""

import math

import numpy as np
import pytest
from scipy.stats import t as student

from theodolite.control.hierarchy import over_concepts
from theodolite.core.errors import UserError

# Thirteen trials of the BCG vaccine against tuberculosis (Colditz et al. 1994): cases and others, treated and control.
BCG = np.array(
    [
        [4, 119, 11, 128],
        [6, 300, 29, 274],
        [3, 228, 11, 209],
        [62, 13536, 248, 12619],
        [33, 5036, 47, 5761],
        [180, 1361, 372, 1079],
        [8, 2537, 10, 619],
        [505, 87886, 499, 87892],
        [29, 7470, 45, 7232],
        [17, 1699, 65, 1600],
        [186, 50448, 141, 27197],
        [5, 2493, 3, 2338],
        [27, 16886, 29, 17825],
    ],
    float,
)


def log_risk_ratios() -> tuple[np.ndarray, np.ndarray]:
    a, b, c, d = BCG.T
    return np.log(a / (a + b) / (c / (c + d))), np.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d))


def test_published_figures_of_the_bcg_trials() -> None:
    found = over_concepts(*log_risk_ratios())
    # metafor (Viechtbauer 2010): rma(yi, vi, method="REML") and with test="knha"
    assert found.tau**2 == pytest.approx(0.3132, abs=1e-4)
    assert found.value == pytest.approx(-0.7145, abs=1e-4)
    assert found.q == pytest.approx(152.2330, abs=1e-3)
    assert found.p_same < 0.0001
    assert (found.se, found.lo, found.hi) == pytest.approx((0.1808, -1.1084, -0.3206), abs=3e-4)


def test_equal_errors_give_a_plain_t_interval() -> None:
    y = np.array([1.0, 2.0, 3.0, 6.0])
    found = over_concepts(y, np.full(4, 0.5))
    # equal weights: mean 3, the variance of y is tau2 + v = 14 / 3, and the interval is Student's of the four
    assert found.value == pytest.approx(3)
    assert found.tau**2 == pytest.approx(14 / 3 - 0.25)
    assert found.hi - 3 == pytest.approx(student.ppf(0.975, 3) * math.sqrt(14 / 3 / 4))


def test_concepts_that_agree_do_not_narrow_the_interval() -> None:
    found = over_concepts(np.full(5, 1.0), np.full(5, 0.5))
    assert found.tau == 0
    assert found.se == pytest.approx(0.5 / math.sqrt(5))


def test_a_concept_without_a_number_is_counted() -> None:
    found = over_concepts(np.array([1.0, np.nan, 3.0]), np.array([0.1, 0.1, 0.1]))
    assert (found.value, found.n, found.n_left_out) == (pytest.approx(2), 2, 1)
    alone = over_concepts(np.array([1.0]), np.array([0.1]))
    assert alone.value == 1
    assert math.isnan(alone.lo)


def test_a_standard_error_of_zero_is_refused() -> None:
    with pytest.raises(UserError, match="standard error of 0"):
        over_concepts(np.array([1.0, 2.0]), np.array([0.0, 0.1]))
    with pytest.raises(UserError, match="one of each"):
        over_concepts(np.ones(2), np.ones(3))
