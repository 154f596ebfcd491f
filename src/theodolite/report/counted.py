"""The section on what was counted instead of passed over: notes of a Run."""

from collections.abc import Mapping, Sequence
from typing import Any

from theodolite.report.blocks import Line, Section, Table, Text, Value, number
from theodolite.report.numbers import count

TITLE = "Counted warnings"


def counted_warnings(
    notes: Sequence[Mapping[str, Any]],
    *,
    caption: str = "Left out, and how often.",
    nothing: str = "Nothing was left out.",
) -> Section:
    """Return the section: one line for each note with its kind, count and text, or that there is nothing to tell."""
    if not notes:
        return Section(TITLE, [Text(nothing)])
    head = (Value("Kind"), number("Count"), Value("What"))
    lines = [Line((Value(n["kind"]), number(count(n["count"])), Value(n["text"]))) for n in notes]
    return Section(TITLE, [Table(caption, head, tuple(lines))])
