"""Intervals for a *procedure*: how good is this way of training, on this population of prompts?

The estimand is E_T[metric of the reader fitted on T], over fresh training sets T of this size, on the population of
prompts. The point is the mean over seeds (refits on resampled training rows) of each seed's metric. Its variance has
two parts, both printed:

rows   bootstrap over groups of evaluation rows. All seeds and methods share the weights, so that a row five seeds
       have scored is one row, and two methods' common rows cancel in their difference.
seeds  what refitting adds, s2 (1/S + overlap / (1 - overlap)). Seeds that train on halves of one pool share half
       their rows, so their scatter s2 shows only part of what a fresh pool would change; the second term is that of
       the delete-d jackknife (Shao & Wu 1989) and of Nadeau & Bengio (2003), who write n_test / n_train. Without
       it, the interval of a difference covered 76 % of the time in simulation, with it 95 %. The overlap is measured
       on the training sets at hand (`training_sets.py`), and so are the degrees of freedom of s2.

Groups of unequal size count as their effective number (`bootstrap.effective_groups`).

docs/statistics.md derives both and shows the coverage measured. Shapes: S seeds, n rows, B replicates, P groupings
(one; or two crossed ones and their cells).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from scipy.stats import beta, kurtosis
from scipy.stats import t as student

from theodolite.core.bootstrap import (
    bootstrap_weights,
    crossed_variance,
    effective_groups,
    fewest_groups,
    heaviest,
    hidden_failures,
    with_crossing,
)
from theodolite.core.seeds import child_seed
from theodolite.core.training_sets import TrainingSets

Array = np.ndarray
Metric = Callable[..., Any]  # metric(y, scores, weights or None), see metrics.py
FEWEST_SEEDS = 5  # with fewer, the scatter of seeds is not worth an interval: points are shown
FEWEST_GROUPS = 2.0  # effective groups of evaluation rows; one group has no spread to measure
HALVES = TrainingSets()  # what is assumed where nothing was measured: halves of one pool of single rows
_NO_SPREAD = 1e-9
_ROUNDING = 1e-5  # of sums of float32 weights: draws that vary by less are equal
_NORMAL = 1.959964
_FEW = 10  # groups that decide a difference: fewer have an exact reach a third above the normal one, and a kurtosis
_FEW_OF_ALL = 0.1  # that 2,000 draws tell from 0; differences over all of few groups are no such thing


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval (NaN where there can be none: `reason` says why) and what it rests on.

    n: rows scored. n_groups: groups of the coarsest grouping in the class that has fewer. n_unscored: rows that some
    seed should have scored and did not. sd_rows, sd_seeds: the parts of the standard error. sd_refits: what of
    sd_seeds would be left with any number of evaluation rows. spread: standard deviation of the metric between seeds,
    as observed. df: Satterthwaite's degrees of freedom of the standard error. balance: the effective number of groups
    as a share of n_groups, 1 where they are equal. df_share: see `training_sets.TrainingSets`.
    """

    value: float
    lo: float
    hi: float
    n: int
    n_groups: int
    n_unscored: int
    sd_rows: float
    sd_seeds: float
    sd_refits: float
    spread: float
    df: float
    n_seeds: int
    overlap: float
    balance: float = 1.0
    df_share: float = 1.0
    reason: str = ""

    @property
    def sd(self) -> float:
        """Standard error of `value`; NaN with one seed, whose scatter nobody knows."""
        return math.hypot(self.sd_rows, self.sd_seeds)


