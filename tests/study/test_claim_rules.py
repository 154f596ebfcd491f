"""The rules of claims: every word is right in a planted world, and "holds" is seldom said where nothing is true."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom
from scipy.stats import t as student

from theodolite.core import claim_file
from theodolite.core.claim_file import FALSE, POWER, REGIME, TRUE, UNDECIDED, Claim, Statement
from theodolite.study.claim_rules import Figures, answered, by_pooling, contradicted, verdict

DIGEST = "d" * 64


def claim(datasets: Iterable[str] = ("a",), *, over: str = "all", effect: float = 0.06, **statement: Any) -> Claim:
    """A claim that the contrast of x and y lies above 0 in every data set, or what else is stated."""
    stated = {"task": "contrast", "metric": "auroc", "method": "x", "versus": "y", "lies": "above"} | statement
    return Claim(
        name="planted",
        area="reading",
        sentence="X beats y.",
        source="us",
        command="theodolite compare planted",
        recipe="planted",
        digest=DIGEST,
        fixed="before",
        rule={"over": over, "regimes": {name: [stated | {"dataset": name}] for name in datasets}},
        power={"effect": effect, "reason": "planted"},
    )


def table(*rows: dict[str, Any]) -> Figures:
    base = {"task": "contrast", "metric": "auroc", "method": "x", "versus": "y", "seed": "all", "site": "s"}
    base |= {"dataset": "a", "pooling": "mean", "split": "test", "params": "{}", "n": 400, "n_groups": 300}
    return Figures(base | row for row in rows)


def row(lo: float, hi: float, **more: Any) -> dict[str, Any]:
    return {"value": (lo + hi) / 2, "lo": lo, "hi": hi} | more


@pytest.mark.parametrize(
    ("lies", "bound", "margin", "interval", "answer"),
    [
        ("above", 0, 0, (0.01, 0.05), "yes"),
        ("above", 0, 0, (-0.05, -0.01), "no"),
        ("above", 0, 0, (-0.01, 0.05), "open"),
        ("above", 0, 0.02, (0.001, 0.015), "no"),  # significant, and less than anybody would act on
        ("above", 0, 0.02, (0.001, 0.03), "yes"),
        ("above", 0, 0.02, (-0.01, 0.015), "no"),
        ("above", 0.9, 0, (0.91, 0.95), "yes"),
        ("below", 0, 0.02, (-0.03, -0.001), "yes"),
        ("below", 0, 0.02, (-0.015, -0.001), "no"),
        ("below", 0, 0.02, (0.01, 0.05), "no"),
        ("below", 0.9, 0, (0.85, 0.95), "open"),
        ("not below", 0, 0.02, (-0.015, 0.05), "yes"),
        ("not below", 0, 0.02, (-0.05, -0.01), "no"),
        ("not above", 0, 0.02, (-0.05, 0.015), "yes"),
        ("not above", 0, 0.02, (0.001, 0.05), "no"),
        ("within", 0, 0.02, (-0.015, 0.019), "yes"),
        ("within", 0, 0.02, (0.021, 0.05), "no"),
        ("within", 0, 0.02, (0.015, 0.05), "open"),
    ],
)
def test_an_interval_answers_a_statement(
    lies: str, bound: float, margin: float, interval: tuple[float, float], answer: str
) -> None:
    statement = claim(lies=lies, bound=bound, margin=margin).rule.regimes["a"][0]
    assert answered(statement, table(row(*interval))).answer == answer


def test_the_denial_of_a_statement_has_the_opposite_answer() -> None:
    opposite = {"yes": "no", "no": "yes", "open": "open"}
    rng = np.random.default_rng(0)
    for lo, width in zip(rng.normal(0, 0.03, 200), rng.uniform(0, 0.08, 200), strict=True):
        rows = table(row(lo, lo + width))
        for lies in ("above", "below"):
            said, denied = (
                answered(claim(lies=word, margin=0.02).rule.regimes["a"][0], rows).answer
                for word in (lies, f"not {lies}")
            )
            assert denied == opposite[said]


@pytest.mark.parametrize(
    ("over", "intervals", "word"),
    [
        ("all", [(0.03, 0.06), (0.03, 0.07)], TRUE),
        ("all", [(-0.06, -0.03), (-0.07, -0.03)], FALSE),
        ("all", [(-0.06, -0.03), (-0.02, 0.04)], FALSE),
        ("all", [(0.03, 0.05), (-0.05, -0.03)], REGIME),
        ("all", [(0.03, 0.06), (-0.02, 0.03)], UNDECIDED),
        ("all", [(0.03, 0.06), (-0.09, 0.12)], POWER),
        ("any", [(0.03, 0.05), (-0.05, -0.03)], TRUE),
        ("any", [(-0.06, -0.03), (-0.07, -0.03)], FALSE),
        ("any", [(-0.06, -0.03), (-0.02, 0.03)], UNDECIDED),
        ("any", [(0.001, 0.05), (-0.02, 0.03)], UNDECIDED),  # as one of two it does not exclude 0
        ("all", [(0.001, 0.05), (0.001, 0.05)], TRUE),  # both must: nothing was picked
        ("all", [(0.001, 0.05), (-0.05, -0.03)], FALSE),  # the one that says yes was picked, and does not exclude 0
    ],
)
def test_regimes_combine_to_the_word_that_is_right(over: str, intervals: list[tuple[float, float]], word: str) -> None:
    names = "ab"
    rows = table(*(row(*interval, dataset=name) for name, interval in zip(names, intervals, strict=True)))
    assert verdict(claim(names, over=over), rows)[0] == word


def test_a_regime_with_several_statements_needs_all_of_them() -> None:
    both = claim("a").model_dump()
    level = {"task": "matched", "metric": "auroc", "method": "x", "dataset": "b", "lies": "below", "bound": 0.8}
    both["rule"]["regimes"]["a"].append(level)
    fits = row(0.03, 0.06)
    for lo, hi, word in ((0.5, 0.6, TRUE), (0.85, 0.95, FALSE), (0.77, 0.82, UNDECIDED)):
        rows = table(fits, row(lo, hi, task="matched", versus="", dataset="b"))
        found, (regime,) = verdict(Claim(**both), rows)
        assert found == word
        assert regime.tests[regime.deciding].statement.task == ("contrast" if word == TRUE else "matched")


def test_a_word_that_rests_on_the_margin_needs_groups_that_would_have_shown_a_rare_failure() -> None:
    interval = row(-0.01, 0.01)
    same = claim(lies="within", margin=0.02)
    assert verdict(same, table(interval | {"n_groups": 149}))[0] == TRUE
    word, (regime,) = verdict(same, table(interval | {"n_groups": 148}))
    assert (word, regime.tests[0].why) == (POWER, "few groups")
    nats = claim(lies="within", margin=0.02, metric="effect_sentence")  # no group hides a share of log-odds
    assert verdict(nats, table(interval | {"n_groups": 20, "metric": "effect_sentence"}))[0] == TRUE


def test_a_ceiling_is_said() -> None:
    """At .995 against .999 a margin of .02 is four times the error that is left."""
    levels = [row(0.99, 0.999, task="matched", versus="", method=m) for m in "xy"]
    rows = table(row(-0.009, -0.001), *levels)
    (regime,) = verdict(claim(lies="below", margin=0.02), rows)[1]
    assert (regime.answer, regime.tests[0].why) == ("no", "ceiling")
    (regime,) = verdict(claim(lies="below", margin=0.02), table(row(-0.009, -0.001)))[1]
    assert (regime.answer, regime.tests[0].why) == ("no", "")


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (table(row(0.03, 0.06, dataset="b")), "no row"),
        (table(row(0.03, 0.06, seed="0")), "no row"),
        (table(row(0.03, 0.06, site="free")), "no row"),
        (table(row(0.03, 0.06), row(0.01, 0.06)), "several rows"),
        (table({"value": 0.05, "lo": np.nan, "hi": np.nan}), "no interval"),
    ],
)
def test_without_its_one_figure_a_claim_is_undecided(rows: Figures, why: str) -> None:
    word, (regime,) = verdict(claim(), rows)
    assert (word, regime.answer, regime.tests[0].why) == (UNDECIDED, "open", why)


def test_a_row_is_found_by_split_disturbance_and_parameters() -> None:
    mine = row(0.03, 0.06, split="+", nats=0.1, params='{"alpha":0.9,"rule":"chosen"}')
    others = (mine | {"split": "-"}, mine | {"nats": 0.3}, mine | {"params": '{"alpha":0.8,"rule":"chosen"}'})
    rows = table(mine, *others)
    params = {"alpha": 0.9, "rule": "chosen"}
    assert verdict(claim(split="+", nats=0.1, params=params), rows)[0] == TRUE
    assert verdict(claim(split="+", nats=0.1), rows)[1][0].tests[0].why == "several rows"
    earlier = table({name: value for name, value in mine.items() if name != "nats"})  # before there was this column
    assert verdict(claim(split="+", nats=0.1), earlier)[1][0].tests[0].why == "no row"


def test_poolings_are_answered_where_a_run_has_them() -> None:
    other = {"task": "poolings", "pooling": "last"}
    rows = table(row(0.03, 0.06), row(0.03, 0.06, dataset="b"), row(-0.06, -0.03, **other))
    found = by_pooling(claim("ab"), rows)
    assert found == {"last": {"a": "no"}}
    assert contradicted([{"a": "yes", "b": "yes"}, *found.values()]) == ["a"]
    assert contradicted([{"a": "open"}, {"a": "no"}]) == []


STUDIES, SEEDS = 200, 5


def studies(truth: list[float], sd: float = 0.02) -> Iterable[Figures]:
    """Studies of as many data sets as there are true differences, each with Student's interval over five seeds."""
    rng = np.random.default_rng(7)
    wide = student.ppf(0.975, SEEDS - 1) / np.sqrt(SEEDS)
    for _ in range(STUDIES):
        seeds = rng.normal(truth, sd, (SEEDS, len(truth)))
        mean, half = seeds.mean(0), wide * seeds.std(0, ddof=1)
        ends = zip("abcdef", mean - half, mean + half, strict=False)
        yield table(*(row(lo, hi, dataset=name) for name, lo, hi in ends))


