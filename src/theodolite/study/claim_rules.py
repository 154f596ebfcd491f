"""Verdict on one claim from the rows of a Run: pure functions of a rule and a table.

Every statement is answered yes, no or open by the 95 % interval of one row. Where a word may rest on any one of several
statements, their intervals are widened for that number (Bonferroni), so that "holds" and "does not hold" are each
wrong at most as often as one interval is. A word that needs all statements needs no correction (intersection-union
test, Berger 1982).
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import pandas as pd
from scipy.stats import norm
from scipy.stats import t as student

from theodolite.core.claim_file import FALSE, POWER, REGIME, TRUE, UNDECIDED, Claim, Rule, Statement
from theodolite.core.stats import FEWEST_SEEDS
from theodolite.core.verdict import LEVEL, unseen_failures
from theodolite.core.verdict import POWER as WANTED_POWER

Answer = Literal["yes", "no", "open"]
POOLINGS = "poolings"  # task of the rows with the tokens pooled another way
_KEY = ("task", "metric", "dataset", "method", "versus")
FREE = "free"  # site of the rows in which every method chose its own: another comparison
SHARES = {"auroc", "auroc_within_template", "accuracy"}  # metrics of which a group can hide a share (`unseen_failures`)
# A difference that is found four times in five, in half-widths of its interval
FOUND = (norm.ppf(1 - LEVEL / 2) + norm.ppf(WANTED_POWER)) / norm.ppf(1 - LEVEL / 2)


class Figures:
    """Rows of a Run over all seeds, to be found by what they are about.

    rows: dicts with the keys of `core.run_tables.ROW_COLUMNS`. poolings: names of the other poolings that the Run has.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._by: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
        for row in rows:
            if str(row["seed"]) == "all":
                self._by.setdefault(tuple(row[name] for name in _KEY), []).append(row)
        again = (row for rows in self._by.values() for row in rows if row["task"] == POOLINGS)
        self.poolings = sorted({row["pooling"] for row in again})

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "Figures":
        """Return the figures of a Run's table."""
        return cls(rows[rows["seed"].astype(str) == "all"].to_dict("records"))

    def row(self, statement: Statement, pooling: str = "") -> Mapping[str, Any] | str:
        """Return the one row that a statement is about, or a code of why there is none.

        pooling: "" for the Run's own, else the name of another.
        """
        task = POOLINGS if pooling else statement.task
        alike = self._by.get((task, *(getattr(statement, name) for name in _KEY[1:])), [])
        found = [row for row in alike if row["pooling"] == (pooling or row["pooling"]) and _is_about(statement, row)]
        return "no row" if not found else "several rows" if len(found) > 1 else found[0]


@dataclass(frozen=True)
class Tested:
    """One statement with the figure of its row; why: "" or a code of why there is no answer, or what it rests on."""

    statement: Statement
    answer: Answer
    value: float = math.nan
    lo: float = math.nan
    hi: float = math.nan
    n: int = 0
    n_groups: int = 0
    why: str = ""

    @property
    def detectable(self) -> float:
        """Return the smallest effect that such an interval finds four times in five; NaN without an interval."""
        return float(FOUND * (self.hi - self.lo) / 2)

    @property
    def room(self) -> float:
        """Return the distance from the bound to the nearer end of the interval."""
        return min(abs(self.lo - self.statement.bound), abs(self.hi - self.statement.bound))

    def facts(self) -> dict[str, Any]:
        """Return the statement, its answer and its figure as JSON."""
        figure = {name: getattr(self, name) for name in ("answer", "value", "lo", "hi", "n", "n_groups", "why")}
        return self.statement.model_dump(exclude_none=True) | figure | {"detectable": self.detectable}


@dataclass(frozen=True)
class Regime:
    """One regime with its statements: yes where all are, no where one is, else open."""

    name: str
    tests: tuple[Tested, ...]

    @property
    def answer(self) -> Answer:
        """Return the answer of the regime."""
        answers = {test.answer for test in self.tests}
        return "no" if "no" in answers else "yes" if answers == {"yes"} else "open"

    @property
    def deciding(self) -> int:
        """Return the number of the statement that the answer rests on: the first no, else the first open one.

        Where all are yes, that is the one whose interval ends nearest to its bound.
        """
        alike = [at for at, test in enumerate(self.tests) if test.answer == self.answer]
        return min(alike, key=lambda at: self.tests[at].room) if self.answer == "yes" else alike[0]

    def facts(self) -> dict[str, Any]:
        """Return the answer, the statements and which of them decides, as JSON."""
        tests = [test.facts() for test in self.tests]
        return {"name": self.name, "answer": self.answer, "deciding": self.deciding, "tests": tests}


def verdict(claim: Claim, figures: Figures) -> tuple[str, list[Regime]]:
    """Return the word of a claim on the rows of one Run at its own pooling, and the regimes behind it.

    "holds" and "does not hold" follow the rule; with `over: all` a claim that is true in some regimes and false in
    others is regime-limited. An open claim is power-limited where one of its open figures could not have found the
    effect of `power`, else undecided.
    """
    found = regimes(claim.rule, figures, picked=claim.rule.over == "any")
    answers = [regime.answer for regime in found]
    if claim.rule.over == "any":
        word = TRUE if "yes" in answers else FALSE if set(answers) == {"no"} else ""
    elif "no" not in answers:
        word = TRUE if set(answers) == {"yes"} else ""
    else:  # a regime that is picked because it says yes pays for the choice
        some = [regime.answer for regime in regimes(claim.rule, figures, picked=True)]
        word = REGIME if "yes" in some else FALSE
    return word or _open(claim, found), found


