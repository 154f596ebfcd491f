"""Effects of steering over openings: means with intervals, contrasts with a word, doses, effects on other concepts.

An effect is one number for each opening: what steering added, in nats, or in the log-odds of a classifier. All
intervals are those of `core.stats`: a bootstrap over groups of openings, and what refitting the method adds to it. With
one fit the interval is about that fit (`one_fit`). `core.stats` wants five fits where a metric in [0, 1] is read; of a
mean effect three are enough if their two degrees of freedom are counted: in simulated studies intervals covered 95 %
with one fit, 94 % with three, 97 % with five, and 89 % with two, which therefore have none.

Shapes: S fits (seeds), n openings, k strengths, C other concepts, B replicates.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from theodolite.core.bootstrap import bootstrap_weights
from theodolite.core.errors import UserError
from theodolite.core.metrics import mean
from theodolite.core.stats import FEWEST_GROUPS, HALVES, Estimate, Interval, Sample, share_bounds
from theodolite.core.training_sets import TrainingSets
from theodolite.core.verdict import LEVEL, POWER, WORTH_GATHERING, Needs, Verdict, holm

Array = np.ndarray
MONOTONE = 0.9  # Spearman over strengths from which on a dose is called monotone
FEWEST_FITS = 3
_TAILS = (0.025, 0.975)


@dataclass(frozen=True)
class Summary:
    """A number with its 95 % percentile interval over a bootstrap, n openings in so many groups."""

    value: float
    lo: float
    hi: float
    n: int
    n_groups: int


@dataclass(frozen=True)
class Cell:
    """One method at one signed strength: mean effect, share of openings moved the right way and the wrong way.

    A sign of -1 asks for a fall. An opening that did not move at all is in neither share.
    """

    sign: int
    effect: Interval
    right_share: Interval
    wrong_way: Interval


@dataclass(frozen=True)
class Dose:
    """Effects over strengths of both signs: `word` is "control", "damage, not control" or "no effect shown".

    why: "" for control; "same direction" (both signs significantly move the effect one way), "one sign" (the other
    sign is not shown to move it the opposite way), "wrong way" (each sign moves it the other way round), "not
    monotone", or "inside the noise".
    """

    word: str
    why: str
    spearman: Summary
    slope: Interval
    falling: Interval


def mean_effect(
    effect_sn: Array, group_n: Array, *, training: TrainingSets = HALVES, seed: int = 0, family: int = 1
) -> Interval:
    """Mean over openings of effects (S, n) or (n,) with its 95 % interval; NaN is unscored, and counted.

    training: what the training sets of the fits have in common. family: number of intervals that hold together.

    >>> found = mean_effect(np.array([1.0, 2.0, 3.0, 4.0]), np.arange(4))
    >>> found.value, found.n, found.df, one_fit(found)
    (2.5, 4, 3.0, True)
    """
    return _interval(_estimate(effect_sn, group_n, training, seed), family, share=False)


def share(true_sn: Array, group_n: Array, *, training: TrainingSets = HALVES, seed: int = 0) -> Interval:
    """Share of openings for which something holds, (S, n) or (n,) of 0, 1 or NaN, with its 95 % interval in [0, 1].

    >>> share(np.array([1, 1, 1, 0]), np.arange(4)).value
    0.75
    """
    return _interval(_estimate(true_sn, group_n, training, seed), 1, share=True)


def columns(found: Interval) -> dict[str, float | int]:
    """Return an interval as columns of a row."""
    return {name: getattr(found, name) for name in ("value", "lo", "hi", "n", "n_groups", "n_unscored")}


def one_fit(found: Interval) -> bool:
    """Return whether an interval is about one fitted method only, and not about refits of it."""
    return found.n_seeds == 1


def cell(effect_sn: Array, sign: int, group_n: Array, *, training: TrainingSets = HALVES, seed: int = 0) -> Cell:
    """Summary of the effects (S, n) or (n,) of one method at one strength of this sign.

    >>> found = cell(np.array([1.0, 2.0, -1.0, 0.0]), 1, np.arange(4))
    >>> found.effect.value, found.right_share.value, found.wrong_way.value
    (0.5, 0.5, 0.25)
    """
    if sign not in (1, -1):
        raise UserError(f"sign={sign}: give 1 for a positive strength or -1 for a negative one")
    toward_sn = sign * np.asarray(effect_sn, float)
    right, wrong = (np.where(np.isnan(toward_sn), np.nan, x) for x in (toward_sn > 0, toward_sn < 0))
    return Cell(
        sign,
        mean_effect(effect_sn, group_n, training=training, seed=seed),
        share(right, group_n, training=training, seed=seed),
        share(wrong, group_n, training=training, seed=seed),
    )


def both_signs(plus: Array, minus: Array) -> Array:
    """Half the distance between the effects at + and at - strength, opening by opening: the effect of `split` both.

    A change that both signs share, such as damage, cancels.

    >>> both_signs(np.array([2.0, 1.0]), np.array([-2.0, 1.0])).tolist()
    [2.0, 0.0]
    """
    return (np.asarray(plus, float) - np.asarray(minus, float)) / 2


def contrast(
    one_sn: Array, other_sn: Array, group_n: Array, *, training: TrainingSets = HALVES, seed: int = 0
) -> Interval:
    """Mean of `one` minus `other` over the openings that both have, fit by fit: what two methods share cancels.

    >>> found = contrast(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0]), np.arange(3))
    >>> found.value, round(found.sd, 6)
    (1.0, 0.0)
    """
    one, other = np.asarray(one_sn, float), np.asarray(other_sn, float)
    if one.shape != other.shape:
        raise UserError(f"effects of shapes {one.shape} and {other.shape} are not of the same fits and openings")
    return mean_effect(one - other, group_n, training=training, seed=seed)


def decide(differences: Sequence[Interval], margin: float) -> list[Verdict]:
    """Verdicts on a family of contrasts fixed before the run, in the words of `core.verdict`.

    better, worse, equivalent (within the margin, in the units of the effect), non-inferior, or undecided: no
    difference shown. The rules are the same: Student's t with the interval's standard error, two one-sided tests
    against the margin (Schuirmann 1987), each kind corrected by Holm over the family, and equivalent before better. Two
    of that module's conditions do not apply. A mean of nats has no failures that groups could hide, so
    `unseen_failures` plays no part; and a contrast of one fit gets a word about that fit.

    >>> far, near = (contrast(np.linspace(a, a + 1, 40), np.zeros(40), np.arange(40)) for a in (0.5, -0.5))
    >>> [found.word for found in decide([far, near], margin=0.2)]
    ['better', 'equivalent']
    """
    if not 0 < margin < math.inf:
        raise UserError(f"margin={margin}: give the largest difference of two effects that does not matter, above 0")
    alone = [min(2 * _tail(-abs(d.value), d), 1.0) for d in differences]
    different = holm(alone)
    equivalent = holm([_tail(abs(d.value) - margin, d) for d in differences])
    not_worse = holm([_tail(-d.value - margin, d) for d in differences])
    tests = zip(differences, different, equivalent, not_worse, alone, strict=True)
    return [
        Verdict(_word(d, p, q, r), d, p, q, r, a, _needs(d, p, q, len(differences)), margin) for d, p, q, r, a in tests
    ]


def slopes(effect_kn: Array, strength_k: Array) -> Array:
    """Least-squares slope of each opening's effect over strengths, (n,) from (k, n); Tan et al. (2024).

    Strengths of methods have no common unit. Give the signed square root of the disturbance in nats to compare
    methods: KL grows with the square of a small strength.

    >>> slopes(np.array([[-1.0, 2.0], [0.0, 0.0], [1.0, -2.0]]), np.array([-1.0, 0.0, 1.0])).tolist()
    [1.0, -2.0]
    """
    strength_k = np.asarray(strength_k, float)
    centred_k = strength_k - strength_k.mean()
    if not (square := float(centred_k @ centred_k)):
        raise UserError("slopes need at least two different strengths")
    return centred_k @ np.asarray(effect_kn, float) / square


def spearman(effect_kn: Array, strength_k: Array, group_n: Array, *, n_boot: int = 2000, seed: int = 0) -> Summary:
    """Spearman's correlation of the mean effect with the strength, with a percentile interval over groups of openings.

    effect_kn: (k, n). Openings that lack an effect at some strength are left out.

    >>> effect = np.array([[-2.0, -1.0, -3.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    >>> found = spearman(effect, np.array([-1.0, 0.0, 1.0]), np.arange(3))
    >>> found.value, found.lo, found.hi, found.n
    (1.0, 1.0, 1.0, 3)
    """
    effect_kn, group_n = np.asarray(effect_kn, float), np.asarray(group_n)
    whole = ~np.isnan(effect_kn).any(0)
    effect_kn, group_n = effect_kn[:, whole], group_n[whole]
    n, n_groups = effect_kn.shape[1], len(np.unique(group_n))
    if not n:
        return Summary(math.nan, math.nan, math.nan, 0, 0)
    weight_bn = bootstrap_weights(group_n, n_boot, seed).astype(float)
    mean_bk = weight_bn @ effect_kn.T / weight_bn.sum(1, keepdims=True)
    draws_b = _rank_correlation(mean_bk, np.asarray(strength_k, float))
    value = float(_rank_correlation(effect_kn.mean(1)[None], np.asarray(strength_k, float))[0])
    lo, hi = np.quantile(draws_b, _TAILS) if n_groups >= FEWEST_GROUPS else (math.nan, math.nan)
    return Summary(value, float(lo), float(hi), n, n_groups)


def dose(effect_kn: Array, strength_k: Array, group_n: Array, *, seed: int = 0) -> Dose:
    """Judgement of one method over its strengths, (k, n) effects, at least one strength of either sign.

    Control moves the effect up at + and down at -, on average over the strengths of that sign, both intervals clear of
    0, and its mean rises with the strength (Spearman at least .9). Of anything else that moves the effect the word is
    "damage, not control": any push that disturbs the model moves some score. Give strengths within the budget, since
    every method overdrives beyond it, and leave the strength 0 in: its effects are 0 and belong to the curve.

    >>> strength = np.array([-2.0, -1.0, 1.0, 2.0])
    >>> steady = strength[:, None] + np.array([-0.2, 0.0, 0.2])
    >>> dose(steady, strength, np.arange(3)).word
    'control'
    >>> found = dose(abs(steady), strength, np.arange(3))
    >>> found.word, found.why
    ('damage, not control', 'same direction')
    """
    strength_k, effect_kn = np.asarray(strength_k, float), np.asarray(effect_kn, float)
    if not (strength_k > 0).any() or not (strength_k < 0).any():
        raise UserError("a dose needs strengths of both signs: a push that is not undone by its opposite is damage")
    up, down = (
        _side(mean_effect(effect_kn[side].mean(0), group_n, seed=seed)) for side in (strength_k > 0, strength_k < 0)
    )
    order, slope_n = spearman(effect_kn, strength_k, group_n, seed=seed), slopes(effect_kn, strength_k)
    falling = share(np.where(np.isnan(slope_n), np.nan, slope_n < 0), group_n, seed=seed)
    word, why = _dose_word(up, down, order.value)
    return Dose(word, why, order, mean_effect(slope_n, group_n, seed=seed), falling)


def size_elsewhere(other_cn: Array, group_n: Array, *, n_boot: int = 2000, seed: int = 0) -> Summary:
    """Mean over other concepts of the size of an edit's effect on their targets, with a percentile interval.

    other_cn: effects on the log-odds of C other concepts' targets, (C, n), in nats. The size is |mean over openings|:
    scatter between openings is no effect. Targets of other words move by other amounts: methods compare by this
    number where the concepts and openings are the same, and it compares with no effect on the concept itself. For that
    each concept's effects would have to be divided by what random directions do to its targets, which is not measured.

    >>> size_elsewhere(np.array([[1.0, 1.0], [-2.0, -2.0]]), np.arange(2)).value
    1.5
    """
    other_cn, group_n = np.asarray(other_cn, float), np.asarray(group_n)
    if other_cn.ndim != 2 or not len(other_cn):
        raise UserError("a size elsewhere needs the effects on at least one other concept, (concepts, openings)")
    whole = ~np.isnan(other_cn).any(0)
    other_cn, group_n = other_cn[:, whole], group_n[whole]
    n, n_groups = int(whole.sum()), len(np.unique(group_n))
    if not n:
        return Summary(math.nan, math.nan, math.nan, 0, 0)
    weight_bn = np.vstack([np.ones(n), bootstrap_weights(group_n, n_boot, seed)])
    size_b = abs(weight_bn @ other_cn.T / weight_bn.sum(1, keepdims=True)).mean(1)
    # the first is the value, the others are its replicates; a single group has no spread
    lo, hi = np.quantile(size_b[1:], _TAILS) if n_groups >= FEWEST_GROUPS else (math.nan, math.nan)
    return Summary(float(size_b[0]), float(lo), float(hi), n, n_groups)


def _estimate(value_sn: Array, group_n: Array, training: TrainingSets, seed: int) -> Estimate:
    value_sn = np.atleast_2d(np.asarray(value_sn, float))
    group_n = np.asarray(group_n)
    if value_sn.shape[1] != len(group_n):
        raise UserError(f"{value_sn.shape[1]} effects and {len(group_n)} groups of openings: give one group for each")
    # Every fit is asked for every opening, so that one without an effect counts as unscored. Labels play no part.
    sample = Sample.of(np.zeros(len(group_n)), [group_n], np.ones(value_sn.shape, bool), training=training, seed=seed)
    return sample.estimate(mean, value_sn)


def _interval(estimate: Estimate, family: int, *, share: bool) -> Interval:
    """The estimate's interval without the bounds and the number of seeds that `Estimate.interval` is made for."""
    found = estimate.interval(bounded=False)
    if found.n_seeds == 1:  # nobody knows how refits would differ: the interval is about this fit
        sd_rows = found.sd_rows if estimate.n_effective >= FEWEST_GROUPS else math.nan
        found = replace(found, sd_rows=sd_rows, sd_seeds=0.0, sd_refits=0.0, df=max(estimate.n_effective - 1, 1.0))
    reason = _no_interval(estimate)
    lo = hi = math.nan
    if not reason:
        reach = float(student.ppf(1 - LEVEL / 2 / family, found.df)) * found.sd
        inside = share_bounds(found.value, reach, found.n_groups) if share else None
        lo, hi = inside or (found.value - reach, found.value + reach)
    return replace(found, lo=lo, hi=hi, reason=reason)


def _no_interval(estimate: Estimate) -> str:
    if without := int(np.isnan(estimate.seeds).sum()):
        return f"{without} of {len(estimate.seeds)} fits have no opening with an effect"
    if 1 < len(estimate.seeds) < FEWEST_FITS:
        return f"an interval over refits needs at least {FEWEST_FITS} fits, or one, and is then about that fit"
    if len(estimate.seeds) > 1 and estimate.training.reason:
        return estimate.training.reason
    if estimate.n_effective < FEWEST_GROUPS:
        return f"the openings weigh as {estimate.n_effective:.1f} effective groups, and an interval needs 2"
    return ""


def _tail(distance: float, d: Interval) -> float:
    """P(T <= distance / sd), as in `core.verdict`; 1 where there is no interval, since that decides nothing."""
    if d.reason or math.isnan(distance) or math.isnan(d.sd):
        return 1.0
    if d.sd == 0:
        return 0.0 if distance < 0 else 1.0
    return float(student.cdf(distance / d.sd, d.df))


def _word(d: Interval, different: float, equivalent: float, not_worse: float) -> str:
    if equivalent < LEVEL:
        return "equivalent"
    if different < LEVEL:
        return "better" if d.value > 0 else "worse"
    return "non-inferior" if not_worse < LEVEL else "undecided"


def _needs(d: Interval, different: float, equivalent: float, family: int) -> Needs:
    """Openings with which a true difference of this size is found four times in five, at Holm's strictest step."""
    if d.reason:
        return Needs("no interval", reason=d.reason)
    if min(different, equivalent) < LEVEL or not d.value:
        return Needs()
    wanted_sd = abs(d.value) / (norm.ppf(1 - LEVEL / 2 / family) + norm.ppf(POWER))
    left = wanted_sd**2 - d.sd_seeds**2  # more openings do not average away what refits add
    if left <= 0:
        return Needs("training rows", refits=d.sd_refits)
    times = d.sd_rows**2 / left
    if times > WORTH_GATHERING:
        return Needs("many", times=WORTH_GATHERING)
    return (
        Needs("more", rows=math.ceil(d.n * times), groups=math.ceil(d.n_groups * times)) if times > 1 else Needs("luck")
    )


def _rank_correlation(mean_bk: Array, strength_k: Array) -> Array:
    """Spearman's correlation of each row of means with the strengths, (B,); ties share a rank, constant rows are 0."""
    rank_bk, rank_k = rankdata(mean_bk, axis=1), rankdata(strength_k)
    centred_bk, centred_k = rank_bk - rank_bk.mean(1, keepdims=True), rank_k - rank_k.mean()
    scale_b = np.sqrt((centred_bk**2).sum(1) * (centred_k**2).sum())
    return np.divide(centred_bk @ centred_k, scale_b, out=np.zeros(len(rank_bk)), where=scale_b > 0)


def _side(found: Interval) -> int:
    """Side of 0 on which the whole interval lies; 0 where it lies on neither."""
    return int(found.lo > 0) - int(found.hi < 0)


def _dose_word(up: int, down: int, order: float) -> tuple[str, str]:
    if not up and not down:
        return "no effect shown", "inside the noise"
    if (up, down) == (1, -1):
        return ("control", "") if order >= MONOTONE else ("damage, not control", "not monotone")
    if (up, down) == (-1, 1):
        return "damage, not control", "wrong way"
    return "damage, not control", "same direction" if up == down else "one sign"
