"""The interval of a calibration error covers: 0 for a calibrated reader, and what is known of an overconfident one."""

import math

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from theodolite.core.calibration_error import calibration_error
from theodolite.core.metrics import ece, ece_noise
from theodolite.core.stats import Interval, Sample

SPREAD = 1.5  # of the log-odds


def truth(temperature: float) -> float:
    """The binned error of probabilities whose log-odds are `temperature` times too large, over 400,000 rows."""
    score = np.random.default_rng(99).normal(0, SPREAD, 400_000)
    return float(ece(expit(score / temperature), expit(score)))  # expected labels instead of drawn ones


def drawn(seed: int, n: int, temperature: float = 1.0, size: int = 1, seeds: int = 5, n_boot: int = 200) -> Interval:
    """Five readers of one probability each; groups of `size` rows that share three tenths of their luck."""
    rng = np.random.default_rng(seed)
    score, group = rng.normal(0, SPREAD, n), np.arange(n) // size
    luck = np.where(rng.random(n) < 0.3, rng.random(n)[group * size], rng.random(n))
    y = (luck < expit(score / temperature)).astype(int)
    sample = Sample.of(y, [group], np.ones((seeds, n), bool), n_boot=n_boot, seed=seed)
    return calibration_error(sample, np.tile(expit(score), (seeds, 1)))


def covered(temperature: float, n: int, size: int, replicates: int) -> float:
    true, found = truth(temperature), [drawn(r, n, temperature, size) for r in range(replicates)]
    return float(np.mean([i.lo <= true <= i.hi for i in found]))


@pytest.mark.parametrize("n", [174, 800])
def test_the_interval_of_a_calibrated_reader_reaches_zero(n: int) -> None:
    found = [drawn(r, n) for r in range(40)]
    assert sum(i.lo == 0 for i in found) >= 34  # 0 of 60 before; binomial(40, .95): fewer in 1 of 1,000
    plain = math.sqrt(2 * 0.17 * 10 / (math.pi * n))  # what a calibrated reader shows without a correction
    assert np.mean([i.value for i in found]) < 0.75 * plain


def test_an_overconfident_reader_is_found_out() -> None:
    found, true = [drawn(r, 800, temperature=2.0) for r in range(15)], truth(2.0)
    assert true == pytest.approx(0.096, abs=0.002)
    assert np.mean([i.value for i in found]) == pytest.approx(true, abs=0.01)
    assert sum(i.lo > 0 for i in found) >= 13
    assert sum(i.lo <= true <= i.hi for i in found) >= 13
    assert all(i.lo <= i.value <= i.hi for i in found)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("n", [175, 400, 800])
@pytest.mark.parametrize("temperature", [1.0, 1.3, 2.0])
def test_coverage(temperature: float, n: int, size: int) -> None:
    assert covered(temperature, n, size, replicates=300) >= 0.92


def test_noise_is_that_of_the_weights_and_not_of_the_reader() -> None:
    """Gaps of .5 - 1 and .5 - 0 in two bins: under weights 3 and 1 the first counts .75 instead of .5, and so on."""
    y, p = np.array([1, 0]), np.array([0.4, 0.5])
    assert ece_noise(y, p, bins=2) == 0
    # gaps as they are: -.6/2 and .5/2; under the weights: -.6 * .75 and .5 * .25
    assert ece_noise(y, p, np.array([[3.0, 1.0]]), bins=2) == pytest.approx(0.15 + 0.125)


def test_too_few_seeds_and_no_scores_give_no_interval() -> None:
    two = drawn(0, 200, seeds=2)
    assert math.isnan(two.lo)
    assert two.value > 0
    sample = Sample.of(np.array([0, 1] * 20), [np.arange(40)], np.ones((5, 40), bool), n_boot=20)
    nothing = calibration_error(sample, np.full((5, 40), np.nan))
    assert math.isnan(nothing.value)
    assert math.isnan(nothing.lo)


def test_crossed_groups_widen_it() -> None:
    """Each of 40 requests in 10 templates: luck that rows of a request share is not averaged away by templates."""
    rng = np.random.default_rng(0)
    request, template = np.repeat(np.arange(40), 10), np.tile(np.arange(10), 40)
    p = np.full((5, 400), 0.5)
    y = (rng.random(40)[request] < 0.5).astype(int)
    crossed = calibration_error(Sample.of(y, [request, template], np.ones((5, 400), bool), n_boot=300), p)
    alone = calibration_error(Sample.of(y, [np.arange(400)], np.ones((5, 400), bool), n_boot=300), p)
    assert crossed.hi - crossed.lo > 2 * (alone.hi - alone.lo)


def test_unequal_groups_widen_it() -> None:
    """The bootstrap of shares p of the rows falls short by 1 - 2 sum p^3 / sum p^2 + sum p^2 over 1 + sum p^2."""
    sizes = np.array([30, 20, *[1] * 50])
    group, y = np.repeat(np.arange(52), sizes), np.arange(100) % 2
    p = np.where(y == 1, 0.1, 0.9) + np.random.default_rng(0).uniform(0, 0.05, 100)  # far off, so that 0 is far too
    sample = Sample.of(y, [group], np.ones((5, 100), bool), n_boot=200)
    found = calibration_error(sample, np.tile(p, (5, 1)))
    noise = ece_noise(y, p, sample.weights)
    share = np.array([15, 10, *[1] * 25]) / 50  # of a class, both alike
    square, cube = (share**2).sum(), (share**3).sum() / (share**2).sum()
    short = (1 - 2 * cube + square) / (1 + square)
    reach = (noise.mean() + norm.ppf(0.975) * noise.std()) / math.sqrt(short)
    observed = float(ece(y, p))
    assert found.lo == pytest.approx(observed - reach, abs=1e-5)
    assert found.lo > 0
