"""The page of a debate: is the best reader of a concept its best controller? Answer, figure, numbers, contrasts."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from theodolite.core.control_documents import DebateFacts, facts_of
from theodolite.core.control_limits import FEWEST_RANKED, MOST_COUNTED
from theodolite.core.run import Run
from theodolite.report.blocks import Block, Facts, Figure, Line, Points, Section, Table, Text, Value, absent, number
from theodolite.report.chart import Chart
from theodolite.report.counted import counted_warnings
from theodolite.report.debate_chart import debate_chart
from theodolite.report.numbers import count, missing, p_equals, p_value, share, signed, size, span, upper
from theodolite.report.pages import Page
from theodolite.report.steer_words import phrase

WRITTEN, TARGETS = "effect_written", "effect_targets"
METRICS = {WRITTEN: "written text", TARGETS: "targets"}
ABSENT = {
    "no reader": "no reader is its counterpart",
    "not read": "its reader is not in the reading Run",
    "not steered": "it is not in the steering Run",
    "not matched": "no strength reaches the disturbance",
}
JOINS = {"is": "is", "is not": "is not", "open": "is not shown to be"}
SCOPE = (
    "The interval is over texts and openings (and over training sets where there are enough of them), for these "
    "methods, this model and this concept. It does not cover which methods are compared."
)


def model_words(run: Run) -> str:
    """Write the model by its quantisation and size, as a sentence about it begins."""
    about = run.facts["model"]
    parameters = size(about["parameters"])
    return f"{about['quantisation']} {parameters}" if about.get("quantisation") else f"{about['name']} ({parameters})"


def answer(run: Run, side: Mapping[str, Any], metric: str = WRITTEN) -> str:
    """Write the answer for one concept in one sentence."""
    found, concept = side["answers"].get(metric), side["concept"]
    on = f"On {model_words(run)}"
    if found is None:
        return f"{on}, nothing can be said of {concept} on {METRICS[metric]}: {_why_nothing(side, metric)}."
    rows = _rows(run, concept)
    reader, controller = found["best_reader"], found["best_controller"]
    reads, controls = rows[reader, "auroc"], rows[controller, metric]
    words = (
        f"{on}, the best reader of {concept} ({phrase(reader)}, AUROC {share(reads['value'])} under shift) "
        f"{JOINS[found['word']]} its best controller among methods that have a reader"
    )
    shown = f"{signed(controls['value'])} nats on {METRICS[metric]}"
    words += f" ({shown})" if reader == controller else f" (in this run that is {phrase(controller)}, {shown})"
    return f"{words}; rank correlation {_correlation(found['correlation'])}."


def _why_nothing(side: Mapping[str, Any], metric: str) -> str:
    if metric == WRITTEN and not side["usable"]:
        return "no classifier of written text tells held-out texts of this concept"
    return "no method has both a reader and an effect at this disturbance"


def _correlation(found: Mapping[str, Any]) -> str:
    """A rank correlation with its interval and the methods it is of."""
    if missing(found["value"]):
        return f"of {found['n']} methods says nothing"
    interval = span(found["lo"], found["hi"], sign=True)
    return f"{signed(found['value'])} {interval} over {found['n']} methods".replace("  ", " ")


def chance(found: Mapping[str, Any], p: float | None) -> str:
    """Write how large a correlation of so few methods differs from chance, and the p of this one.

    >>> chance({"n": 7, "needed": 0.7857}, 0.024)
    'Of 7 methods a rank correlation of at least .786 in size differs from chance; of this one p = .024.'
    >>> chance({"n": 4, "needed": None}, 0.083)
    'Of 4 methods no rank correlation differs from chance; of this one p = .083.'
    >>> chance({"n": 9, "needed": None}, 0.024)
    'Of the rank correlation of 9 methods p = .024.'
    """
    if found["n"] > MOST_COUNTED:  # too many orders to know the size that chance seldom reaches
        return f"Of the rank correlation of {found['n']} methods p {p_equals(p)}."
    least = "no rank correlation" if missing(found["needed"]) else "a rank correlation of at least "
    least += "" if missing(found["needed"]) else f"{share(found['needed'])} in size"
    return f"Of {found['n']} methods {least} differs from chance; of this one p {p_equals(p)}."


def points(run: Run) -> Table:
    """Return both quantities of every method and concept, and of the methods that lack one the reason."""
    head = (Value("Method"), number("Reads", "AUROC under shift"), *(number("Controls", on) for on in METRICS.values()))
    lines: list[Line] = []
    for side in _read_sides(run):
        rows = _rows(run, side["concept"])
        lines.append(Line((Value(side["concept"], f"shift {', '.join(side['shifts'])}"),), heading=True))
        for method in _methods(side):
            cells = [_cell(rows.get((method, metric)), metric) for metric in ("auroc", *METRICS)]
            lines.append(Line((Value(phrase(method)), *cells)))
        lines += [
            Line((Value(phrase(one["method"])), number("absent", ABSENT[one["why"]]), number(""), number("")))
            for one in side["absent"]
        ]
    nats = {side["nats"] for side in _read_sides(run)}
    caption = (
        "AUROC: mean over the shifts named. Controls: half the distance between pushes towards and away from the "
        f"concept at {' or '.join(f'{each:g}' for each in sorted(nats))} nat, in nats of log-odds; [95 % interval]. "
        "Written text: mean over the classifiers that tell held-out texts, the primary measure."
    )
    return Table(caption, head, tuple(lines))


def correlations(run: Run) -> Table:
    """Return rank correlation, its chance and who may be best, by concept and over all concepts."""
    facts = facts_of(run, "debate", DebateFacts)
    head = (
        *(Value("Concept"), Value("On"), number("Rank correlation", "over rows"), number("Over methods")),
        *(number("p", "orders"), number("Methods")),
        *(Value("May read best"), Value("May control best"), number("Same method best", "of draws")),
    )
    lines = []
    for side in _read_sides(run):
        for metric, found in side["answers"].items():
            one = found["correlation"]
            lines.append(
                Line(
                    (
                        *(Value(side["concept"]), Value(METRICS[metric])),
                        number(signed(one["value"]), span(one["lo"], one["hi"], sign=True)),
                        _over_methods(found["association"]),
                        *(number(p_value(found["association"]["p"])), number(count(one["n"]))),
                        Value(", ".join(map(phrase, found["may_read_best"]))),
                        Value(", ".join(map(phrase, found["may_control_best"]))),
                        number(share(found["same_in_draws"])),
                    )
                )
            )
    for metric, found in facts["overall"].items():
        if found is not None:
            figure = number(signed(found["value"]), span(found["lo"], found["hi"], sign=True))
            place = (Value("all concepts", f"{found['n']}"), Value(METRICS[metric]))
            orders = found["association"]
            cells = (_over_methods(orders), number(p_value(orders["p"])), number(count(orders["n_methods"])))
            lines.append(Line((*place, figure, *cells, *(number("") for _ in range(3)))))
    caption = (
        f"Spearman's rank correlation of AUROC and effect; [95 % interval]. {SCOPE} Over methods: the interval if "
        "others like these were compared, rough for so few. p: share of all orders of the methods that correlate at "
        "least as strongly. May be best: no other method is found above it, at 95 % for both together. All concepts: "
        "random-effects mean, Student's t over concepts. A method without a reader, such as a bias on the vocabulary, "
        "may control better than all of these."
    )
    return Table(caption, head, tuple(lines))


def _over_methods(found: Mapping[str, Any]) -> Value:
    return number(span(found["lo"], found["hi"], sign=True) or "none")


def contrasts(run: Run) -> Table:
    """Return the contrasts of control over all concepts, then on each concept that is also read."""
    facts = facts_of(run, "debate", DebateFacts)
    head = (
        *(Value("Difference"), Value("On"), Value("Concept"), number("Nats")),
        *(number("p", "Holm"), Value("Verdict"), number("n")),
    )
    listed = sorted(facts["contrasts"], key=lambda one: one["concept"] != "all")
    lines = tuple(
        Line(
            (
                *(Value(phrase(one["method"]), f"minus {phrase(one['than'])}"), Value(METRICS[one["metric"]])),
                Value("all concepts" if one["concept"] == "all" else one["concept"]),
                number(signed(one["value"]), span(one["lo"], one["hi"], sign=True)),
                *(number(p_value(one["p_holm"])), Value(one["word"], "", f"verdict {one['word']}")),
                number(count(one["n"]), _counted(one)),
            )
        )
        for one in listed
    )
    caption = (
        "Contrasts fixed before the run. Over all concepts: random-effects mean (REML, Hartung and Knapp), which is "
        "about concepts like these, with errors correlated by the openings that concepts share, and Holm over the "
        "contrasts of one measure. Left out: concepts where a method was not matched, or where the difference is the "
        "same on all openings, which one fit has where neither method changes the text. On single concepts: those that "
        f"are also read, Holm over contrasts and concepts; equivalent: within {facts['margin']:g} nats."
    )
    return Table(caption, head, lines)


def _counted(one: Mapping[str, Any]) -> str:
    """Unit that a contrast is over, openings or concepts, with the concepts that it leaves out."""
    if one["concept"] != "all":
        return "openings"
    return f"concepts, {count(left)} left out" if (left := one.get("n_left_out", 0)) else "concepts"


def figure(run: Run) -> Chart | None:
    """Return the headline figure on written text, else on targets; None where no concept has both quantities."""
    sides = _read_sides(run)
    metric = next((m for m in METRICS if any(m in side["answers"] for side in sides)), None)
    if metric is None:
        return None
    panels, methods = [], list(dict.fromkeys(m for side in sides for m in _methods(side)))
    for side in sides:
        if metric in side["answers"]:
            words = f"rank correlation {_correlation(side['answers'][metric]['correlation'])}"
            panels.append((side["concept"], words, _frame(run, side["concept"], metric)))
    if len(panels) > 1:
        panels.append(("all concepts", f"mean over {_concepts(run, metric)} concepts", _frame(run, "all", metric)))
    return debate_chart(panels, methods, phrase)


def _concepts(run: Run, metric: str) -> str:
    """Write over how many concepts the means are: a method that was not matched on one of them is a mean of fewer."""
    of = {int(row["n"]) for (_, name), row in _rows(run, "all").items() if name in ("auroc", metric)}
    return str(max(of)) if len(of) == 1 else f"{min(of)} to {max(of)}"


def _frame(run: Run, concept: str, metric: str) -> pd.DataFrame:
    """Points of one panel: methods with both quantities."""
    rows = _rows(run, concept)
    found = []
    for method in dict.fromkeys(method for method, _ in rows):
        both = rows.get((method, "auroc")), rows.get((method, metric))
        known = [row for row in both if row is not None]
        if len(known) == 2:
            one: dict[str, Any] = {"method": method}
            for name, row in zip(("auroc", "effect"), known, strict=True):
                one |= {name: row["value"], f"{name}_lo": row["lo"], f"{name}_hi": row["hi"]}
            found.append(one)
    return pd.DataFrame(
        found, columns=["method", *(f"{n}{e}" for n in ("auroc", "effect") for e in ("", "_lo", "_hi"))]
    )


def _rows(run: Run, concept: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows of the points by method and metric."""
    rows = run.rows
    mine = rows[(rows["task"] == "debate") & (rows["dataset"] == concept) & (rows["method"] != "")]
    return {(one["method"], one["metric"]): one for one in mine.to_dict("records")}


