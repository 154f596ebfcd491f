"""Parts of a page. Sections build these values; the HTML template, LaTeX and the terminal draw them."""

from collections.abc import Sequence
from dataclasses import dataclass

from theodolite.report.answer_words import Answer
from theodolite.report.chart import Chart


@dataclass(frozen=True)
class Text:
    """A paragraph; kind is "", lead, note, warning or absent (something the run does not have, and why)."""

    words: str
    kind: str = ""


@dataclass(frozen=True)
class Value:
    """A table cell: words, a smaller second line (the interval), and a kind: "", number, or a verdict word."""

    words: str
    small: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Line:
    """A table row, or the heading of the rows that follow it, in the colour their points have in the figures."""

    cells: tuple[Value, ...]
    heading: bool = False
    colour: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under a head, with a caption that says how to read them."""

    caption: str
    head: tuple[Value, ...]
    lines: tuple[Line, ...]
    number: int = 0


@dataclass(frozen=True)
class Figure:
    """A chart with its caption."""

    chart: Chart
    caption: str
    number: int = 0


@dataclass(frozen=True)
class Facts:
    """Terms and what they are."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Answers:
    """Plain answers: a question, where it was put, its word in colour, and a sentence with the numbers."""

    lines: tuple[Answer, ...]


@dataclass(frozen=True)
class Fold:
    """Blocks behind a summary that opens them; no script is needed for it."""

    summary: str
    blocks: tuple["Block", ...]


Block = Text | Table | Figure | Facts | Points | Answers | Fold


@dataclass(frozen=True)
class Section:
    """A numbered heading and what stands under it."""

    title: str
    blocks: Sequence[Block]


def number(words: str, small: str = "") -> Value:
    """A right-aligned cell."""
    return Value(words, small, "number")


def absent(why: str) -> Text:
    """A part the run does not have, said instead of left out."""
    return Text(why, "absent")