@dataclass(frozen=True)
class Estimate:
    """A metric for every seed, (S,), and under every bootstrap weight, (S, P, B); the difference of two is paired.

    groups: number of groups of each grouping, (P,), in the class that has fewer. shared: all seeds were scored on the
    same rows (a shift), not each on test rows of its own (in distribution). training: what the seeds' training sets
    have in common. effective, weight: of each grouping, (P,), the effective number of its groups and the share of the
    heaviest (`bootstrap.heaviest`), in the class whose groups are the least equal; () where all groups are equal.
    unseen: the least standard error of the rows, where a difference of two methods rests on few groups (`_unseen`).
    """

    seeds: Array
    draws: Array
    n: int
    groups: tuple[int, ...]
    n_unscored: int
    shared: bool
    training: TrainingSets
    effective: tuple[float, ...] = ()
    weight: tuple[float, ...] = ()
    unseen: float = 0.0

    @property
    def n_groups(self) -> int:
        """Groups of the coarsest grouping."""
        return min(self.groups)

    @property
    def n_effective(self) -> float:
        """Effective groups of the coarsest grouping; never more than there are."""
        return min([float(self.n_groups), *self.effective])

    @property
    def reason(self) -> str:
        """Reason why there is no interval; "" where there is one."""
        if len(self.seeds) < FEWEST_SEEDS:
            return f"an interval needs at least {FEWEST_SEEDS} seeds"
        if without := int(np.isnan(self.seeds).sum()):
            some = f"{without} of {len(self.seeds)} training sets have nothing scored here"
            return some if without < len(self.seeds) else "nothing was scored"
        if self.training.reason:
            return self.training.reason
        if self.n_effective < FEWEST_GROUPS:
            return (
                f"the rows of a class weigh as {self.n_effective:.1f} effective groups, and an interval needs "
                f"{FEWEST_GROUPS:g}"
            )
        return ""

    def __sub__(self, other: Self) -> "Estimate":
        same = (self.n, self.groups, self.n_unscored, self.shared, self.training, self.effective, self.weight)
        theirs = (other.n, other.groups, other.n_unscored, other.shared, other.training, other.effective, other.weight)
        assert same == theirs, "not the same rows"
        return Estimate(self.seeds - other.seeds, self.draws - other.draws, *same)

    def interval(self, bounded: bool = True, family: int = 1) -> Interval:
        """The 95 % interval; `bounded` for a metric in [0, 1], whose interval is symmetric in its log-odds.

        Otherwise it is that of a difference of such metrics, within [-1, 1]. family: number of intervals that cover
        their values all together with 95 %, by Bonferroni's correction.
        """
        n_seeds, value = len(self.seeds), float(self.seeds.mean())
        sd_rows = math.sqrt(self._rows_variance())
        sd_seeds, sd_refits = (math.sqrt(v) for v in self._seeds_variance())
        share = self.training.df_share
        # Training sets that share rows are fewer than S independent ones: s2 has df_share (S - 1) degrees of freedom.
        df = satterthwaite(sd_rows, sd_seeds, self.n_effective, 1 + share * (n_seeds - 1))
        lo = hi = math.nan
        if not self.reason and not math.isnan(value):
            reach = float(student.ppf(1 - 0.025 / family, df)) * math.hypot(sd_rows, sd_seeds)
            within = (max(value - reach, -1.0), min(value + reach, 1.0))
            lo, hi = share_bounds(value, reach, self.n_groups) if bounded else within
        spread = float(self.seeds.std(ddof=1)) if n_seeds > 1 else math.nan
        return Interval(
            value=value,
            lo=lo,
            hi=hi,
            n=self.n,
            n_groups=self.n_groups,
            n_unscored=self.n_unscored,
            sd_rows=sd_rows,
            sd_seeds=sd_seeds,
            sd_refits=sd_refits,
            spread=spread,
            df=df,
            n_seeds=n_seeds,
            overlap=self.training.overlap,
            balance=self.n_effective / max(self.n_groups, 1),
            df_share=share,
            reason=self.reason,
        )

    def _rows_variance(self) -> float:
        # Mean over seeds first: a replicate gives a row one weight in all seeds, so five scores of a row are one row.
        return max(crossed_variance(np.var(self.draws.mean(0), axis=-1) * self.small_sample), self.unseen**2)

    def _seeds_variance(self) -> tuple[float, float]:
        """Variance of the mean over seeds from refitting, and the part of it that is not luck of the rows."""
        n_seeds = len(self.seeds)
        if n_seeds == 1 or self.training.overlap == 1:
            return math.nan, math.nan  # one seed has no scatter; at overlap 1 the pool's factor is infinite
        scatter, pool = float(self.seeds.var(ddof=1)), pool_factor(n_seeds, self.training.overlap)
        # The luck of the rows within s2: what a replicate does to one seed beyond what it does to all of them, which is
        # in no scatter between seeds. S deviations from their mean have S - 1 degrees of freedom, as s2 has.
        own = np.var(self.draws - self.draws.mean(0), axis=-1).sum(0)
        luck = crossed_variance(own * self.small_sample) / (n_seeds - 1)
        refits = max(scatter - luck, 0.0) * pool
        if self.shared:
            return scatter * pool, refits  # luck is little here; keeping it makes five seeds cover (docs)
        # Seeds with test rows of their own differ mostly by the luck of those rows, which the rows' part has counted
        # already. Leave it out, but never go below half of seeds counted as independent: what remains of 5 is too
        # noisy. (All of it covered .98 to .99 of the time in simulation: cutting at 0 errs wide already.)
        return max(refits, scatter / (2 * n_seeds)), refits

    @property
    def small_sample(self) -> Array:
        """Factor that makes the Bayesian bootstrap's variance unbiased for groups that hold shares p of the rows.

        It estimates sum p^2 (m_g - m)^2 / (1 + sum p^2), and (m_g - m)^2 falls short of the groups' variance by
        2 p - sum p^2. For G equal groups the factor is (G + 1) / (G - 1). A single group has no spread: NaN.
        """
        # square: sum p^2. cube: sum p^3 / sum p^2, the typical p, which is at least sum p^2 (Cauchy-Schwarz).
        groups = np.array(self.groups, float)
        square = 1 / np.maximum(np.minimum(groups, self.effective or np.inf), 1)
        cube = np.maximum(self.weight or 0.0, square)
        left = 1 - 2 * cube + square
        return np.where(left > _NO_SPREAD, (1 + square) / np.maximum(left, _NO_SPREAD), np.nan)