def _read_sides(run: Run) -> list[dict[str, Any]]:
    return [side for side in facts_of(run, "debate", DebateFacts)["concepts"] if side["read_site"] is not None]


def _methods(side: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(m for found in side["answers"].values() for m in found["methods"]))


def _cell(row: Mapping[str, Any] | None, metric: str) -> Value:
    if row is None:
        return number("none")
    if metric == "auroc":
        return number(share(row["value"]), span(row["lo"], row["hi"]))
    return number(signed(row["value"]), span(row["lo"], row["hi"], sign=True))


def _lead(run: Run) -> Iterator[Block]:
    sides = _read_sides(run)
    if run.recipe.get("quick"):
        yield Text("Quick run: to look at, not to report.", "warning")
    if not sides:
        yield absent("No concept of this recipe is read: there are contrasts of control alone.")
        return
    first = [answer(run, side) for side in sides]
    over = facts_of(run, "debate", DebateFacts)["overall"][WRITTEN]
    if over is not None:
        first.insert(0, _overall(run, over))
    yield Text(first[0], "lead")
    chances = [_chance(s["concept"], s["answers"][WRITTEN]) for s in sides if WRITTEN in s["answers"]]
    secondary = [f"Secondary measure: {answer(run, side, TARGETS)}" for side in sides]
    yield Points((*first[1:], *chances, *secondary))
    yield Text(SCOPE, "note")