def share_of(word: str, about: Claim, truth: list[float], sd: float = 0.02) -> int:
    return sum(verdict(about, rows)[0] == word for rows in studies(truth, sd))


# "holds" may be said by one end of a 95 % interval; more often than this only once in a thousand series of studies
MOST = binom.ppf(0.999, STUDIES, 0.025)


@pytest.mark.parametrize(
    ("about", "truth"),
    [
        (claim("a"), [0.0]),
        (claim("a", lies="below", margin=0.02), [0.0]),
        (claim("a", lies="not below", margin=0.02), [-0.02]),
        (claim("a", lies="within", margin=0.02), [0.02]),
        (claim("abc"), [0.0, 0.1, 0.1]),  # the hardest null of an intersection: one is false
        (claim("abcdef", over="any"), [0.0] * 6),
    ],
    ids=["above", "below", "not-below", "within", "all-of-3", "any-of-6"],
)
def test_holds_comes_at_most_at_the_nominal_rate_where_the_claim_is_false(about: Claim, truth: list[float]) -> None:
    assert share_of(TRUE, about, truth) <= MOST


def test_does_not_hold_comes_at_most_at_the_nominal_rate_where_the_claim_is_true() -> None:
    assert share_of(FALSE, claim("abcdef"), [0.0] * 6) <= MOST
    assert share_of(REGIME, claim("abcdef"), [0.0] * 6) <= MOST


