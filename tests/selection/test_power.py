"""The stated power is the probability of "holds", by simulation of the test itself."""

from dataclasses import replace

import numpy as np
import pytest

from theodolite.core.metrics import mean
from theodolite.core.stats import Interval, Sample
from theodolite.core.verdict import LEVEL
from theodolite.selection.accuracies import CELLS, _claims, _power, _tested
from theodolite.selection.power import accuracies, power

ALPHA = 0.9


def figure(value: float, n: float, sd_seeds: float) -> Interval:
    sd = (value * (1 - value) / n) ** 0.5
    df = (sd**2 + sd_seeds**2) ** 2 / (sd**4 / n + sd_seeds**4 / 4) if sd_seeds else n
    return Interval(value, value, value, int(n), int(n), 0, sd, sd_seeds, 0.0, 0.0, df, 5, 0.5)


def drawn(rng: np.random.Generator, n: int, accuracy: float, sd_seeds: float) -> dict[str, Interval]:
    """The four cells of one study: n rows of each label, wrong with 1 - accuracy, which differs between studies."""
    true = np.clip(accuracy + sd_seeds * rng.normal(size=2), 0, 1)
    wrong = rng.binomial(n, 1 - true)
    right = n - wrong
    predicted = right + wrong[::-1]
    of = [*zip(right, [n, n], strict=True), *zip(right, predicted, strict=True)]
    return {c: figure(r / m, m, sd_seeds) for c, (r, m) in zip(CELLS, of, strict=True)}


@pytest.mark.parametrize(
    ("n", "accuracy", "sd_seeds", "family"),
    [(90, 0.95, 0.0, 1), (200, 0.95, 0.005, 1), (200, 0.98, 0.005, 1), (330, 0.98, 0.01, 15), (600, 0.95, 0.01, 1)],
)
def test_power_is_how_often_a_claim_holds(n: int, accuracy: float, sd_seeds: float, family: int) -> None:
    rng = np.random.default_rng(0)
    studies = [drawn(rng, n, accuracy, sd_seeds) for _ in range(400)]
    holds = np.mean([_tested("m", "d", cells, ALPHA).p_holds < LEVEL / family for cells in studies])
    claim = replace(_tested("m", "d", studies[0], ALPHA), family=family)
    stated = np.mean([_power(cells, claim)[f"{accuracy:g}"] for cells in studies[:10]])
    assert stated == pytest.approx(holds, abs=0.09)


def test_every_claim_states_its_power_at_two_true_accuracies() -> None:
    few, many = (drawn(np.random.default_rng(1), n, 0.97, 0.002) for n in (60, 1500))
    small, large = _claims({("lat", "a"): few, ("lat", "b"): many}, ALPHA)
    assert list(small.power) == ["0.95", "0.98"]
    assert small.power["0.95"] < 0.1 < 0.9 < large.power["0.95"]
    assert small.power["0.98"] >= small.power["0.95"]
    alone = _claims({("lat", "a"): few}, ALPHA)[0]
    assert alone.power["0.98"] > small.power["0.98"]  # nothing to correct for
    assert accuracies(0.7) == [0.85, 0.94]


def test_with_too_few_training_sets_or_an_empty_cell_no_claim_can_hold() -> None:
    cells = drawn(np.random.default_rng(1), 1000, 0.98, 0.002)
    assert power({c: replace(f, n_seeds=4) for c, f in cells.items()}, ALPHA, 0.98, 0.5) == 0
    empty = cells | {"predicted_1": replace(cells["predicted_1"], value=float("nan"))}
    assert power(empty, ALPHA, 0.98, 0.5) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("n", "accuracy", "family"), [(284, 0.95, 1), (656, 0.95, 1), (656, 0.98, 15)])
def test_power_of_whole_studies(n: int, accuracy: float, family: int) -> None:
    """With rows, refits and the bootstrap: what is measured varies, and power is right on average."""
    holds, stated = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        y, luck = (rng.random(n) < 0.5).astype(int), rng.normal(size=n)
        drift = 0.01 * rng.normal() + 0.01 * rng.normal(size=(5, 1))
        own = 0.8**0.5 * luck + 0.2**0.5 * rng.normal(size=(5, n))
        right = (own < np.quantile(rng.normal(size=100_000), np.clip(accuracy + drift, 0, 1))).astype(float)
        predicted = np.where(right > 0, y, 1 - y)
        sample = Sample.of(np.zeros_like(y), [np.arange(n)], np.ones((5, n), bool), n_boot=200, seed=seed)
        masks = [y == 0, y == 1, predicted == 0, predicted == 1]
        cells = {
            c: sample.estimate(mean, np.where(m, right, np.nan)).interval() for c, m in zip(CELLS, masks, strict=True)
        }
        claim = _tested("m", "d", cells, ALPHA)
        holds.append(claim.p_holds < LEVEL / family)
        stated.append(_power(cells, replace(claim, family=family))[f"{accuracy:g}"])
    assert np.mean(stated) == pytest.approx(np.mean(holds), abs=0.15)