def _chance(concept: str, found: Mapping[str, Any]) -> str:
    if found["correlation"]["n"] < FEWEST_RANKED:
        return f"{upper(concept)}: fewer than {FEWEST_RANKED} methods have no rank correlation."
    return f"{upper(concept)}: {chance(found['correlation'], found['association']['p'])}"


def _overall(run: Run, over: Mapping[str, Any]) -> str:
    interval = span(over["lo"], over["hi"], sign=True)
    return (
        f"On {model_words(run)}, the mean over {over['n']} concepts of the rank correlation between how well a method "
        f"reads and how far it moves written text at equal disturbance is {signed(over['value'])} {interval}."
    )


def _sections(run: Run, show_text: bool) -> list[Section]:
    drawn = figure(run)
    caption = (
        "One point for each method with both 95 % intervals: how well it reads against how far it moves the concept."
    )
    found: list[Block] = [*_lead(run), *([Figure(drawn, caption)] if drawn else [])]
    sections = [Section("Is the best reader the best controller?", found)]
    if _read_sides(run):
        sections.append(Section("Numbers", [points(run), correlations(run)]))
    return [
        *sections,
        Section("Contrasts of control", [contrasts(run)]),
        counted_warnings(run.notes),
        Section("Provenance", [_provenance(run)]),
    ]


def _provenance(run: Run) -> Facts:
    manifest = run.manifest
    joined = [(f"{one['part']} of {one['concept']}", f"Run {one['id']}") for one in run.facts["runs"]]
    own = (("Run", manifest["id"]), ("Recipe digest", manifest["digest"]))
    return Facts((*own, *joined, ("Started, finished", f"{manifest['started']}, {manifest['finished']}")))


def _sentence(run: Run) -> str:
    sides, facts = _read_sides(run), facts_of(run, "debate", DebateFacts)
    if (over := facts["overall"][WRITTEN]) is not None:
        return _overall(run, over)
    return answer(run, sides[0]) if sides else str(run.recipe["title"])


PAGE = Page(
    _sections,
    lambda run: str(run.recipe["title"]),
    _sentence,
    lambda run: [*([points(run), correlations(run)] if _read_sides(run) else []), contrasts(run)],
    {"points": points, "correlations": correlations, "contrasts": contrasts},
    {"scatter": figure},
)
