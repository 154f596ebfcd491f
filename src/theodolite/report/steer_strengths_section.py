"""The section on strengths, doses, damage and effects on other concepts of each method."""

from collections.abc import Mapping, Sequence
from typing import Any

from theodolite.core.control_documents import SteeringFacts, facts_of
from theodolite.core.run import Run
from theodolite.report.blocks import Line, Section, Table, Value, number
from theodolite.report.numbers import share, signed
from theodolite.report.steer_words import phrase


def strengths_section(run: Run) -> Section:
    """Return the section: one table."""
    return Section("Strengths, doses and damage", [strengths(run)])


def strengths(run: Run) -> Table:
    """Return what each method needs for the disturbances, whether its doses are control, and when it does damage."""
    facts = facts_of(run, "steering", SteeringFacts)
    head = (
        *(Value("Method"), Value("Site"), number("Strength", "+ / \N{MINUS SIGN}"), number("Not matched", "cells")),
        *(
            Value("Dose"),
            number("Damage of 5 %", "+ / \N{MINUS SIGN}"),
            number("On other concepts", "+ / \N{MINUS SIGN}"),
        ),
    )
    lines = []
    for method, about in facts["methods"].items():
        strength = " / ".join(_strength(about["strengths"], split, facts["primary"]) for split in "+-")
        unmatched = sum(bool(one["reason"]) for one in about["strengths"])
        judged = about["dose"]["effect_targets"]
        lines.append(
            Line(
                (
                    *(Value(phrase(method)), Value(about["site"] or "none"), number(strength)),
                    number(f"{unmatched} of {len(about['strengths'])}"),
                    Value(judged["word"], judged["why"]) if judged else Value(_no_dose(about["strengths"])),
                    number(" / ".join(_crossing(about["damage"][split]) for split in "+-")),
                    _elsewhere(about["selectivity"]),
                )
            )
        )
    caption = (
        f"Strengths at {facts['primary']:g} nat in each method's own units, the mean over training sets. Dose: control "
        "if both signs move the targets' log-odds in opposite directions, the farther the larger the strength, and "
        "farther than random directions do. Damage: size of strength at which the loss on unrelated text rises by 5 %. "
        "On other concepts: mean size of the effects of the same edit on the targets of the other packaged concepts, "
        "and the one that moves most, in nats of each one's own targets. These are words that move by other amounts: "
        "compare methods by it, not with the effect on the concept, since what random directions do to these targets "
        "is not measured."
    )
    return Table(caption, head, tuple(lines))


def _strength(strengths: Sequence[Mapping[str, Any]], split: str, primary: float) -> str:
    """Mean strength of one sign over training sets; why there is none where one of them was not matched."""
    mine = [one for one in strengths if (one["split"], one["nats"]) == (split, primary)]
    missed = [one["reason"] for one in mine if one["reason"]]
    if missed or not mine:
        return missed[0] if missed else "none"
    return f"{sum(one['strength'] for one in mine) / len(mine):.3g}"


def _no_dose(strengths: Sequence[Mapping[str, Any]]) -> str:
    """Reason why a dose has no word: a sign without any strength, or no targets that it could be judged by."""
    matched = {one["split"] for one in strengths if not one["reason"]}
    return "not asked" if matched == {"+", "-"} else "not matched"


def _crossing(at: Mapping[str, Any] | None) -> str:
    if at is None:
        return "not matched"
    return f"{at['value']:.3g}" if at["value"] is not None else f"> {at['last']:.3g}"


def _elsewhere(found: Mapping[str, Any]) -> Value:
    """Mean size of the effects on other concepts by sign, and below it the concept that moves most."""
    known = {split: one for split, one in found.items() if one is not None and one.get("size") is not None}
    sizes = [share(known[split]["size"]["value"]) if split in known else "not measured" for split in "+-"]
    most = [f"{known[s]['most_of']} {signed(known[s]['most'])}" for s in "+-" if s in known]
    return number(" / ".join(sizes), f"most {' / '.join(most)}" if most else "")
