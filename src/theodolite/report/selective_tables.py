"""Tables of selective prediction: claims, choices, levels, rules and feature spaces, from the rows of a run."""

import json
from typing import Any, NamedTuple

import pandas as pd

from theodolite.core.claim import HOLDS, NOTHING
from theodolite.core.run import IN_DISTRIBUTION
from theodolite.report.blocks import Line, Table, Value, number
from theodolite.report.numbers import NONE, count, p_value, share, span, upper
from theodolite.report.sheet import Sheet

CELLS = {
    "class_0": "of label 0",
    "class_1": "of label 1",
    "predicted_0": "predicted 0",
    "predicted_1": "predicted 1",
}
CHOSEN = "chosen"
BARE = "Without an interval: fewer than five training sets accept anything."
METRICS = {
    "coverage": "Coverage",
    "accuracy": "Accuracy of these",
    "lowest": "Lowest cell",
    "aurc": "AURC",
    "augrc": "AUGRC",
    "ece": "ECE",
    "brier": "Brier",
    "set_coverage": "Set holds label",
}


class Place(NamedTuple):
    """Name of the rule that a figure is about. space: "" for the chosen rule, and for rules that need none."""

    method: str
    rule: str
    space: str
    level: float
    dataset: str
    metric: str


Figures = dict[Place, dict[str, Any]]


def figures_of(rows: pd.DataFrame) -> Figures:
    """Return the figures of task "select" by what they are about."""
    found: Figures = {}
    for row in rows[rows["task"] == "select"].to_dict("records"):
        params = json.loads(row["params"])
        space = "" if params["rule"] == CHOSEN else params["space"]
        place = Place(row["method"], params["rule"], space, params["alpha"], row["dataset"], row["metric"])
        found[place] = row | params
    return found


def claim_figure(figures: Figures, claim: dict[str, Any], metric: str) -> dict[str, Any]:
    """Return one metric of the chosen rule that a claim is about."""
    return figures[_claim_place(claim, metric)]


def claim_word(claim: dict[str, Any], figures: Figures) -> str:
    """Return a claim's word with its power and, unless it holds, the cell with the strongest evidence against it."""
    if claim["word"] == NOTHING:
        return str(claim["word"])
    chances = [f"{share(chance)} at {share(float(true))}" for true, chance in claim.get("power", {}).items()]
    power = f" (power {', '.join(chances)})" if chances else ""
    if claim["word"] == HOLDS:
        return f"holds{power}"
    worst = figures[_claim_place(claim, f"accuracy_{claim['worst']}")]
    return f"{claim['word']}: {with_interval(worst)} {CELLS[claim['worst']]}, n = {count(claim['n'])}{power}"


def with_interval(figure: dict[str, Any]) -> str:
    """Return a figure's value and interval as text."""
    return f"{share(figure['value'])} {span(figure['lo'], figure['hi'])}".strip()


def headline_datasets(sheet: Sheet, found: dict[str, Any]) -> list[str]:
    """Return the test rows, and the primary shift or else the first one, where there is any."""
    shifts = [d for d in dict.fromkeys(claim["dataset"] for claim in found["claims"]) if d != IN_DISTRIBUTION]
    primary = [d for d in shifts if d == sheet.run.recipe.get("primary")] or shifts[:1]
    return [IN_DISTRIBUTION, *primary]


def claims_table(sheet: Sheet, found: dict[str, Any], figures: Figures) -> Table:
    """Return the claims of the primary analysis with the rows they rest on."""
    names = ["All", "n of all", "Coverage", "Accuracy of these", *map(upper, CELLS.values()), "n", "Training sets"]
    tests = map(number, ["p holds", "p fails"])
    head = (Value("Reader"), Value("Rows"), *map(number, names), Value("Accuracy"), *tests)
    caption = (
        f"Primary analysis at {found['level']:g}: accuracy on all rows, coverage (share of rows accepted), and "
        "accuracy of the accepted rows [95 % interval], within each label and each prediction. n: rows that any "
        f"training set accepts; training sets: how many accept any. {BARE} Data sets that hold one label make no "
        'claim. Power: the probability of "holds" if both labels had this true accuracy, with the rows, groups and '
        'scatter measured and the first step of the correction; where it is low, "inconclusive" says little.'
    )
    return Table(caption, head, tuple(_claim_line(sheet, claim, figures) for claim in found["claims"]))


