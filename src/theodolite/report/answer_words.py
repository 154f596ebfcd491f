"""Plain answers as values: the word, the numbers it follows from, and how both are written.

The ends of an interval are compared as they are printed, so that no word says more than the numbers beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from theodolite.core.run import IN_DISTRIBUTION
from theodolite.core.stats import FEWEST_SEEDS
from theodolite.report.numbers import count, missing, share, signed, span
from theodolite.report.sheet import Sheet

# What a word means for the reader: the page colours it so, and the word itself always stands there.
AHEAD, EQUIVALENT, TIED, NOBODY = "ahead", "equivalent", "not told apart", "nobody reads it well"
YES, NO, INCONCLUSIVE, UNDECIDED, UNASKED = "yes", "no", "inconclusive", "cannot be decided", "not asked"
UNRANKED = "not ranked"
BEHIND = "behind"
TONES = {
    AHEAD: "good",
    YES: "good",
    NO: "bad",
    NOBODY: "bad",
    EQUIVALENT: "even",
    TIED: "open",
    INCONCLUSIVE: "open",
    UNDECIDED: "open",
    UNASKED: "none",
    UNRANKED: "none",
}
QUESTIONS = {
    "ahead": "Who is ahead?",
    "model": "Was a model needed?",
    "dictionary": "Was the dictionary needed?",
    "selection": "May single predictions be relied on?",
}

Line = Mapping[str, Any]  # a difference in answers.json


@dataclass(frozen=True)
class Answer:
    """The answer to one question on one data set, with the numbers that its word follows from.

    question: a key of QUESTIONS. place: where, in words. value, lo, hi: of `method` minus `than`, or of `method` alone
    where `than` is empty; None where there is no such number. n, n_groups: the rows and groups that it rests on.
    detail: further sentences, for which a line has no room.
    """

    question: str
    dataset: str
    place: str
    word: str
    sentence: str
    method: str = ""
    than: str = ""
    value: float | None = None
    lo: float | None = None
    hi: float | None = None
    n: int = 0
    n_groups: int = 0
    detail: str = ""

    @property
    def title(self) -> str:
        """The question in words."""
        return QUESTIONS[self.question]

    @property
    def tone(self) -> str:
        """Kind of word, for its colour: good, bad, even, open or none."""
        return TONES[self.word]

    def __str__(self) -> str:
        return f"{self.title} ({self.place}) {self.word}. {self.sentence}"


def outcome(line: Line, margin: float) -> str:
    """Return what the interval of a difference shows: ahead, behind, equivalent, inconclusive, or that there is none.

    >>> outcome({"lo": 0.01, "hi": 0.09, "margin_is_seen": True}, 0.02)
    'ahead'
    >>> outcome({"lo": -0.0004, "hi": 0.09, "margin_is_seen": True}, 0.02)
    'inconclusive'
    >>> outcome({"lo": -0.01, "hi": 0.015, "margin_is_seen": True}, 0.02)
    'equivalent'
    """
    if missing(line["lo"]) or missing(line["hi"]):
        return UNDECIDED
    lo, hi = printed(line["lo"]), printed(line["hi"])
    if line["margin_is_seen"] and max(abs(lo), abs(hi), abs(line["lo"]), abs(line["hi"])) < margin:
        return EQUIVALENT
    return AHEAD if lo > 0 else BEHIND if hi < 0 else INCONCLUSIVE


def not_ahead(line: Line, margin: float) -> bool:
    """Return whether an interval excludes that the first method is ahead by the margin or more."""
    word = outcome(line, margin)
    if word in (BEHIND, EQUIVALENT):
        return True
    below = word != UNDECIDED and max(printed(line["hi"]), line["hi"]) < margin
    return bool(below and line["margin_is_seen"])


def printed(value: float) -> float:
    """A number as a reader sees it, with three decimals."""
    return round(value, 3)


def place_of(sheet: Sheet, dataset: str) -> str:
    """Write where a question is put: the role of a data set and its name."""
    column = sheet.column(dataset)
    where = {
        "left-out": f"left-out source {column.title}",
        "mix": "in distribution, test rows",
        "primary": f"primary shift, {column.title}",
    }
    return where.get(column.kind, f"shift, {column.title}")


def short_place(sheet: Sheet, dataset: str) -> str:
    """A data set inside a sentence."""
    return "the test rows" if dataset == IN_DISTRIBUTION else sheet.column(dataset).title


def counted(n: int, n_groups: int) -> str:
    """Rows and groups that an answer rests on."""
    return f"n = {count(n)} in {count(n_groups)} groups"


def decided(answer: Answer, word: str, sentence: str, line: Line) -> Answer:
    """The answer with its numbers, and the rows they rest on at the end of its sentence."""
    words = f"{sentence}; {counted(line['n'], line['n_groups'])}."
    return with_numbers(replace(answer, word=word, sentence=words, than=line["than"]), line)


def with_numbers(answer: Answer, line: Line) -> Answer:
    """The answer with the numbers of a difference or of a level."""
    numbers = {name: line[name] for name in ("method", "value", "lo", "hi", "n", "n_groups")}
    return replace(answer, **numbers)


def why(line: Line, sheet: Sheet | None = None) -> str:
    """Why there is no interval, in words."""
    about = " and ".join(sheet.phrase(m) for m in line.get("about", [])) if sheet else ""
    return {
        "seeds": f"Cannot be decided with {line['n_seeds']} training sets (an interval needs {FEWEST_SEEDS})",
        "groups": f"Cannot be decided with {line['n_groups']} group{'s' * (line['n_groups'] != 1)} of rows",
        "unscored": "Cannot be decided: nothing was scored",
        "training sets": "Cannot be decided: the training sets share too much to tell how far they would differ",
        "inverted": f"Not compared: {about} ranks the classes the wrong way round",
        "constant": f"Not compared: {about} gives every row one score",
    }.get(line["why"], f"Cannot be decided: {line['why']}")


def range_of(levels: Sequence[Line]) -> str:
    """Lowest to highest AUROC of some methods."""
    values = [level["value"] for level in levels]
    return f"{share(min(values))} to {share(max(values))}"


def minus(sheet: Sheet, line: Line) -> str:
    """A difference in words, with its interval."""
    interval = span(line["lo"], line["hi"], sign=True)
    return f"{sheet.phrase(line['method'])} minus {other_of(sheet, line)}, {signed(line['value'])} {interval}".rstrip()


def other_of(sheet: Sheet, line: Line) -> str:
    """The second method of a difference, inside a sentence."""
    return sheet.phrase(line["than"])


def low(line: Line) -> float:
    """The lower end of a difference; one without an interval excludes nothing."""
    return float("-inf") if missing(line["lo"]) else float(line["lo"])
