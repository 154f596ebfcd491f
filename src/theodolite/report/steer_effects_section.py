"""The section on effects at equal disturbance: all methods beside the nulls, and what has no matched disturbance."""

from collections.abc import Mapping
from typing import Any

from theodolite.core.control_documents import SteeringFacts, facts_of
from theodolite.core.run import Run
from theodolite.report.blocks import Line, Section, Table, Value, number
from theodolite.report.numbers import share, signed, span
from theodolite.report.steer_curves_section import figure
from theodolite.report.steer_words import at_first, cell, measures, phrase

NULLS = {
    "other_concepts": "directions of other concepts",
    "neutral_halves": "halves of neutral text",
    "stratified_shuffles": "labels shuffled within the classes",
}


def effects_section(run: Run) -> Section:
    """Return the section: effects, points apart from them, and the figure over all levels."""
    apart = points(run)
    return Section("Effects at equal disturbance", [effects(run), *([apart] if apart else []), *figure(run)])


def effects(run: Run) -> Table:
    """Return the effects of all methods at the primary disturbance, over both signs, and the random band."""
    facts = facts_of(run, "steering", SteeringFacts)
    rows = run.rows
    at = rows[(rows["task"] == "steer") & (rows["nats"] == facts["primary"]) & at_first(rows, facts)]
    shown = measures(rows)
    on_targets = "effect_targets" in shown
    last = [number("")] if on_targets else []  # of what is no method
    head = [Value("Method"), *(number(f"Effect on {name}") for name in shown.values())]
    head += [number("Wrong way", "targets")] if on_targets else []
    lines = []
    for method in facts["methods"]:
        mine = at[at["method"] == method]
        cells = [cell(mine[(mine["split"] == "both") & (mine["metric"] == metric)]) for metric in shown]
        wrong = mine[mine["metric"] == "effect_targets:wrong_way"]["value"]
        cells += [number(share(wrong.max()) if len(wrong) else "")] if on_targets else []
        lines.append(Line((Value(phrase(method)), *cells)))
    bands = {one["metric"]: one for one in facts["bands"] if one["nats"] == facts["primary"]}
    widths = [bands.get(metric) for metric in shown]
    if any(widths):
        cells = [number(f"within {share(b['width'])}", f"{b['n']} draws") if b else number("") for b in widths]
        lines.append(Line((Value("random directions", "95 % of them"), *cells, *last)))
    found = {(one["null"], one["metric"]): one for one in facts["nulls"]}
    for null in dict.fromkeys(one["null"] for one in facts["nulls"]):
        cells = [_null(found.get((null, metric))) for metric in shown]
        lines.append(Line((Value(NULLS[null], "95 % of them"), *cells, *last)))
    top = {one["metric"]: one for one in facts.get("ceilings", []) if one["nats"] == facts["primary"]}
    if top:
        cells = [_ceiling(top.get(metric)) for metric in shown]
        lines.append(Line((Value("ceiling", "a tilt towards the targets themselves"), *cells, *last)))
    caption = (
        "Half the distance between pushes towards and away from the concept, in nats of log-odds, each at a mean KL "
        f"of {facts['primary']:g} nat; [95 % interval]."
    )
    if len(lines) > len(facts["methods"]):
        caption += " The other rows are of pushes of one sign, whose opposites are draws too."
    if on_targets:
        caption += " Wrong way: share of openings moved against the push, worse sign."
    return Table(caption, tuple(head), tuple(lines))


def points(run: Run) -> Table | None:
    """Return what has no matched disturbance, such as the whole instruction; None where nothing has."""
    rows = run.rows
    at = rows[(rows["task"] == "steer") & rows["nats"].isna()]
    if at.empty:
        return None
    shown = measures(rows)
    head = (
        Value("Method"),
        number("Sign"),
        number("Nats"),
        *(number(f"Effect on {name}") for name in shown.values()),
    )
    lines = []
    for (method, split), mine in at.groupby(["method", "split"], sort=False):
        (kl,) = mine[mine["metric"] == "kl"]["value"]
        cells = [cell(mine[mine["metric"] == metric], "") for metric in shown]
        about = Value(phrase(method), "the whole instruction" if method == "prompt" else "without a dial")
        lines.append(Line((about, number(split), number(f"{kl:.3g}"), *cells)))
    caption = "Points at a disturbance of their own, which no strength sets to another: compare them with no row above."
    return Table(caption, head, tuple(lines))


def _ceiling(top: Mapping[str, Any] | None) -> Value:
    return number("") if top is None else number(signed(top["value"]), span(top["lo"], top["hi"], sign=True))


def _null(band: Mapping[str, Any] | None) -> Value:
    if band is None:
        return number("")
    return number(f"within {share(band['width'])}", f"{band['n']} draws, most {signed(band['most'])}")
