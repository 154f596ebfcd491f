"""Effects along disturbance and depth: the figure of all levels, and the tables of the full run."""

from collections.abc import Sequence

from theodolite.core.control_documents import SteeringFacts, facts_of
from theodolite.core.control_limits import OVERDRIVE
from theodolite.core.run import Run
from theodolite.report.blocks import Block, Figure, Line, Section, Table, Value, number
from theodolite.report.chart import Chart
from theodolite.report.dose_chart import dose_chart
from theodolite.report.steer_words import METRICS, SAMPLED, at_first, cell, measures, phrase


def figure(run: Run) -> Sequence[Block]:
    """Return the figure of effects against disturbance with its caption; nothing of a run without targets."""
    if (drawn := curves(run)) is None:
        return ()
    caption = (
        "Effect on the targets' log-odds against the disturbance, for pushes towards the concept and away from it."
    )
    further = run.recipe["curve"]
    many = f"{further} more strengths of each sign are in the rows." if further else "The levels are the whole curve."
    return (Figure(drawn, f"{caption} Grey: 95 % of random directions. {many}"),)


def curves(run: Run) -> Chart | None:
    """Return the figure of effects on the targets against the disturbance, both signs; None without targets."""
    rows = run.rows
    wanted = (rows["metric"] == "effect_targets") & rows["split"].isin(["+", "-"]) & rows["nats"].notna()
    mine = rows[(rows["task"] == "steer") & wanted & at_first(rows, facts_of(run, "steering", SteeringFacts))]
    bands = [one for one in facts_of(run, "steering", SteeringFacts)["bands"] if one["metric"] == "effect_targets"]
    return None if mine.empty else dose_chart(mine, bands, phrase)


def level_sections(run: Run) -> Sequence[Section]:
    """Return the section on all levels of disturbance, of a full run."""
    return [Section("All levels of disturbance", [levels(run)])] if run.recipe["full"] else []


def levels(run: Run) -> Table:
    """Return effects by level of disturbance on written text, greedy and in samples, and on questions."""
    rows, facts = run.rows, facts_of(run, "steering", SteeringFacts)
    at = rows[(rows["task"] == "steer") & (rows["split"] == "both") & at_first(rows, facts)]
    named = {name: text for name, text in (METRICS | SAMPLED).items() if (at["metric"] == name).any()}
    head = (Value("Method"), number("Nats"), *(number(f"Effect on {text}") for text in named.values()))
    lines = []
    for method in facts["methods"]:
        for nats in facts["nats"]:
            mine = at[(at["method"] == method) & (at["nats"] == nats)]
            cells = [cell(mine[mine["metric"] == name]) for name in named]
            level = number(f"{nats:g}", "overdrive" if nats >= OVERDRIVE else "")
            lines.append(Line((Value(phrase(method)), level, *cells)))
    caption = "Effects over both signs at each level of disturbance. Overdrive: effects are expected to fall again."
    return Table(caption, head, tuple(lines))


def depth_sections(run: Run) -> Sequence[Section]:
    """Return the section on depths, of a run at several sites."""
    several = len(facts_of(run, "steering", SteeringFacts)["sites"]) > 1
    return [Section("Depths", [depths(run)])] if several else []


def depths(run: Run) -> Table:
    """Return the effects at the primary disturbance by site; a contrast is decided at the first one alone."""
    rows, facts = run.rows, facts_of(run, "steering", SteeringFacts)
    at = rows[(rows["task"] == "steer") & (rows["split"] == "both") & (rows["nats"] == facts["primary"])]
    shown = measures(rows)
    head = (Value("Method"), Value("Site"), *(number(f"Effect on {name}") for name in shown.values()))
    lines = [
        Line((Value(phrase(method)), Value(site or "none"), *(cell(mine[mine["metric"] == m]) for m in shown)))
        for (method, site), mine in at.groupby(["method", at["site"].fillna("")], sort=False)
    ]
    caption = (
        f"Effects over both signs at {facts['primary']:g} nat by depth. Contrasts and all other tables are of "
        f"{facts['sites'][0]}, fixed before the run: at later layers less of the model is left to answer a push."
    )
    return Table(caption, head, tuple(lines))
