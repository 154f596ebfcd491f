"""Rank correlation of a few methods: its interval covers the true value, and what so few methods can show."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from theodolite.core.metrics import mean
from theodolite.core.stats import Sample
from theodolite.core.training_sets import TrainingSets
from theodolite.debate.joined import axis
from theodolite.debate.ranks import Axis, correlate, may_be_best, needed, rank_correlation


def test_it_is_spearmans_with_ties_and_without() -> None:
    rng = np.random.default_rng(0)
    for ties in (False, True):
        x, y = (rng.normal(size=(20, 7)).round(0 if ties else 9) for _ in range(2))
        wanted = [spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
        np.testing.assert_allclose(rank_correlation(x, y), wanted, atol=1e-12)


@pytest.mark.parametrize(("m", "least"), [(4, np.nan), (5, 1.0), (6, 0.886), (7, 0.786), (8, 0.738)])
def test_the_smallest_correlation_that_chance_seldom_reaches(m: int, least: float) -> None:
    """The two-sided 5 % critical values of Zar (1972), as in every table of Spearman's coefficient."""
    assert needed(m) == pytest.approx(least, abs=5e-4, nan_ok=True)


def covered(true: float, noise: float, m: int = 6, n: int = 200) -> tuple[float, float]:
    """Share of simulated studies whose interval covers the true correlation, and that excludes 0 at its lower end."""
    rng = np.random.default_rng(0)
    inside = above = 0
    for _ in range(n):
        x = rng.normal(size=m)
        y = true * x + np.sqrt(1 - true**2) * rng.normal(size=m)
        seen = [a + noise * rng.normal(size=m) for a in (x, y)]
        axes = [Axis(a, a + noise * rng.normal(size=(250, m))) for a in seen]
        found, wanted = correlate(*axes), float(rank_correlation(x[None], y[None])[0])
        inside += found.lo - 1e-9 <= wanted <= found.hi + 1e-9
        above += found.lo > 0
    return inside / n, above / n


@pytest.mark.parametrize(("true", "noise"), [(1.0, 0.1), (1.0, 0.6), (0.6, 0.3), (0.0, 0.3), (-1.0, 0.6)])
def test_the_interval_covers_the_true_correlation(true: float, noise: float) -> None:
    """Of 200 studies at a coverage of .95 fewer than 182 are one in a hundred."""
    assert covered(true, noise)[0] >= 0.91


@pytest.mark.slow
@pytest.mark.parametrize("m", [5, 7])
@pytest.mark.parametrize("true", [1.0, 0.9, 0.6, 0.0, -1.0])
@pytest.mark.parametrize("noise", [0.05, 0.2, 0.5, 1.0])
def test_the_interval_covers_at_other_sizes_and_errors(m: int, true: float, noise: float) -> None:
    """Of 300 studies at a coverage of .95 fewer than 276 are one in a hundred."""
    assert covered(true, noise, m=m, n=300)[0] >= 0.92


def of_three_fits(rng: np.random.Generator, true_m: np.ndarray, refits: float, name: str) -> Axis:
    """Effects of methods on 100 openings by three fits on halves of a pool of 80, drawn as a debate draws them."""
    methods, pool, openings = len(true_m), 80, 100
    member = np.array([rng.permutation(pool) < pool // 2 for _ in range(3)])
    influence = rng.normal(size=(pool, methods)) * refits * (pool / 2) ** 0.5
    added = np.array([influence[one].mean(0) for one in member])
    own = 0.7 * rng.normal(size=(openings, 1)) + 0.7 * rng.normal(size=(openings, methods))
    effect = true_m + added[:, None] + own + 0.3 * rng.normal(size=(3, openings, methods))
    training = TrainingSets.measured(member, np.arange(pool), np.zeros(pool), np.zeros(pool, bool))
    asked, group = np.ones((3, openings), bool), [np.arange(openings)]
    sample = Sample.of(np.zeros(openings), group, asked, training=training, n_boot=500, seed=int(rng.integers(2**31)))
    return axis([[sample.estimate(mean, effect[..., k])] for k in range(methods)], 3, name)


def with_three_fits(true: float, refits: float, n: int) -> float:
    """Share of studies whose interval covers, where one quantity is of three fits."""
    rng, inside = np.random.default_rng(0), 0
    for study in range(n):
        x = rng.normal(size=6)
        y = true * x + np.sqrt(1 - true**2) * rng.normal(size=6)
        seen = x + 0.1 * rng.normal(size=6)
        drawn = Axis(seen, seen + 0.1 * rng.normal(size=(500, 6)))
        found = correlate(drawn, of_three_fits(rng, y, refits, f"study {study}"))
        wanted = float(rank_correlation(x[None], y[None])[0])
        inside += found.lo - 1e-9 <= wanted <= found.hi + 1e-9
    return inside / n


def test_the_interval_covers_with_three_fits() -> None:
    """Of 20 studies at a coverage of .95 fewer than 16 are one in a thousand."""
    assert with_three_fits(0.6, 0.5, 20) >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("true", [1.0, 0.6])
@pytest.mark.parametrize("refits", [0.1, 0.5, 1.0])
def test_the_interval_covers_with_three_fits_in_many_studies(true: float, refits: float) -> None:
    """Of 200 studies at a coverage of .95 fewer than 180 are one in a thousand."""
    assert with_three_fits(true, refits, 200) >= 0.9


def test_the_interval_finds_an_order_that_is_there() -> None:
    assert covered(1.0, 0.1)[1] > 0.95
    assert covered(0.0, 0.6)[1] < 0.05


def test_three_methods_say_nothing() -> None:
    three = Axis(np.arange(3.0), np.tile(np.arange(3.0), (9, 1)))
    assert np.isnan(correlate(three, three).value)


def test_the_methods_that_may_be_best_hold_the_best_one() -> None:
    rng = np.random.default_rng(0)
    true, lost, named = np.array([1.0, 0.9, 0.5, 0.0]), 0, 0
    for _ in range(300):
        seen = true + 0.15 * rng.normal(size=4)
        found = may_be_best(Axis(seen, seen + 0.15 * rng.normal(size=(400, 4))))
        lost += not found[0]
        named += int(found.sum())
    assert lost / 300 < 0.04
    assert named / 300 < 3  # it names fewer than all
