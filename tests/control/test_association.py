"""Rank correlation of reading and steering, on orders counted by hand."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from theodolite.control.association import association
from theodolite.core.errors import UserError


def test_one_concept_is_spearman_with_its_exact_p() -> None:
    x, y = np.array([0.5, 0.6, 0.7, 0.8, 0.9]), np.array([2.0, 1.0, 3.0, 5.0, 4.0])
    found = association(x, y)
    assert found.value == pytest.approx(spearmanr(x, y).statistic) == pytest.approx(0.8)
    # of the 120 orders, 1 has sum d^2 = 0, 4 have 2 and 3 have 4: 8 with rho >= .8, and as many with rho <= -.8
    assert found.p == pytest.approx(16 / 120)
    assert found.exact
    assert found.lo < 0.8 < found.hi <= 1


def test_the_same_methods_in_every_concept_are_one_piece_of_evidence() -> None:
    x, y = np.tile([0.5, 0.6, 0.7, 0.8], (12, 1)), np.tile([1.0, 2.0, 3.0, 4.0], (12, 1))
    found = association(x, y)
    assert found.value == 1
    assert found.p == pytest.approx(2 / 24)  # not (2 / 24)^12
    assert (found.n_methods, found.n_concepts) == (4, 12)


def test_concepts_are_averaged() -> None:
    x = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]])
    y = np.array([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]])
    found = association(x, y)
    assert found.by_concept == pytest.approx((1, -1))
    assert found.value == pytest.approx(0)
    assert found.p == 1
    assert found.lo < -0.5 < 0.5 < found.hi


def test_units_of_a_concept_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3, 7))
    plain, other = association(x, y), association(x * [[1], [5], [9]], np.exp(y) * [[2], [7], [1]])
    assert (plain.value, plain.p) == (other.value, other.p)


def test_ties_share_a_rank() -> None:
    x, y = np.array([1.0, 1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0, 4.0])
    assert association(x, y).value == pytest.approx(spearmanr(x, y).statistic)


def test_many_methods_take_random_orders() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=12)
    y = x + 0.8 * rng.normal(size=12)
    found = association(x, y)
    assert not found.exact
    assert found.p == pytest.approx(spearmanr(x, y).pvalue, abs=0.02)  # scipy's is Student's approximation
    assert association(x, x).p == pytest.approx(1 / 20_000, abs=1e-4)


def test_methods_without_a_number_are_left_out() -> None:
    found = association(np.array([1.0, 2.0, np.nan, 3.0, 4.0]), np.array([1.0, 2.0, 9.0, 3.0, 4.0]))
    assert (found.value, found.n_methods, found.n_left_out) == (1.0, 4, 1)
    few = association(np.arange(3.0), np.arange(3.0))
    assert math.isnan(few.p)
    with pytest.raises(UserError, match="not of the same"):
        association(np.ones(4), np.ones(5))
