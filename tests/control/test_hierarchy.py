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


def independent(effect_k: np.ndarray, se_k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Effects and the covariance of their errors, 0 beside the diagonal."""
    return effect_k, np.diag(se_k**2)


def of_independent_errors(y_k: np.ndarray, v_k: np.ndarray) -> tuple[float, float, float, float]:
    """Mean, its standard error, tau2 and Cochran's Q by the formulas for independent errors, tau2 by bisection."""

    def moments(tau2: float) -> tuple[np.ndarray, float]:
        w_k = 1 / (v_k + tau2)
        return w_k, float(w_k @ y_k / w_k.sum())

    def rises(tau2: float) -> bool:
        w_k, mu = moments(tau2)
        return bool((w_k**2 * (y_k - mu) ** 2).sum() > w_k.sum() - (w_k**2).sum() / w_k.sum())

    low, high = 0.0, 1e3
    for _ in range(200 if rises(0.0) else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if rises(middle) else (low, middle)
    w_k, mu = moments(low)
    spread = max(float(w_k @ (y_k - mu) ** 2) / (len(y_k) - 1), 1.0)
    fixed_k, fixed = moments(0.0)
    return mu, math.sqrt(spread / w_k.sum()), low, float(fixed_k @ (y_k - fixed) ** 2)


@pytest.mark.parametrize("size", [0.0, 0.1, 1.0])
def test_errors_that_are_independent_give_the_formulas_for_such(size: float) -> None:
    rng = np.random.default_rng(3)
    for concepts in (2, 3, 8, 13):
        y_k, se_k = size * rng.normal(size=concepts), rng.uniform(0.05, 1, concepts)
        found = over_concepts(*independent(y_k, se_k))
        ours = found.value, found.se, found.tau**2, found.q
        assert ours == pytest.approx(of_independent_errors(y_k, se_k**2), abs=1e-10, rel=1e-10)


def test_equal_errors_with_one_correlation_worked_by_hand() -> None:
    """Contrasts of K concepts have variance v (1 - rho), the mean v (rho + (1 - rho) / K) and tau2 / K."""
    y_k, v, rho = np.array([1.0, 2.0, 3.0, 6.0]), 0.5, 0.8
    found = over_concepts(y_k, v * (rho + (1 - rho) * np.eye(4)))
    assert found.value == pytest.approx(3)
    assert found.tau**2 == pytest.approx(14 / 3 - v * (1 - rho))
    assert found.se**2 == pytest.approx(v * rho + 14 / 3 / 4)
    assert found.q == pytest.approx(14 / (v * (1 - rho)))


def test_a_concept_that_is_there_twice_counts_once() -> None:
    once = over_concepts(np.array([1.0, 2.0, 4.0]), np.diag([0.3, 0.2, 0.1]))
    twice_kk = np.diag([0.3, 0.3, 0.2, 0.1])
    twice_kk[0, 1] = twice_kk[1, 0] = 0.3
    found = over_concepts(np.array([1.0, 1.0, 2.0, 4.0]), twice_kk)
    assert (found.value, found.se, found.tau) == pytest.approx((once.value, once.se, once.tau))
    assert (found.n, found.n_left_out) == (3, 1)


def test_two_concepts_that_err_as_one_and_differ_say_how_much_concepts_differ() -> None:
    error_kk = np.diag([0.3, 0.3, 0.3])
    error_kk[0, 1] = error_kk[1, 0] = 0.3
    found = over_concepts(np.array([1.0, 2.0, 1.5]), error_kk)
    assert found.n == 3
    assert 0 < found.tau < 1
    assert math.isfinite(found.se)
    assert found.p_same == 0


def test_what_is_no_covariance_is_refused() -> None:
    y_k = np.array([1.0, 2.0])
    with pytest.raises(UserError, match="both ways round"):
        over_concepts(y_k, np.array([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(UserError, match="both ways round"):
        over_concepts(y_k, np.array([[1.0, np.nan], [np.nan, 1.0]]))
    with pytest.raises(UserError, match="variance below 0"):
        over_concepts(y_k, np.array([[1.0, 2.0], [2.0, 1.0]]))
    # of a concept that is left out nothing is asked
    assert over_concepts(y_k, np.array([[1.0, np.nan], [np.nan, np.nan]])).n == 1


def test_published_figures_of_the_bcg_trials() -> None:
    found = over_concepts(*independent(*log_risk_ratios()))
    # metafor (Viechtbauer 2010): rma(yi, vi, method="REML") and with test="knha"
    assert found.tau**2 == pytest.approx(0.3132, abs=1e-4)
    assert found.value == pytest.approx(-0.7145, abs=1e-4)
    assert found.q == pytest.approx(152.2330, abs=1e-3)
    assert found.p_same < 0.0001
    assert (found.se, found.lo, found.hi) == pytest.approx((0.1808, -1.1084, -0.3206), abs=3e-4)


def test_equal_errors_give_a_plain_t_interval() -> None:
    y = np.array([1.0, 2.0, 3.0, 6.0])
    found = over_concepts(*independent(y, np.full(4, 0.5)))
    # equal weights: mean 3, the variance of y is tau2 + v = 14 / 3, and the interval is Student's of the four
    assert found.value == pytest.approx(3)
    assert found.tau**2 == pytest.approx(14 / 3 - 0.25)
    assert found.hi - 3 == pytest.approx(student.ppf(0.975, 3) * math.sqrt(14 / 3 / 4))


def test_concepts_that_agree_do_not_narrow_the_interval() -> None:
    found = over_concepts(*independent(np.full(5, 1.0), np.full(5, 0.5)))
    assert found.tau == 0
    assert found.se == pytest.approx(0.5 / math.sqrt(5))


def test_a_concept_without_a_number_is_counted() -> None:
    found = over_concepts(*independent(np.array([1.0, np.nan, 3.0]), np.array([0.1, 0.1, 0.1])))
    assert (found.value, found.n, found.n_left_out) == (pytest.approx(2), 2, 1)
    alone = over_concepts(*independent(np.array([1.0]), np.array([0.1])))
    assert alone.value == 1
    assert math.isnan(alone.lo)


def test_a_standard_error_of_zero_is_refused() -> None:
    with pytest.raises(UserError, match="error of 0"):
        over_concepts(*independent(np.array([1.0, 2.0]), np.array([0.0, 0.1])))
    with pytest.raises(UserError, match="a covariance for every two"):
        over_concepts(np.ones(2), np.eye(3))