@dataclass(frozen=True)
class Sample:
    """The rows of one data set with the bootstrap weights that every method on it shares.

    y: labels (n,). groups: the groupings of the rows, P of them. asked: (S, n), which rows each seed is scored on.
    weights: (P * B, n). training: what the seeds' training sets have in common.
    """

    y: Array
    groups: tuple[Array, ...]
    asked: Array
    weights: Array
    training: TrainingSets

    @classmethod
    def of(
        cls,
        y: Array,
        groups: Sequence[Array],
        asked: Array,
        *,
        training: TrainingSets = HALVES,
        n_boot: int = 2000,
        seed: int = 0,
    ) -> Self:
        """Draw the weights: over one grouping, or crossed ones such as request x template."""
        all_groups = tuple(with_crossing(groups))
        # A seed for each grouping: the noise of the three variances that `crossed_variance` adds is independent.
        weights = [bootstrap_weights(g, n_boot, child_seed(seed, "grouping", p)) for p, g in enumerate(all_groups)]
        return cls(y, all_groups, asked, np.asfortranarray(np.concatenate(weights)), training)

    @property
    def shared(self) -> bool:
        """Return whether all seeds are scored on the same rows, as on a shift, and not each on test rows of its own."""
        return bool((self.asked == self.asked[0]).all())

    def take(self, rows: Array) -> "Sample":
        """Return this sample on some rows only, such as one class."""
        groups = tuple(group[rows] for group in self.groups)
        return Sample(self.y[rows], groups, self.asked[:, rows], self.weights[:, rows], self.training)

    def estimate(self, metric: Metric, scores: Array) -> Estimate:
        """The metric of scores (S, n), seed by seed; NaN is unscored, and what a seed was not asked is ignored."""
        scores = np.where(self.asked, scores, np.nan)
        scored, missed = ~np.isnan(scores), self.asked & np.isnan(scores)
        used = scored.any(0)
        draws = np.array([metric(self.y, s, self.weights) for s in scores], float)
        # A metric of ranks is as uncertain as its less certain class, so the fewer groups of the two count.
        classes = [used & (self.y == label) for label in np.unique(self.y[used])]
        effective = [min((effective_groups(g[c]) for c in classes), default=0.0) for g in self.groups]
        weight = [max((heaviest(g[c]) for c in classes), default=1.0) for g in self.groups]
        return Estimate(
            seeds=np.array([metric(self.y, s) for s in scores], float),
            draws=draws.reshape(len(scores), len(self.groups), -1),
            n=int(used.sum()),
            groups=tuple(fewest_groups(self.y[used], group[used]) for group in self.groups),
            n_unscored=int(missed.any(0).sum()),
            shared=self.shared,
            training=self.training,
            effective=tuple(effective),
            weight=tuple(weight),
        )

    def paired(self, metric: Metric, one: Array, other: Array) -> Estimate:
        """`one` minus `other` on the rows both have scored, seed by seed and under the same weights."""
        both = np.isnan(one) | np.isnan(other)  # a row that one method lacks would not cancel in the difference
        first, second = (self.estimate(metric, np.where(both, np.nan, scores)) for scores in (one, other))
        # The same scores differ by 0 on any fresh group too, so nothing is unseen there.
        same = np.array_equal(one, other, equal_nan=True)
        return replace(first - second, unseen=0.0 if same else _unseen(first, second))