def choices_table(sheet: Sheet, found: dict[str, Any]) -> Table:
    """Return what was chosen in each training set, and the least q' of SDM's region there."""
    head = (
        Value("Reader"),
        Value("Confidence and feature space, by training set"),
        number("Expected coverage"),
        number("Threshold"),
        number("Least q' of SDM's region"),
        number("Certify rows (label 0, 1)"),
    )
    methods = dict.fromkeys(choice["method"] for choice in found["choices"])
    lines = tuple(_choice_line(sheet, method, found) for method in methods)
    caption = (
        f"Chosen on the {count(found['choices'][0]['sizes']['calibrate'])} calibration rows, training set by training "
        "set; expected coverage: the share of them that would be accepted if they were the certify rows. Predictions "
        "are accepted if their confidence reaches the threshold and they pass the gate: a low threshold is enough "
        "where the reader is right on nearly all rows, because the certificate is about their average. A dash: "
        "nothing, or no region, reaches the accuracy."
    )
    return Table(caption, head, lines)


def levels_table(sheet: Sheet, found: dict[str, Any], figures: Figures) -> Table:
    """Return coverage and accuracy at every level, in distribution and on the primary shift."""
    datasets = headline_datasets(sheet, found)
    levels = sorted({place.level for place in figures if place.rule == CHOSEN})
    head = [Value("Reader"), number("Accuracy asked")]
    head += [number(f"{what}, {dataset}") for dataset in datasets for what in ("Coverage", "Accuracy", "n")]
    lines = []
    for method in dict.fromkeys(claim["method"] for claim in found["claims"]):
        for level in levels:
            cells = []
            for dataset in datasets:
                place = Place(method, CHOSEN, "", level, dataset, "accuracy")
                cells += [_interval(figures.get(place._replace(metric="coverage"))), _interval(figures.get(place))]
                cells.append(_n(figures, place))
            lines.append(Line((Value(sheet.phrase(method)), number(f"{level:g}"), *cells)))
    fewest = [min(choice["certify"]) for choice in found["choices"]]
    needed = ", ".join(f"{n} for {level}" for level, n in found["needed"].items())
    caption = (
        "At every accuracy asked for, the confidence and feature space with the highest expected coverage at it, "
        "certified; each accuracy has a rule and a delta of its own, so a higher one may accept more. A certificate "
        f"needs so many rows without an error in every cell: {needed}; the rarer label has {min(fewest)} to "
        f"{max(fewest)} certify rows. n: rows that any training set accepts. {BARE}"
    )
    return Table(caption, tuple(head), tuple(lines))


def rules_table(sheet: Sheet, found: dict[str, Any], figures: Figures, dataset: str) -> Table:
    """Return every rule of every reader on one data set; rules that need a space, in the state and in PLS."""
    head = (Value("Rule"), *map(number, METRICS.values()), number("n"))
    lines: list[Line] = []
    primary = dict.fromkeys(claim["method"] for claim in found["claims"])
    for method in primary:
        lines.append(Line((Value(upper(sheet.phrase(method))), *(Value("") for _ in head[1:])), heading=True))
        there = (method, found["level"], dataset)
        of_method = [p for p in figures if (p.method, p.level, p.dataset) == there and p.space in ("", "state", "pls")]
        places = dict.fromkeys(place._replace(metric="") for place in of_method)
        lines += [_rule_line(_rule_name(place), figures, place) for place in places]
    for method in dict.fromkeys(place.method for place in figures if place.method not in primary):
        place = Place(method, CHOSEN, "", found["level"], dataset, "")
        lines.append(_rule_line(f"{upper(sheet.phrase(method))}, {CHOSEN}", figures, place))
    caption = (
        f"Every rule on {dataset}, at {found['level']:g} [95 % interval]. AURC, AUGRC: of its confidence, lower is "
        "better. Certified rules guarantee all four cells; sgr the error among all accepted rows; conformal rules the "
        "sets alone; the others nothing. n: rows that any training set accepts, on which the accuracy rests; the "
        f"lowest cell names its own, and all else rests on all rows. {BARE} Rules in other spaces are in rows.csv."
    )
    return Table(caption, head, tuple(lines))