def test_a_true_claim_is_found() -> None:
    for over in ("all", "any"):
        assert share_of(TRUE, claim("abc", over=over), [0.1] * 3) > 0.9 * STUDIES


def test_the_detectable_effect_is_found_four_times_in_five() -> None:
    """By a normal interval whose half-width is known: planted at the effect, 80 % of the studies exclude 0."""
    figure = answered(Statement(**claim().rule.regimes["a"][0].model_dump()), table(row(-0.02, 0.02)))
    shift = np.random.default_rng(3).normal(figure.detectable, 0.02 / 1.96, 4000)
    assert 0.78 < np.mean(shift - 0.02 > 0) < 0.82


@pytest.mark.parametrize("name", [name for name in claim_file.names() if claim_file.load(name).area == "control"])
def test_a_claim_on_control_holds_where_its_figures_lie_as_it_says_and_not_where_they_are_mirrored(name: str) -> None:
    about = claim_file.load(name)
    stated = [statement for each in about.rule.regimes.values() for statement in each]
    for sign, word in ((1, TRUE), (-1, FALSE)):
        rows = []
        for statement in stated:
            side = sign if statement.lies in ("above", "not below") else -sign
            keys = {"task", "metric", "dataset", "method", "versus", "split", "nats"}
            ends = sorted((0.5 * side, 0.9 * side))
            rows.append(row(*ends) | statement.model_dump(include=keys, exclude_none=True))
        assert verdict(about, table(*rows))[0] == word