def pool_factor(n_seeds: int, overlap: float) -> float:
    """Factor from the scatter of seeds to the variance of their mean over fresh pools (module docstring).

    >>> pool_factor(5, overlap=0.5), pool_factor(5, overlap=0.0)
    (1.2, 0.2)
    """
    return 1 / n_seeds + overlap / (1 - overlap)


def satterthwaite(sd_rows: float, sd_seeds: float, n_groups: float, n_seeds: float) -> float:
    """Degrees of freedom of a variance whose parts have G - 1 and S - 1; infinite when nothing varies."""
    if sd_rows == sd_seeds == 0:
        return math.inf
    total = sd_rows**2 + sd_seeds**2
    return total**2 / (sd_rows**4 / max(n_groups - 1, 1) + sd_seeds**4 / max(n_seeds - 1, 1))


def share_bounds(value: float, reach: float, n_groups: int) -> tuple[float, float]:
    """An interval that stays in [0, 1]: Wilson's (1927), with as many draws as have the standard error measured.

    reach: half the width of the symmetric interval, its standard error times the quantile of Student's t.

    Where the metric is nearer to one of its ends than what the groups may hide (`bootstrap.hidden_failures`), the
    bootstrap has seen hardly any failure and cannot say more: at 1 for an AUROC, at 0 for a false-positive rate, Brier
    score or calibration error (and for the AUROC of a reversed reader).
    """
    failing = hidden_failures(n_groups)
    if value in {0.0, 1.0}:  # Wilson's interval has no variance to invert there
        return (1 - failing, 1.0) if value else (0.0, failing)
    # Wilson's ends are the p at which (value - p)^2 = shrink p (1 - p), a square equation.
    shrink = reach**2 / (value * (1 - value))  # t^2 over the number of draws
    half = math.sqrt(reach**2 + shrink**2 / 4)
    lo, hi = ((value + shrink / 2 + side * half) / (1 + shrink) for side in (-1, 1))
    return (
        min(lo, 1 - failing) if value > 1 - failing else lo,
        max(hi, failing) if value < failing else hi,
    )


def _unseen(first: Estimate, other: Estimate) -> float:
    """The least standard error of a difference that rests on few groups; 0 of any other.

    It does where both methods hardly fail (two perfect readers have the same bootstrap draws, whatever they would do on
    fresh groups), or where they differ on few groups of many. Let them differ on k groups of G: the exact reach of such
    a count is Clopper & Pearson's upper limit less k / G, and the bootstrap's standard error is multiplied by what that
    reach is above the normal one, 1.96 sqrt(k) / G. It is 2.3 at k = 1, 1.5 at 5, 1.3 at 10. Of methods that hardly
    fail it is the standard error of the training set where it is widest, if all are scored on the same rows: a group
    that one reader in five gets wrong says what an error costs. Where no difference was seen (k = 0) a group on which
    one method fails counts its whole rank. Two methods of which one is right on every group and the other on none have
    no spread either, and get the bound for none of G.

    k is an effective number, (sum d^2)^2 / sum d^4 over the groups' contributions d, read off the draws: a sum of
    d times Exp(1) weights has an excess kurtosis of 6 / k.
    """
    n = max(first.n_groups, 1)
    failing = hidden_failures(n)
    low, high = sorted([first.seeds.mean(), other.seeds.mean()])
    if (low, high) == (0, 1):  # the largest difference there is, and no replicate that varies
        return failing / _NORMAL
    near_end = low > 1 - failing or high < failing  # as in `share_bounds`
    difference = first - other
    draws = difference.draws.mean(0)[0]
    if np.ptp(difference.draws) < _ROUNDING:  # no group on which the methods differ: k = 0
        return failing / _NORMAL if near_end else 0.0
    # n equal groups have an excess kurtosis of 6 / n: a smaller one is noise
    k = min(max(6 / max(float(kurtosis(draws)), 6 / n), 1.0), n)
    if not (near_end or k < min(first.n_effective * _FEW_OF_ALL, _FEW)):
        return 0.0
    # Clopper & Pearson's upper limit for k of n is the .975 quantile of Beta(k + 1, n - k); k need not be whole.
    reach = float(beta.ppf(0.975, k + 1, max(n - k, _NO_SPREAD))) - k / n
    variance = difference._rows_variance()
    if near_end and first.shared:
        by_seed = np.var(difference.draws, axis=-1) * difference.small_sample
        # the widest seed: in the mean over seeds, a group that one of five readers gets wrong counts a fifth
        variance = max(crossed_variance(parts) for parts in by_seed)
    return math.sqrt(variance) * max(reach * n / (_NORMAL * math.sqrt(k)), 1.0)