def spaces_table(sheet: Sheet, found: dict[str, Any], figures: Figures) -> Table:
    """Return coverage by feature space, of certificates of q' and of agreement, in distribution and shifted."""
    scores = ("certified(sdm)", "certified(knn_agreement)")
    places = [(score, dataset) for score in scores for dataset in headline_datasets(sheet, found)]
    head = [Value("Reader"), Value("Space")]
    head += [number(f"{score}, {what}, {d}") for score, d in places for what in ("coverage", "lowest cell")]
    lines = []
    for method in dict.fromkeys(claim["method"] for claim in found["claims"]):
        for space in dict.fromkeys(p.space for p in figures if (p.method, p.rule) == (method, scores[0])):
            rows = [_metrics(figures, Place(method, score, space, found["level"], d, "")) for score, d in places]
            cells = [cell for row in rows for cell in (row[0], row[2])]
            lines.append(Line((Value(sheet.phrase(method)), Value(space), *cells)))
    caption = (
        f"Coverage by feature space: certificates at {found['level']:g} of SDM's q' and of the agreement of 50 "
        f"neighbours, by the space in which rows are compared. Shares are of all rows of a data set. {BARE}"
    )
    return Table(caption, tuple(head), tuple(lines))


def _claim_place(claim: dict[str, Any], metric: str) -> Place:
    return Place(claim["method"], CHOSEN, "", claim["alpha"], claim["dataset"], metric)


def _claim_line(sheet: Sheet, claim: dict[str, Any], figures: Figures) -> Line:
    metrics = ("accuracy_of_all", "coverage", "accuracy", *(f"accuracy_{cell}" for cell in CELLS))
    of = {metric: figures.get(_claim_place(claim, metric)) for metric in metrics}
    n, sets = ((of["accuracy"] or {}).get(name, 0) for name in ("n", "training_sets"))
    tests = (number(p_value(claim["p_holds"])), number(p_value(claim["p_fails"])))
    words = (Value(sheet.phrase(claim["method"])), Value(claim["dataset"]))
    word = Value(claim_word(claim, figures))
    every, *others = of.values()
    total = (_interval(every), number(count((every or {}).get("n", 0))))
    return Line((*words, *total, *map(_interval, others), number(count(n)), number(str(sets)), word, *tests))


def _choice_line(sheet: Sheet, method: str, found: dict[str, Any]) -> Line:
    level, of = str(found["level"]), [choice for choice in found["choices"] if choice["method"] == method]
    chosen = [c["chosen"]["confidence"] + (f" in {c['chosen']['space']}" if c["chosen"]["space"] else "") for c in of]
    cells = (
        Value(sheet.phrase(method)),
        Value("; ".join(chosen)),
        number(" ".join(share(c["chosen"]["expected_coverage"][level]) for c in of)),
        number(" ".join(NONE if (t := c["threshold"][level]) is None else f"{t:.3g}" for c in of)),
        number(" ".join(NONE if c["q_min"] is None else f"{c['q_min']:.1f}" for c in of)),
        number(", ".join(f"{c['certify'][0]}, {c['certify'][1]}" for c in of[:1])),
    )
    return Line(cells)


def _rule_line(name: str, figures: Figures, place: Place) -> Line:
    return Line((Value(name), *_metrics(figures, place), _n(figures, place._replace(metric="accuracy"))))


def _rule_name(place: Place) -> str:
    return f"{place.rule} in {place.space}" if place.space else place.rule


def _metrics(figures: Figures, place: Place) -> list[Value]:
    """Return all metrics of one rule."""
    cells = []
    for metric in METRICS:
        if metric == "lowest":
            cells.append(_lowest(figures, place))
        else:
            cells.append(_interval(figures.get(place._replace(metric=metric))))
    return cells


def _lowest(figures: Figures, place: Place) -> Value:
    """Return the lowest of the four conditional accuracies, with its name and its rows."""
    of = {cell: figures.get(place._replace(metric=f"accuracy_{cell}")) for cell in CELLS}
    seen = {cell: figure for cell, figure in of.items() if figure is not None and figure["n"]}
    if not seen:
        return number(NONE)
    cell, figure = min(seen.items(), key=lambda one: float(one[1]["value"]))
    beside = (span(figure["lo"], figure["hi"]), f"{CELLS[cell]}, n = {count(figure['n'])}")
    return number(share(figure["value"]), " ".join(filter(None, beside)))


def _interval(figure: dict[str, Any] | None) -> Value:
    if figure is None or not figure["n"]:
        return number(NONE)
    return number(share(figure["value"]), span(figure["lo"], figure["hi"]))


def _n(figures: Figures, place: Place) -> Value:
    return number(count((figures.get(place) or {}).get("n", 0)))
