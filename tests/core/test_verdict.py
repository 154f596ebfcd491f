import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from theodolite.core.stats import Interval, satterthwaite
from theodolite.core.verdict import Needs, benjamini_yekutieli, holm, is_inverted, rows_needed, verdicts


def difference(
    value: float, sd_rows: float = 0.004, sd_seeds: float = 0.0, luck: float = 0.0, n_seeds: int = 5
) -> Interval:
    """A difference on 800 rows in 800 groups; seeds share half their training rows, and `luck` of their variance."""
    df = satterthwaite(sd_rows, sd_seeds, 800, n_seeds)
    reach = student.ppf(0.975, df) * math.hypot(sd_rows, sd_seeds)
    sd_refits = sd_seeds * math.sqrt(1 - luck)
    spread = sd_seeds / math.sqrt(1 / n_seeds + 1)
    return Interval(
        value, value - reach, value + reach, 800, 800, 0, sd_rows, sd_seeds, sd_refits, spread, df, n_seeds, 0.5
    )


def word(d: Interval) -> str:
    return verdicts([d])[0].word


def test_the_words() -> None:
    assert word(difference(0.05)) == "better"
    assert word(difference(-0.05)) == "worse"
    assert word(difference(0.001)) == "equivalent"
    assert word(difference(0.015)) == "better"  # excludes 0, and 90 % reaches past .02
    assert word(difference(0.02, sd_rows=0.02)) == "non-inferior"  # 90 % reaches down to -.013: not worse by the margin
    assert word(difference(-0.02, sd_rows=0.02)) == "undecided"


def test_significant_but_inside_the_margin_is_equivalent() -> None:
    v = verdicts([difference(0.010, sd_rows=0.002)])[0]
    assert v.p_different < 0.05
    assert v.word == "equivalent"
    assert v.needs == Needs()


def test_equivalent_means_the_90_percent_interval_lies_inside_the_margin() -> None:
    for value in np.linspace(-0.03, 0.03, 61):
        for sd in (0.002, 0.005, 0.01, 0.02):
            d = difference(value, sd_rows=sd)
            reach = student.ppf(0.95, d.df) * d.sd
            inside = abs(value) + reach < 0.02
            assert (verdicts([d])[0].p_equivalent < 0.05) == inside


def test_p_different_is_below_5_percent_exactly_when_the_interval_excludes_0() -> None:
    for value in np.linspace(-0.03, 0.03, 61):
        d = difference(value, sd_rows=0.006, sd_seeds=0.003)
        assert (verdicts([d])[0].p_different < 0.05) == (d.lo > 0 or d.hi < 0)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.02]) == [0.02]


def test_a_family_is_stricter_than_its_members() -> None:
    d = difference(0.0185, sd_rows=0.0088)
    assert verdicts([d])[0].p_different == pytest.approx(0.036, abs=0.001)
    assert word(d) == "better"
    assert {v.word for v in verdicts([d] * 3)} == {"non-inferior"}


def test_few_seeds_decide_nothing() -> None:
    v = verdicts([difference(0.2, n_seeds=4)])[0]
    assert (v.word, v.needs) == ("undecided", Needs("seeds", seeds=5))


def test_nothing_scored_decides_nothing() -> None:
    d = difference(math.nan, sd_rows=math.nan, sd_seeds=math.nan)
    v = verdicts([d])[0]
    assert (v.word, v.needs) == ("undecided", Needs("unscored"))


def test_identical_scores_are_equivalent() -> None:
    v = verdicts([difference(0.0, sd_rows=0.0)])[0]
    assert (v.word, v.p_different, v.p_equivalent) == ("equivalent", 1.0, 0.98**800)


def share_decided(d: Interval, rows: int, family: int = 1) -> float:
    """How often a family of contrasts like `d` is decided on this many rows if the true difference is the observed.

    Over 400 equally likely values of the estimate: finer than thousands of drawn ones.
    """
    sd_rows = d.sd_rows * math.sqrt(d.n / rows)
    df = satterthwaite(sd_rows, d.sd_seeds, d.n_groups * rows / d.n, d.n_seeds)
    then = replace(d, sd_rows=sd_rows, df=df)
    seen = norm.ppf((np.arange(400) + 0.5) / 400, d.value, then.sd)
    return float(
        np.mean(
            [verdicts([replace(then, value=v)] * family)[0].word not in {"undecided", "non-inferior"} for v in seen]
        )
    )


@pytest.mark.parametrize("family", [1, 3])
@pytest.mark.parametrize("value", [0.03, -0.03, 0.008, 0.0])
def test_with_the_rows_needed_a_difference_of_this_size_is_decided_four_times_in_five(
    value: float, family: int
) -> None:
    d = difference(value, sd_rows=0.02)
    rows = rows_needed(d, 5, family=family)
    assert rows is not None
    assert 0.77 <= share_decided(d, rows, family) <= 0.95  # Holm's later steps are less strict than the first


def test_rows_needed_by_hand() -> None:
    d = difference(0.03, sd_rows=0.02)  # no scatter of seeds: sd must fall to .03 / (1.96 + .842)
    exact = 800 * (0.02 * (1.959964 + 0.841621) / 0.03) ** 2
    assert rows_needed(d, 5) == pytest.approx(exact, rel=0.012)
    v = verdicts([d])[0]
    assert (v.word, v.margin, v.needs) == ("non-inferior", 0.02, Needs("more", rows=2800, groups=2800))


