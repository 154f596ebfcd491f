"""One word for a difference: better, worse, equivalent within a margin, non-inferior, or undecided and what would help.

A contrast in which a method ranks the classes the wrong way round, its AUROC well below .5, gets the word
inverted and no other: the smaller AUROC separates the classes better there, so that better and worse mean nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from theodolite.core.stats import FEWEST_SEEDS, Interval, pool_factor, satterthwaite

MARGIN = 0.02  # an AUROC difference below it changes no decision anyone takes
LEVEL = 0.05
CHANCE = 0.5
POWER = 0.8
MOST_SEEDS = 50
WORTH_GATHERING = 50  # more than this many times the rows there are is no advice


@dataclass(frozen=True)
class Needs:
    """Missing rows, seeds or scores that keep a difference undecided: a code with its numbers.

    code: "" (nothing is needed); "seeds" (fewer than `seeds`); "no interval" (`reason` says why); "inverted";
    "unscored"; "no error" (no standard error); "luck" (a study of this size decides such a difference four times in
    five, and this one does not); "more" (`rows` in `groups`, and `seeds`, as far as they are given); "many" (more than
    `times` the rows there are); "training rows" (`refits`: a standard deviation that no rows or seeds average away).
    """

    code: str = ""
    rows: int = 0
    groups: int = 0
    seeds: int = 0
    times: int = 0
    refits: float = 0.0
    reason: str = ""

    def facts(self) -> dict[str, Any]:
        """The code and those of its numbers that are given, as JSON; {} where nothing is needed.

        >>> Needs("more", rows=1200, groups=130).facts()
        {'code': 'more', 'rows': 1200, 'groups': 130}
        """
        return {key: value for key, value in asdict(self).items() if value}


@dataclass(frozen=True)
class Verdict:
    """A word, the difference it is about, and the p-values behind it after Holm's correction over the family.

    p_different: two-sided, of no difference. p_equivalent: of a difference at least as large as the margin, the
    larger of two one-sided tests (Schuirmann 1987), below .05 exactly when the 90 % interval lies inside the margin,
    and of the chance that the groups hide a failure of that share (`unseen_failures`). p_not_worse: one-sided, of a
    difference of minus the margin or less, likewise. p: two-sided, uncorrected. inverted: methods of this contrast
    whose AUROC is significantly below .5 less the margin.
    """

    word: str
    difference: Interval
    p_different: float
    p_equivalent: float
    p_not_worse: float
    p: float
    needs: Needs
    margin: float = MARGIN
    inverted: tuple[str, ...] = ()


def verdicts(
    differences: Sequence[Interval], margin: float = MARGIN, inverted: Sequence[tuple[str, ...]] = ()
) -> list[Verdict]:
    """Verdicts on a family of differences fixed before the run; pass one alone for an exploratory contrast.

    inverted: for each difference, the methods in it whose AUROC is significantly below .5.

    The p-values come from Student's t with the interval's standard error: the bootstrap supplies the error, not the
    tail, because 2000 replicates have none and the refits are not in them. Each kind is Holm-corrected over the
    family. A difference that is both significant and inside the margin is called equivalent.
    """
    alone = [_p_different(d) for d in differences]
    different, equivalent, not_worse = (
        holm(p)
        for p in (
            alone,
            [_p_equivalent(d, margin) for d in differences],
            [_p_not_worse(d, margin) for d in differences],
        )
    )
    found = []
    for at, d in enumerate(differences):
        wrong_way = tuple(inverted[at]) if inverted else ()
        tests = (different[at], equivalent[at], not_worse[at])
        word, needs = ("inverted", Needs("inverted")) if wrong_way else _word(d, *tests, margin, len(differences))
        found.append(Verdict(word, d, *tests, alone[at], needs, margin, wrong_way))
    return found


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down p-values: below a level exactly for the hypotheses it rejects at that level.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    stepped = np.array(p, float)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return [float(a) for a in adjusted]


def benjamini_yekutieli(p: Sequence[float]) -> list[float]:
    """P-values adjusted for the false-discovery rate under any dependence (Benjamini & Yekutieli 2001).

    Contrasts share methods and rows, with positive and with negative correlations, so that the step-up of Benjamini &
    Hochberg (1995) is not known to hold: this one multiplies it by 1 + 1/2 + ... + 1/m.

    >>> [round(q, 3) for q in benjamini_yekutieli([0.01, 0.04, 0.03])]
    [0.055, 0.073, 0.073]
    """
    m = len(p)
    order = np.argsort(p, kind="stable")[::-1]
    steps = np.array(p, float)[order] * m * sum(1 / i for i in range(1, m + 1)) / np.arange(m, 0, -1)
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(np.minimum.accumulate(steps), 1)
    return [float(a) for a in adjusted]


def is_inverted(figure: Interval, margin: float = MARGIN) -> bool:
    """Return whether an AUROC is below .5 by more than the margin: the whole 95 % interval is.

    Of many methods that know nothing some have an interval just below .5; an error of .02 turns no ranking round.
    """
    return figure.hi < CHANCE - margin


def unseen_failures(margin: float, n_groups: float) -> float:
    """Chance that none of these groups shows a kind of failure that meets a share of `margin` of them.

    What no group shows is in no bootstrap draw and in no scatter of refits: two readers that agree on 40 groups may
    differ on one group in 40. A claim that a difference is within the margin must exclude that too.

    >>> round(unseen_failures(0.02, 40), 2), round(unseen_failures(0.02, 149), 3)
    (0.45, 0.049)
    """
    return float((1 - margin) ** n_groups)


def rows_needed(difference: Interval, n_seeds: int, margin: float = MARGIN, family: int = 1) -> int | None:
    """Rows with which a true difference of this size is decided four times in five; None if no number is enough.

    Decided at the family's strictest step: found different, or inside the margin, found equivalent. Rows are taken to
    grow as they are now: as many per group, and crossed groupings in proportion.
    """
    seeds = pool_factor(n_seeds, difference.overlap) / pool_factor(difference.n_seeds, difference.overlap)
    lasting, luck = difference.sd_refits**2, difference.sd_seeds**2 - difference.sd_refits**2

    def short(n: float) -> bool:
        share = difference.n / n
        sd_rows, sd_seeds = difference.sd_rows * math.sqrt(share), math.sqrt((lasting + luck * share) * seeds)
        groups = difference.n_groups * difference.balance / share
        df = satterthwaite(sd_rows, sd_seeds, groups, 1 + difference.df_share * (n_seeds - 1))
        within = margin if unseen_failures(margin, groups) < LEVEL / family else 0.0  # else never called equivalent
        return _chance(difference.value, math.hypot(sd_rows, sd_seeds), df, within, LEVEL / family) < POWER

    low, high = 1.0, float(difference.n)
    if not short(high):
        return difference.n
    while short(high):
        low, high = high, 2 * high
        if high > 2**40:
            return None
    while high - low > 0.01 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if short(middle) else (low, middle)
    return math.ceil(high)


def _word(d: Interval, p: float, q: float, not_worse: float, margin: float, family: int) -> tuple[str, Needs]:
    """The word and, of an undecided difference, what would decide it."""
    if d.n_seeds < FEWEST_SEEDS:
        return "undecided", Needs("seeds", seeds=FEWEST_SEEDS)
    if d.reason:
        return "undecided", Needs("no interval", reason=d.reason)
    if q < LEVEL:
        return "equivalent", Needs()
    if p < LEVEL:
        return ("better" if d.value > 0 else "worse"), Needs()
    needs = _needs(d, margin, family)
    return ("non-inferior", needs) if not_worse < LEVEL else ("undecided", needs)


def _needs(d: Interval, margin: float, family: int) -> Needs:
    if math.isnan(d.value):
        return Needs("unscored")
    if math.isnan(d.sd):
        return Needs("no error")
    for n_seeds in [d.n_seeds] + [s for s in (10, 20, MOST_SEEDS) if s > d.n_seeds]:
        rows = rows_needed(d, n_seeds, margin, family)
        if rows is None or rows > WORTH_GATHERING * d.n:
            continue
        if rows == d.n and n_seeds == d.n_seeds:
            return Needs("luck")
        gathered = rows != d.n
        return Needs(
            "more",
            rows=_round(rows) if gathered else 0,
            groups=_round(math.ceil(d.n_groups * rows / d.n)) if gathered else 0,
            seeds=n_seeds if n_seeds != d.n_seeds else 0,
        )
    if rows_needed(d, MOST_SEEDS, margin, family) is not None:
        return Needs("many", times=WORTH_GATHERING)
    return Needs("training rows", refits=d.sd_refits / math.sqrt(pool_factor(d.n_seeds, d.overlap)))


def _p_different(d: Interval) -> float:
    return min(2 * _tail(-abs(d.value), d), 1.0)


def _p_equivalent(d: Interval, margin: float) -> float:
    """The larger of the two: both must be excluded, so that neither needs a correction for the other."""
    return max(_tail(abs(d.value) - margin, d), unseen_failures(margin, d.n_groups * d.balance))


def _p_not_worse(d: Interval, margin: float) -> float:
    return max(_tail(-d.value - margin, d), unseen_failures(margin, d.n_groups * d.balance))


def _tail(distance: float, d: Interval) -> float:
    """P(T <= distance / sd); with no variance at all the difference is what it is. NaN decides nothing: 1."""
    if math.isnan(distance) or math.isnan(d.sd) or d.reason:
        return 1.0
    if d.sd == 0:
        return 0.0 if distance < 0 else 1.0
    return float(student.cdf(distance / d.sd, d.df))


def _chance(gap: float, sd: float, df: float, margin: float, level: float) -> float:
    """Chance that a true difference is decided: seen far enough from 0, or well enough inside the margin."""
    if sd == 0:  # it is what it is
        return float(gap != 0 or margin > 0)
    different, inside = sd * student.ppf(1 - level / 2, df), margin - sd * student.ppf(1 - level, df)
    if inside >= different:
        return 1.0
    below = lambda x: student.cdf((x - gap) / sd, df)  # noqa: E731
    equivalent = below(inside) - below(-inside) if inside > 0 else 0.0
    return float(1 - (below(different) - below(-different)) + equivalent)


def _round(n: int) -> int:
    """Two significant digits, upwards: `about` is all the noise allows."""
    unit = 10 ** max(len(str(n)) - 2, 0)
    return -(-n // unit) * unit
