import doctest
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from scipy.stats import t as student

from theodolite.core.metrics import auroc, brier, mean
from theodolite.core.stats import Estimate, Sample
from theodolite.core.training_sets import TrainingSets
from theodolite.core.verdict import Needs, verdicts

ROOT = Path(__file__).parents[2]


def sample(n: int = 120, n_seeds: int = 5, asked: np.ndarray | None = None, **options: float) -> Sample:
    y = np.arange(n) % 4 // 2
    asked = np.ones((n_seeds, n), bool) if asked is None else asked
    return Sample.of(y, [np.arange(n) // 2], asked, n_boot=400, **options)  # type: ignore[arg-type]


def scores(of: Sample, noise: float = 1.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    base = of.y + rng.normal(size=len(of.y))
    return base + noise * rng.normal(size=of.asked.shape)


def fixed(
    seeds: list[float], *, overlap: float = 0.5, df_share: float = 1.0, shared: bool = True, luck: float = 0.0
) -> Estimate:
    """Seeds as given; rows that move all seeds together by sd .01, and each on its own by sd `luck`."""
    rng = np.random.default_rng(0)
    common, own = rng.normal(size=20_000), rng.normal(size=(len(seeds), 20_000))
    own -= own.mean(0)
    draws = np.array(seeds)[:, None] + 0.01 * common + luck * own
    return Estimate(np.array(seeds), draws[:, None, :], 1000, (10**6,), 0, shared, TrainingSets(overlap, df_share))


def test_the_point_is_the_mean_of_the_seeds_metrics() -> None:
    s = sample()
    x = scores(s)
    assert s.estimate(auroc, x).interval().value == pytest.approx(np.mean([auroc(s.y, row) for row in x]))


def test_a_row_that_five_seeds_have_scored_is_one_row() -> None:
    five, one = sample(n_seeds=5), sample(n_seeds=1)
    x = scores(one)
    repeated, single = five.estimate(auroc, np.repeat(x, 5, axis=0)), one.estimate(auroc, x)
    assert repeated.interval().sd_rows == pytest.approx(single.interval().sd_rows)
    assert repeated.interval().sd_seeds == 0
    assert repeated.n == 120
    assert repeated.n_groups == 30  # 60 pairs, half of them of either class


def test_groups_of_alike_rows_widen_the_interval() -> None:
    y = np.repeat(np.arange(40) % 2, 5)
    x = np.repeat(np.random.default_rng(0).normal(size=(5, 40)), 5, axis=1) + y
    asked = np.ones((5, 200), bool)
    grouped = Sample.of(y, [np.repeat(np.arange(40), 5)], asked).estimate(auroc, x).interval()
    alone = Sample.of(y, [np.arange(200)], asked).estimate(auroc, x).interval()
    assert grouped.sd_rows / alone.sd_rows == pytest.approx(math.sqrt(5), rel=0.15)


def test_unscored_is_counted_and_unasked_is_not() -> None:
    asked = np.zeros((5, 120), bool)
    for s in range(5):
        asked[s, 20 * s : 20 * s + 40] = True  # each seed has test rows of its own
    bench = sample(asked=asked)
    x = scores(bench)
    assert bench.estimate(auroc, x).n_unscored == 0
    x[0, 3] = x[1, 25] = x[2, 0] = np.nan  # the last was not asked
    e = bench.estimate(auroc, x)
    assert (e.n, e.n_unscored) == (119, 2)  # row 25 is still scored by seed 0
    assert e.seeds[0] == pytest.approx(auroc(bench.y[:40], x[0, :40]))


def test_a_paired_difference_uses_the_rows_both_have_scored() -> None:
    s = sample()
    a, b = scores(s, seed=1), scores(s, seed=2)
    a[:, :10], b[:, 10:30] = np.nan, np.nan
    d = s.paired(auroc, a, b)
    assert (d.n, d.n_unscored) == (90, 30)
    assert d.seeds[2] == pytest.approx(auroc(s.y[30:], a[2, 30:]) - auroc(s.y[30:], b[2, 30:]))
    np.testing.assert_allclose(s.paired(auroc, b, a).draws, -d.draws)


def test_pairing_cancels_what_two_methods_share() -> None:
    s = sample()
    a = scores(s, noise=0)
    b = a + 0.3 * scores(s, seed=9)
    apart = math.hypot(s.estimate(auroc, a).interval().sd_rows, s.estimate(auroc, b).interval().sd_rows)
    assert s.paired(auroc, a, b).interval(bounded=False).sd_rows < 0.6 * apart
    same = s.paired(auroc, a, a).interval(bounded=False)
    assert (same.value, same.lo, same.hi, same.sd) == (0, 0, 0, 0)


def test_estimates_on_other_rows_are_not_subtracted() -> None:
    s = sample()
    x = scores(s)
    fewer = np.where(np.arange(120) < 6, np.nan, x)
    with pytest.raises(AssertionError, match="same rows"):
        s.estimate(auroc, x) - s.estimate(auroc, fewer)


def test_seeds_add_their_scatter_and_what_the_shared_pool_hides() -> None:
    seeds = [0.80, 0.82, 0.84, 0.86, 0.88]
    s2 = np.var(seeds, ddof=1)
    assert s2 == pytest.approx(0.001)
    assert fixed(seeds).interval().sd_seeds ** 2 == pytest.approx(s2 * (1 / 5 + 1))
    assert fixed(seeds, overlap=0.0).interval().sd_seeds ** 2 == pytest.approx(s2 / 5)
    assert fixed(seeds).interval().sd_rows == pytest.approx(0.01, rel=0.02)
    assert fixed(seeds).interval().spread == pytest.approx(math.sqrt(s2))


def test_luck_of_own_test_rows_is_not_counted_twice() -> None:
    seeds = [0.80, 0.82, 0.84, 0.86, 0.88]
    s2 = np.var(seeds, ddof=1)
    some = fixed(seeds, shared=False, luck=0.02).interval()
    assert some.sd_seeds**2 == pytest.approx((s2 - 0.02**2) * 1.2, rel=0.03)
    assert some.sd_refits == some.sd_seeds
    assert fixed(seeds, shared=False, luck=0.1).interval().sd_seeds ** 2 == pytest.approx(s2 / 10)  # the floor
    on_a_shift = fixed(seeds, shared=True, luck=0.02).interval()
    assert on_a_shift.sd_seeds**2 == pytest.approx(s2 * 1.2)
    assert on_a_shift.sd_refits**2 == pytest.approx((s2 - 0.02**2) * 1.2, rel=0.03)


def test_the_interval_is_students_with_satterthwaites_freedom() -> None:
    i = fixed([0.80, 0.82, 0.84, 0.86, 0.88]).interval(bounded=False)
    df = i.sd**4 / (i.sd_rows**4 / (10**6 - 1) + i.sd_seeds**4 / 4)
    assert i.df == pytest.approx(df)
    assert 4 < i.df < 5
    assert i.hi - i.value == pytest.approx(student.ppf(0.975, df) * i.sd)
    assert i.value - i.lo == pytest.approx(i.hi - i.value)


def test_fewer_than_five_seeds_are_points() -> None:
    i = fixed([0.80, 0.82, 0.84, 0.86]).interval()
    assert i.value == pytest.approx(0.83)
    assert math.isnan(i.lo)
    assert math.isnan(i.hi)
    assert i.sd_seeds > 0
    assert math.isnan(fixed([0.8]).interval().sd)


def test_bounded_intervals_stay_inside_and_a_perfect_score_has_one() -> None:
    near = fixed([0.995, 0.999, 0.998, 0.997, 0.999]).interval()
    assert 0 < near.lo < near.value < near.hi < 1
    assert near.value - near.lo > near.hi - near.value
    perfect = replace(fixed([1.0] * 5), draws=np.ones((5, 1, 10)), groups=(50,)).interval()
    assert (perfect.lo, perfect.hi) == (pytest.approx(0.025 ** (1 / 50)), 1.0)
    nearly = replace(fixed([0.9999] * 5), draws=np.full((5, 1, 10), 0.9999), groups=(50,)).interval()
    assert nearly.lo == perfect.lo  # nearer to perfect than 50 groups can tell
    none = replace(fixed([0.0] * 5), draws=np.zeros((5, 1, 10)), groups=(50,)).interval()
    assert (none.lo, none.hi) == (0.0, pytest.approx(1 - 0.025 ** (1 / 50)))


def test_bounded_intervals_are_wilsons_where_rows_are_independent() -> None:
    value, n = 0.9, 200
    estimate = fixed([value] * 5)
    draws = value + math.sqrt(value * (1 - value) / n) * np.random.default_rng(0).normal(size=(1, 1, 100_000))
    i = replace(estimate, draws=np.repeat(draws, 5, axis=0), groups=(10**6,)).interval()
    wilson = binomtest(int(value * n), n).proportion_ci(method="wilson")
    assert (i.lo, i.hi) == (pytest.approx(wilson.low, abs=1e-3), pytest.approx(wilson.high, abs=1e-3))


def perfect_and(other: float, per_class: int, repeat: int) -> Estimate:
    """A reader that never fails minus one whose true AUROC is `other`, on `per_class` rows of either class."""
    rng = np.random.default_rng(repeat)
    y = np.repeat([0, 1], per_class)
    sample = Sample.of(y, [np.arange(2 * per_class)], np.ones((5, 2 * per_class), bool), n_boot=200, seed=repeat)
    never = np.repeat(np.where(y == 1, 9.0, -9.0)[None], 5, axis=0)
    fails = rng.random(2 * per_class) < 1 - other  # half of its failures are of one class, and cost that class's rank
    return sample.paired(auroc, never, 2 * np.where(fails, -never, never))


def test_two_readers_without_failures_are_not_called_equivalent_on_few_rows() -> None:
    words = [verdicts([perfect_and(0.97, 20, r).interval(bounded=False)])[0].word for r in range(30)]
    assert "equivalent" not in words
    many = [verdicts([perfect_and(1.0, 400, r).interval(bounded=False)])[0].word for r in range(3)]
    assert many == ["equivalent"] * 3


def test_nothing_scored_is_nan_everywhere() -> None:
    s = sample()
    i = s.estimate(brier, np.full((5, 120), np.nan)).interval()
    assert math.isnan(i.value)
    assert math.isnan(i.lo)
    assert (i.n, i.n_unscored) == (0, 120)


def test_take_keeps_rows_and_weights_together() -> None:
    s = sample()
    rows = np.flatnonzero(s.y == 1)
    part = s.take(rows)
    np.testing.assert_array_equal(part.weights, s.weights[:, rows])
    assert part.estimate(brier, np.full((5, len(rows)), 0.5)).n == 60


def test_docs_example_runs() -> None:
    result = doctest.testfile(str(ROOT / "docs" / "statistics.md"), module_relative=False)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("value", [0.0, 0.001, 0.03, 0.3])
def test_a_metric_whose_perfect_end_is_zero_is_guarded_like_one_whose_is_one(value: float) -> None:
    """One false positive in many rows says no more than none: 100 groups can hide 3.6 %."""
    low = replace(fixed([value] * 5), draws=np.full((5, 1, 10), value), groups=(100,))
    high = replace(low, seeds=1 - low.seeds, draws=1 - low.draws)
    one, other = low.interval(), high.interval()
    assert (one.lo, one.hi) == (pytest.approx(1 - other.hi), pytest.approx(1 - other.lo))
    assert one.hi == pytest.approx(max(value, 1 - 0.025 ** (1 / 100)))


def test_two_detectors_without_false_positives_are_not_known_to_be_equal() -> None:
    y, groups = np.zeros(60, int), [np.arange(60)]
    sample = Sample.of(y, groups, np.ones((5, 60), bool), n_boot=200)

    def rate(y: np.ndarray, alarms: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        return (
            np.average(np.broadcast_to(alarms, (len(weights), 60)), 1, weights)
            if weights is not None
            else alarms.mean()
        )

    never, once = np.zeros((5, 60)), np.zeros((5, 60))
    once[0, 0] = 1.0
    found = sample.paired(rate, never, once).interval(bounded=False)
    assert found.hi - found.lo > 2 * (1 - 0.025 ** (1 / 60))


def binormal_pair(auroc_of_both: float, per_class: int, repeat: int) -> Estimate:
    """Two methods of one AUROC whose scores correlate at .5."""
    rng = np.random.default_rng([repeat, per_class])
    y = np.repeat([0, 1], per_class)
    shared, own = rng.normal(size=2 * per_class), rng.normal(size=(2, 2 * per_class))
    height = math.sqrt(2) * norm.ppf(auroc_of_both) * y
    one, other = (np.repeat((height + math.sqrt(0.5) * (shared + e))[None], 5, axis=0) for e in own)
    sample = Sample.of(y, [np.arange(2 * per_class)], np.ones((5, 2 * per_class), bool), n_boot=400, seed=repeat)
    return sample.paired(auroc, one, other)


def test_near_one_a_difference_is_covered_and_equivalence_can_be_reached() -> None:
    """The floor of version 0.1.0 was several times the standard error here: never equivalent."""
    found = [binormal_pair(0.995, 200, r).interval(bounded=False) for r in range(40)]
    assert np.mean([d.lo <= 0 <= d.hi for d in found]) >= 0.92
    assert np.mean([verdicts([d])[0].word == "equivalent" for d in found]) > 0.6


def test_rare_failures_that_cost_the_whole_rank_are_not_called_equivalent() -> None:
    """1 % of all rows turned over is a difference of .02, the margin: at most one in twenty may be equivalent."""
    words = [verdicts([perfect_and(0.98, 100, r).interval(bounded=False)])[0].word for r in range(60)]
    assert words.count("equivalent") <= 3


def test_unequal_groups_widen_as_a_mean_of_them_does() -> None:
    """The mean of clusters of unequal size: variance and coverage against what many fresh samples show."""
    sizes = np.array([40, 20, 10, *[5] * 8, *[1] * 30])
    group = np.repeat(np.arange(len(sizes)), sizes)
    values, errors = [], []
    for repeat in range(300):
        x = np.random.default_rng(repeat).normal(size=len(sizes))[group]
        s = Sample.of(np.zeros(len(group), int), [group], np.ones((5, len(group)), bool), n_boot=200, seed=repeat)
        i = s.estimate(mean, np.repeat(x[None], 5, axis=0)).interval(bounded=False)
        values.append(i.value)
        errors.append(i.sd_rows**2)
    assert i.n_groups * i.balance == pytest.approx(sizes.sum() ** 2 / (sizes**2).sum(), rel=1e-6)
    assert np.mean(errors) == pytest.approx(np.var(values), rel=0.2)


def test_one_group_has_no_interval_and_says_why() -> None:
    y = np.arange(40) % 2
    s = Sample.of(y, [np.zeros(40, int)], np.ones((5, 40), bool), n_boot=50)
    i = s.estimate(auroc, scores(s)).interval()
    assert math.isnan(i.lo)
    assert i.reason == "the rows of a class weigh as 1.0 effective groups, and an interval needs 2"
    d = s.paired(auroc, scores(s), scores(s, seed=1)).interval(bounded=False)
    v = verdicts([d])[0]
    assert (v.word, v.needs) == ("undecided", Needs("no interval", reason=i.reason))


def test_training_sets_of_few_groups_give_no_interval() -> None:
    few = replace(fixed([0.80, 0.82, 0.84, 0.86, 0.88]), training=TrainingSets(groups=5.2)).interval()
    assert math.isnan(few.lo)
    assert few.sd > 0
    assert "5.2 effective groups" in few.reason


def test_fewer_degrees_of_freedom_of_the_scatter_widen_the_interval() -> None:
    seeds = [0.80, 0.82, 0.84, 0.86, 0.88]
    full, half = (fixed(seeds, df_share=share).interval(bounded=False) for share in (1.0, 0.5))
    assert (full.sd, half.sd) == (pytest.approx(half.sd), pytest.approx(full.sd))
    assert 4 < full.df < 5
    assert 2 < half.df < 2.5
    assert half.hi - half.lo > 1.4 * (full.hi - full.lo)


def test_two_readers_of_which_one_is_always_right_and_one_never_differ_by_what_few_groups_say() -> None:
    """No bootstrap weight moves a difference of 1; on three groups of each class it decides nothing."""
    words = {}
    for n_groups in (3, 60):
        y = np.arange(2 * n_groups) % 2
        sample = Sample.of(y, [np.arange(len(y))], np.ones((5, len(y)), bool), n_boot=100)
        right = y + np.random.default_rng(0).uniform(0, 0.1, (5, len(y)))
        d = sample.paired(auroc, right, -right).interval(bounded=False)
        assert (d.value, d.hi) == (1, 1)
        assert d.sd == pytest.approx((1 - 0.025 ** (1 / n_groups)) / 1.96, rel=1e-3)
        words[n_groups] = verdicts([d])[0].word
    assert words == {3: "undecided", 60: "better"}


def test_a_training_set_without_a_score_is_said_to_be_the_reason() -> None:
    y, scores = np.arange(60) % 2, np.random.default_rng(0).normal(size=(5, 60))
    sample = Sample.of(y, [np.arange(60)], np.ones((5, 60), bool), n_boot=50)
    scores[2] = np.nan
    found = sample.estimate(auroc, scores).interval()
    assert (math.isnan(found.lo), found.reason) == (True, "1 of 5 training sets have nothing scored here")
    assert sample.estimate(auroc, np.full((5, 60), np.nan)).interval().reason == "nothing was scored"


@pytest.mark.parametrize(("failing", "noise", "found"), [(1, 0.01, "undecided"), (0, 0.1, "equivalent")])
def test_a_difference_that_one_group_makes_up_has_the_reach_of_one_failure(
    failing: int, noise: float, found: str
) -> None:
    """One deep failure in 149 groups leaves room for 3 in 100 of them (Clopper & Pearson), far from the ceiling too."""
    rng, y = np.random.default_rng(0), np.arange(2 * 149) % 2
    score = y + rng.normal(size=len(y))
    one, other = (score + noise * rng.normal(size=(5, len(y))) for _ in range(2))
    other[:, np.flatnonzero(y)[:failing]] = -9
    d = Sample.of(y, [np.arange(len(y))], np.ones((5, len(y)), bool)).paired(auroc, other, one)
    assert d.seeds.mean() == pytest.approx(-failing / 149, abs=0.003)
    assert verdicts([d.interval(bounded=False)])[0].word == found
    plain = math.sqrt(float(np.var(d.draws.mean(0)[0])))
    assert d.interval(bounded=False).sd_rows / plain == pytest.approx(2.3 if failing else 1.0, abs=0.1)