def test_advice_when_seeds_are_what_is_missing() -> None:
    d = difference(0.012, sd_rows=0.001, sd_seeds=0.0048)
    assert rows_needed(d, 5) is None
    v = verdicts([d])[0]
    assert (v.word, v.needs) == ("non-inferior", Needs("more", seeds=10)), "more rows do not help"


def test_advice_when_neither_rows_nor_seeds_would_do() -> None:
    v = verdicts([difference(0.01, sd_rows=0.001, sd_seeds=0.03)])[0]
    assert (v.word, v.needs.code) == ("undecided", "training rows")
    assert v.needs.refits == pytest.approx(0.027, abs=0.0005)


def test_seeds_that_differ_by_luck_of_the_rows_need_rows() -> None:
    d = difference(0.01, sd_rows=0.001, sd_seeds=0.02, luck=1.0)
    needs = verdicts([d])[0].needs
    assert (needs.code, needs.seeds) == ("more", 0)
    assert needs.rows > 800
    part = difference(0.06, sd_rows=0.0, sd_seeds=0.02, luck=0.75)  # far from the margin, which then adds nothing
    exact = (student.ppf(0.975, 4) + student.ppf(0.8, 4)) ** 2 * 0.02**2
    assert rows_needed(part, 5) == pytest.approx(800 * 0.75 * exact / (0.06**2 - 0.25 * exact), rel=0.012)


def test_advice_for_both() -> None:
    d = difference(0.01, sd_rows=0.012, sd_seeds=0.0048)
    needs = verdicts([d])[0].needs
    assert (needs.code, needs.seeds) == ("more", 10)
    assert needs.groups > 0


def test_a_method_that_ranks_the_wrong_way_round_is_not_compared() -> None:
    better = difference(0.166)
    (v,) = verdicts([better], inverted=[("logistic",)])
    assert v.word == "inverted"
    assert (v.needs, v.inverted) == (Needs("inverted"), ("logistic",))
    assert is_inverted(difference(0.3, sd_rows=0.05))
    assert not is_inverted(difference(0.47, sd_rows=0.01))  # significantly below .5, but by no more than the margin
    assert not is_inverted(difference(0.45, sd_rows=0.05))


def test_non_inferior_is_one_sided_and_weaker_than_equivalent() -> None:
    for value in np.linspace(-0.03, 0.03, 25):
        for sd in (0.004, 0.01, 0.02):
            v = verdicts([difference(value, sd_rows=sd)])[0]
            low = value - student.ppf(0.95, v.difference.df) * v.difference.sd
            assert (v.p_not_worse < 0.05) == (low > -0.02)
            if v.word == "equivalent":
                assert v.p_not_worse < 0.05
            assert (v.word == "non-inferior") == (low > -0.02 and v.p_different >= 0.05 and v.p_equivalent >= 0.05)


def test_benjamini_yekutieli_by_hand() -> None:
    assert benjamini_yekutieli([0.01]) == [0.01]
    # m = 3, 1 + 1/2 + 1/3 = 11/6; sorted .01, .02, .5 times 3/1, 3/2, 3/3 times 11/6
    assert benjamini_yekutieli([0.5, 0.01, 0.02]) == pytest.approx([0.5 * 11 / 6, 0.055, 0.055])
    assert benjamini_yekutieli([]) == []


def test_the_margin_decides() -> None:
    d = difference(0.01, sd_rows=0.004)
    assert [verdicts([d], margin)[0].word for margin in (0.01, 0.02)] == ["better", "equivalent"]


@pytest.mark.parametrize(("groups", "found"), [(40, "undecided"), (148, "undecided"), (149, "equivalent")])
def test_no_difference_is_called_small_that_the_groups_could_hide(groups: int, found: str) -> None:
    """Readers that agree on 40 groups may fail on one group in 40 that none of these showed: .98 ** 149 is .049."""
    small = replace(difference(0.0, sd_rows=0.0001), n_groups=groups)
    assert word(small) == found
    assert verdicts([small])[0].p_equivalent == pytest.approx(0.98**groups)
    # half the groups count where they are so unequal
    assert word(replace(small, n_groups=2 * groups, balance=0.5)) == found


def test_non_inferior_is_corrected_over_the_family() -> None:
    d = difference(0.012, sd_rows=0.018)
    (alone,) = verdicts([d])
    assert alone.word == "non-inferior"
    assert 0.05 / 3 < alone.p_not_worse < 0.05
    family = verdicts([d] * 3)
    assert [v.p_not_worse for v in family] == pytest.approx([3 * alone.p_not_worse] * 3)
    assert {v.word for v in family} == {"undecided"}


def test_the_rows_needed_are_never_those_that_are_there() -> None:
    """Equal scores on 40 groups are undecided: what is missing is groups, 149 of them, and not the 40 again."""
    same = replace(difference(0.0, sd_rows=0.0), n=80, n_groups=40)
    v = verdicts([same])[0]
    assert (v.word, v.needs) == ("undecided", Needs("more", rows=300, groups=150))
    # neither 0 nor the margin is excluded by a hair: a study of this size would mostly decide it
    between = difference(-0.011, sd_rows=0.00625)
    assert rows_needed(between, 5) == between.n
    v = verdicts([between])[0]
    assert (v.word, v.needs) == ("undecided", Needs("luck"))