def regimes(rule: Rule, figures: Figures, pooling: str = "", *, picked: bool = False) -> list[Regime]:
    """Return the regimes of a rule, answered.

    pooling: "" for the Run's own. picked: one regime that says yes is enough, so that each pays for all.
    """
    n = len(rule.regimes)
    each = n if rule.over == "all" else 1  # how many regimes may say the "no" that decides
    return [
        Regime(
            name, tuple(answered(s, figures, pooling, yes=n if picked else 1, no=len(listed) * each) for s in listed)
        )
        for name, listed in rule.regimes.items()
    ]


def answered(statement: Statement, figures: Figures, pooling: str = "", *, yes: int = 1, no: int = 1) -> Tested:
    """Answer one statement; yes, no: among how many such answers it may be picked."""
    found = figures.row(statement, pooling)
    if isinstance(found, str):
        return Tested(statement, "open", why=found)
    value, lo, hi, groups = (float(found[name]) for name in ("value", "lo", "hi", "n_groups"))
    figure: dict[str, Any] = {"value": value, "lo": lo, "hi": hi, "n": int(found["n"]), "n_groups": int(groups)}
    if not all(map(math.isfinite, (value, lo, hi))):
        return Tested(statement, "open", why="no interval", **figure)
    seen = statement.metric not in SHARES or unseen_failures(statement.margin, groups) < LEVEL
    answers = {k: _answer(statement, *_widened(value, lo, hi, k), seen) for k in (yes, no)}
    answer: Answer = "yes" if answers[yes] == "yes" else "no" if answers[no] == "no" else "open"
    by_margin = _answer(statement, lo, hi, True) != _answer(statement, lo, hi, False)
    why = "few groups" if by_margin and not seen and answer == "open" else ""
    if by_margin and seen and answer != "open" and _is_near_one(statement, figures):
        why = "ceiling"
    return Tested(statement, answer, why=why, **figure)


def contradicted(answers: Sequence[Mapping[str, Answer]]) -> list[str]:
    """Return the regimes that say yes in one way of asking and no in another.

    >>> contradicted([{"a": "yes", "b": "open"}, {"a": "no", "b": "yes"}])
    ['a']
    """
    return [name for name in answers[0] if {"yes", "no"} <= {by[name] for by in answers if name in by}]


def by_pooling(claim: Claim, figures: Figures) -> dict[str, dict[str, Answer]]:
    """Return the answers by pooling, of the regimes whose rows the Run also has with the tokens pooled another way."""
    found = {}
    for pooling in figures.poolings:
        there = [r for r in regimes(claim.rule, figures, pooling) if not any(t.why == "no row" for t in r.tests)]
        if there:
            found[pooling] = {regime.name: regime.answer for regime in there}
    return found


def _is_near_one(statement: Statement, figures: Figures) -> bool:
    """Return whether the error that the better method leaves is less than two margins, as the Run's page warns of."""
    alone = {"task": "matched", "versus": "", "site": None, "split": None}
    levels = [
        figures.row(statement.model_copy(update=alone | {"method": m})) for m in (statement.method, statement.versus)
    ]
    return any(1 - level["value"] < 2 * statement.margin for level in levels if not isinstance(level, str))


def _is_about(statement: Statement, row: Mapping[str, Any]) -> bool:
    """Return whether a row has what a statement asks for beside task, metric, data set and methods."""
    if row["site"] == FREE if statement.site is None else row["site"] != statement.site:
        return False
    if statement.split not in (None, row["split"]):
        return False
    if statement.nats is not None and not math.isclose(row.get("nats", math.nan), statement.nats):
        return False
    return not statement.params or _has(row["params"], statement.params)


def _has(params: str, wanted: Mapping[str, Any]) -> bool:
    """Return whether a cell of the column `params` holds these entries."""
    try:
        entries = json.loads(params)
    except ValueError:
        return False
    return isinstance(entries, dict) and all(name in entries and entries[name] == wanted[name] for name in wanted)


def _answer(statement: Statement, lo: float, hi: float, seen: bool) -> Answer:
    """Answer by the interval; seen: there are enough groups for a word that rests on the margin alone."""
    bound, margin, lies = statement.bound, statement.margin, statement.lies
    if lies == "within":
        if seen and bound - margin < lo and hi < bound + margin:
            return "yes"
        return "no" if hi < bound - margin or lo > bound + margin else "open"
    if lies.endswith("below"):  # the mirror image
        lo, hi, bound = -hi, -lo, -bound
    answer: Answer = "yes" if lo > bound else "no" if hi < bound else "open"
    if margin and seen and hi < bound + margin:  # less than anybody would act on
        answer = "no"
    if lies.startswith("not"):
        return {"yes": "no", "no": "yes", "open": "open"}[answer]  # type: ignore[return-value]
    return answer


def _widened(value: float, lo: float, hi: float, k: int) -> tuple[float, float]:
    """The interval as one of k that hold together.

    Rows do not say their degrees of freedom; those of the fewest seeds with an interval widen it most.
    """
    factor = _factor(k)
    return value - factor * (value - lo), value + factor * (hi - value)


@cache
def _factor(k: int) -> float:
    df = FEWEST_SEEDS - 1
    return float(student.ppf(1 - LEVEL / 2 / k, df) / student.ppf(1 - LEVEL / 2, df))


def _open(claim: Claim, found: Sequence[Regime]) -> str:
    """The word of a claim that is neither true nor false."""
    left = [test for regime in found if regime.answer == "open" for test in regime.tests if test.answer == "open"]
    short = [test for test in left if test.why == "few groups" or test.detectable > claim.power.effect]
    return POWER if short else UNDECIDED
