"""The section on the contrasts that were fixed before the run."""

from collections.abc import Mapping
from typing import Any

from theodolite.core.control_documents import SteeringFacts, facts_of
from theodolite.core.run import Run
from theodolite.report.blocks import Line, Section, Table, Value, number
from theodolite.report.numbers import count, p_value, signed, span
from theodolite.report.steer_words import METRICS, PRIMARY, phrase, usable


def contrasts_section(run: Run) -> Section:
    """Return the section: one table."""
    return Section("Contrasts fixed before the run", [contrasts(run)])


def contrasts(run: Run) -> Table:
    """Return all contrasts fixed before the run, by metric."""
    facts = facts_of(run, "steering", SteeringFacts)
    head = (Value("Difference"), Value("On"), number("Nats"), number("p", "Holm"), Value("Verdict"), number("n"))
    lines = tuple(
        Line(
            (
                Value(phrase(one["method"]), f"minus {phrase(one['than'])}"),
                Value(METRICS[one["metric"]]),
                number(signed(one["value"]), span(one["lo"], one["hi"], sign=True)),
                number(p_value(one["p_holm"])),
                _verdict(one, facts),
                number(count(one["n"])),
            )
        )
        for one in facts["contrasts"]
    )
    caption = (
        f"Contrasts fixed before the run, at {facts['primary']:g} nat; equivalent: within {facts['margin']:g} nats. "
        "Written text is the primary measure; p is corrected over the primary contrasts of one measure, and over its "
        "secondary ones."
    )
    return Table(caption, head, lines)


def _verdict(one: Mapping[str, Any], facts: Mapping[str, Any]) -> Value:
    """Verdict of a contrast; none on written text whose classifier tells nothing: there all methods look alike."""
    if one["metric"] in PRIMARY and one["metric"] not in usable(facts):
        return Value("none", "its classifier does not tell held-out texts")
    return Value(one["verdict"], "", f"verdict {one['verdict']}")
