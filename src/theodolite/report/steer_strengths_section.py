"""The section on strengths, doses, damage and selectivity of each method."""

from collections.abc import Mapping
from typing import Any

from theodolite.core.control_documents import SteeringFacts, facts_of
from theodolite.core.run import Run
from theodolite.report.blocks import Line, Section, Table, Value, number
from theodolite.report.numbers import share
from theodolite.report.steer_words import phrase


def strengths_section(run: Run) -> Section:
    """Return the section: one table."""
    return Section("Strengths, doses and damage", [strengths(run)])


def strengths(run: Run) -> Table:
    """Return what each method needs for the disturbances, whether its doses are control, and when it does damage."""
    facts = facts_of(run, "steering", SteeringFacts)
    head = (
        *(Value("Method"), Value("Site"), number("Strength", "+ / \N{MINUS SIGN}"), number("Not matched", "cells")),
        *(Value("Dose"), number("Damage of 5 %", "+ / \N{MINUS SIGN}"), number("Selectivity", "+ / \N{MINUS SIGN}")),
    )
    lines = []
    for method, about in facts["methods"].items():
        primary = [one for one in about["strengths"] if one["nats"] == facts["primary"]]
        strength = " / ".join(f"{one['strength']:.3g}" if not one["reason"] else one["reason"] for one in primary)
        unmatched = sum(bool(one["reason"]) for one in about["strengths"])
        judged = about["dose"]["effect_targets"]
        lines.append(
            Line(
                (
                    *(Value(phrase(method)), Value(about["site"] or "none"), number(strength)),
                    number(f"{unmatched} of {len(about['strengths'])}"),
                    Value(judged["word"] if judged else "not asked", judged["why"] if judged else ""),
                    number(" / ".join(_crossing(about["damage"][split]) for split in "+-")),
                    number(" / ".join(_share(about["selectivity"][split]) for split in "+-")),
                )
            )
        )
    caption = (
        f"Strengths at {facts['primary']:g} nat in each method's own units. Dose: control if both signs move the "
        "targets' log-odds in opposite directions, monotonously, and farther than random directions do. Damage: size "
        "of strength at which the loss on unrelated text rises by 5 %. Selectivity: effect on the concept as a share "
        "of it and of the mean size of the effects on other concepts, in nats of each one's own targets."
    )
    return Table(caption, head, tuple(lines))


def _crossing(at: Mapping[str, Any] | None) -> str:
    if at is None:
        return "none"
    return f"{at['value']:.3g}" if at["value"] is not None else f"> {at['last']:.3g}"


def _share(found: Mapping[str, Any] | None) -> str:
    return "none" if found is None else share(found["share"]["value"])
