"""When to rely on a prediction, as a section: claims, what each judge admits, curves, single predictions."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from theodolite.core.run import IN_DISTRIBUTION
from theodolite.report.blocks import Block, Figure, Line, Section, Table, Text, Value, absent, number
from theodolite.report.curves import reliability, risk_coverage
from theodolite.report.numbers import NONE, count, p_value, share, span, upper
from theodolite.report.sheet import Sheet

CELLS = {
    "class_0": "of label 0", "class_1": "of label 1", "predicted_0": "predicted 0", "predicted_1": "predicted 1",
}  # fmt: skip
EXAMPLES = 5
CHOSEN = "chosen"
TITLE = "When to rely on a prediction"


def admission(sheet: Sheet) -> Section:
    """The section, or why the run has none."""
    found = sheet.run.read_json("admission")
    if not found:
        return Section(TITLE, [absent("This run judged no single predictions: theodolite compare NAME --admit does.")])
    figures = _figures(sheet.run.rows)
    detail = sheet.run.read_table("admission")
    assert detail is not None
    blocks: list[Block] = [
        Text(_answer(sheet, found, figures), "lead"),
        Text(_protocol(found)),
        _claims(sheet, found, figures),
        _choices(sheet, found),
        _ladder(sheet, found, figures),
        *(_judges(sheet, found, figures, dataset) for dataset in _headline(sheet, found)),
        _maps(sheet, found, figures),
        Figure(risk_coverage(sheet, detail, found["level"]), _RISK),
        Figure(reliability(sheet, detail), _RELIABILITY),
        *_examples(sheet, found, detail),
        Text(LIMITS, "note"),
    ]
    return Section(TITLE, blocks)


_RISK = (
    "Error among the most confident predictions of the chosen judge against their share, one line per data set, mean "
    "over training sets. Dots: where the certificate stops. Dashed: the error allowed."
)
_RELIABILITY = (
    "Share of label 1 against the calibrated probability, in ten bins of equal size, all training sets together; size "
    "of a dot: number of rows. On the diagonal the probability is what it says."
)
BARE = "Without an interval: fewer than five training sets admit anything."
LIMITS = (
    "A certificate speaks of rows drawn like its certify rows, one per near-duplicate cluster, on average over what is "
    "admitted: on a shift nothing is promised, and the figures above are what was measured. Rows that are elsewhere "
    "can be told apart; rows that look the same and follow another rule cannot: not detectable, by this or any judge "
    "that sees the rows alone."
)


def answer(sheet: Sheet) -> str:
    """The question of the section, answered in words that carry their numbers; "" for a run without judges."""
    found = sheet.run.read_json("admission")
    return _answer(sheet, found, _figures(sheet.run.rows)) if found else ""


def summary(sheet: Sheet) -> str:
    """What came of all shifts, in a sentence; "" for a run without judges, or without claims about shifts."""
    found = sheet.run.read_json("admission")
    words = [c["word"] for c in found["claims"] if c["dataset"] != IN_DISTRIBUTION] if found else []
    if not words:
        return ""
    pairs = f"{len(words)} pair" + "s" * (len(words) > 1)
    return (
        f"Relying only on what is certified on the run's own rows: over {pairs} of reader and shift an "
        f"accuracy of {found['level']:g} is kept in {words.count('kept')}, broken in {words.count('broken')}, open in "
        f"{words.count('open')}, and nothing is relied on in {words.count('nothing admitted')}."
    )


def _answer(sheet: Sheet, found: dict[str, Any], figures: "Figures") -> str:
    if not found["claims"]:
        return "None of the readers of the primary analysis was among the methods: what is judged here is exploratory."
    dataset, over = _headline(sheet, found)[-1], summary(sheet)
    readers = "; ".join(_said(sheet, claim, figures) for claim in found["claims"] if claim["dataset"] == dataset)
    if not over:
        return f"There is no shift, so nothing is known about new kinds of rows. On the test rows: {readers}."
    return f"Does admitting only what is certified make a reader hold on new data? On {dataset}: {readers}. {over}"


def _said(sheet: Sheet, claim: dict[str, Any], figures: "Figures") -> str:
    """One reader on one data set: before and after admission."""
    metrics = ("accuracy_of_all", "admitted", "accuracy")
    every, admitted, kept = (figures[_place(claim, metric)] for metric in metrics)
    before = f"{sheet.phrase(claim['method'])} is right on {_stated(every)} of all {count(every['n'])} rows and "
    if not kept["n"]:
        return before + "relies on none"
    after = f"on {_stated(kept)} of the {_stated(admitted)} it relies on"
    return f"{before}{after} ({claim['alpha']:g} {_word(claim, figures)})"


def _place(claim: dict[str, Any], metric: str) -> "Place":
    """Where a figure of a claim stands: it is about the chosen judge."""
    return Place(claim["method"], CHOSEN, "", claim["alpha"], claim["dataset"], metric)


def _stated(figure: dict[str, Any]) -> str:
    return f"{share(figure['value'])} {span(figure['lo'], figure['hi'])}".strip()


def _word(claim: dict[str, Any], figures: "Figures") -> str:
    """The verdict with its power, and for what is not kept the cell that speaks most against the accuracy."""
    if claim["word"] == "nothing admitted":
        return str(claim["word"])
    chances = [f"{share(chance)} at {share(float(true))}" for true, chance in claim.get("power", {}).items()]
    power = f" (power {', '.join(chances)})" if chances else ""
    if claim["word"] == "kept":
        return f"kept{power}"
    least = figures[_place(claim, f"accuracy_{claim['least']}")]
    return f"{claim['word']}: {_stated(least)} {CELLS[claim['least']]}, n = {count(claim['n'])}{power}"


def _protocol(found: dict[str, Any]) -> str:
    sizes, readers = found["choices"][0]["sizes"], found["readers"]
    fixed = "Fixed in the code before this run: these readers, accuracy" if found["as_fixed"] else (
        "Chosen for this run, so exploratory: these readers or this accuracy are not those fixed in the code. Accuracy"
    )  # fmt: skip
    each, delta, sure = found["delta_each"], found["delta"], 1 - found["delta"]
    return (
        f"{fixed} {found['level']:g}, and for each reader and training set the map and gated confidence that promise "
        f"to admit most by the calibration rows. One certificate per reader and training set, at delta {each:.3g}: "
        f"with probability {sure:g} those of a training set hold for all {readers} readers. The first training set has "
        f"{count(sizes['support'])} support, {count(sizes['calibrate'])} calibration and {count(sizes['certify'])} "
        "certify rows; of certify and test rows one per near-duplicate cluster counts. An accuracy is kept if all four "
        "conditional ones (within each label, within each prediction) are shown to reach it, broken if one is shown "
        "not to; p-values are Holm-corrected over reader and shift, those of the test rows are not corrected. All else "
        f"is exploratory: judges that were not chosen are certified at delta {delta:g} each, and all other accuracies "
        f"of one training set share {delta:g}."
    )


class Place(NamedTuple):
    """Whose figure it is. map: the one a judge was put on; "" for the chosen judge, and for judges that need none."""

    method: str
    judge: str
    map: str
    level: float
    dataset: str
    metric: str


Figures = dict[Place, dict[str, Any]]


def _figures(rows: pd.DataFrame) -> Figures:
    """Figures of task "admit" by their places."""
    found: Figures = {}
    for row in rows[rows["task"] == "admit"].to_dict("records"):
        params = json.loads(row["params"])
        on = "" if params["judge"] == CHOSEN else params["map"]
        place = Place(row["method"], params["judge"], on, params["alpha"], row["dataset"], row["metric"])
        found[place] = row | params
    return found


def _headline(sheet: Sheet, found: dict[str, Any]) -> list[str]:
    """The test rows, and the primary shift or else the first, where there is any."""
    shifts = [d for d in dict.fromkeys(claim["dataset"] for claim in found["claims"]) if d != IN_DISTRIBUTION]
    primary = [d for d in shifts if d == sheet.run.recipe.get("primary")] or shifts[:1]
    return [IN_DISTRIBUTION, *primary]


def _interval(figure: dict[str, Any] | None) -> Value:
    if figure is None or not figure["n"]:
        return number(NONE)
    return number(share(figure["value"]), span(figure["lo"], figure["hi"]))


def _claims(sheet: Sheet, found: dict[str, Any], figures: Figures) -> Table:
    names = ["All", "n of all", "Admitted", "Accuracy of these", *map(upper, CELLS.values()), "n", "Training sets"]
    tests = map(number, ["p kept", "p broken"])
    head = (Value("Reader"), Value("Rows"), *map(number, names), Value("Accuracy is"), *tests)
    caption = (
        f"Primary analysis at {found['level']:g}: accuracy on all rows, share admitted, and accuracy of what is "
        "admitted [95 % interval], within each label and each prediction. n: rows that any training set admits; "
        f"training sets: how many admit any. {BARE} Data sets that hold one label make no claim. Power: the chance of "
        'saying "kept" if both labels had this true accuracy, with the rows, groups and scatter measured and the first '
        'step of the correction; where it is low, "open" says little.'
    )
    return Table(caption, head, tuple(_claim(sheet, claim, figures) for claim in found["claims"]))


def _claim(sheet: Sheet, claim: dict[str, Any], figures: Figures) -> Line:
    metrics = ("accuracy_of_all", "admitted", "accuracy", *(f"accuracy_{cell}" for cell in CELLS))
    of = {metric: figures.get(_place(claim, metric)) for metric in metrics}
    n, sets = ((of["accuracy"] or {}).get(name, 0) for name in ("n", "training_sets"))
    tests = (number(p_value(claim["p_kept"])), number(p_value(claim["p_broken"])))
    words = (Value(sheet.phrase(claim["method"])), Value(claim["dataset"]))
    word = Value(_word(claim, figures))
    every, *others = of.values()
    total = (_interval(every), number(count((every or {}).get("n", 0))))
    return Line((*words, *total, *map(_interval, others), number(count(n)), number(str(sets)), word, *tests))


def _choices(sheet: Sheet, found: dict[str, Any]) -> Table:
    """What was chosen where, and the spread of the least q' of SDM's region over training sets."""
    head = (
        Value("Reader"), Value("Confidence and map, by training set"), number("Promised"), number("Relied on from"),
        number("Least q' of SDM's region"),
        number("Certify rows (label 0, 1)"),
    )  # fmt: skip
    lines, level = [], str(found["level"])
    for method in dict.fromkeys(choice["method"] for choice in found["choices"]):
        of = [choice for choice in found["choices"] if choice["method"] == method]
        chosen = [c["chosen"]["confidence"] + (f" on {c['chosen']['map']}" if c["chosen"]["map"] else "") for c in of]
        cells = (
            Value("; ".join(chosen)), number(" ".join(share(c["chosen"]["promised"][level]) for c in of)),
            number(" ".join(NONE if (t := c["threshold"][level]) is None else f"{t:.3g}" for c in of)),
            number(" ".join(NONE if c["q_min"] is None else f"{c['q_min']:.1f}" for c in of)),
            number(", ".join(f"{c['certify'][0]}, {c['certify'][1]}" for c in of[:1])),
        )  # fmt: skip
        lines.append(Line((Value(sheet.phrase(method)), *cells)))
    caption = (
        f"Chosen on the {count(found['choices'][0]['sizes']['calibrate'])} calibration rows, training set by training "
        "set; promised: the share of them that would be admitted, were they the certify rows. Relied on is what has at "
        "least this confidence and passes the gate: a low threshold is enough where the reader is right on nearly all "
        "rows, for the certificate speaks of their average. A dash: nothing, or no region, reaches the accuracy."
    )
    return Table(caption, head, tuple(lines))


def _ladder(sheet: Sheet, found: dict[str, Any], figures: Figures) -> Table:
    """Admitted share and accuracy at every level, in distribution and on the primary shift."""
    datasets = _headline(sheet, found)
    levels = sorted({place.level for place in figures if place.judge == CHOSEN})
    head = [Value("Reader"), number("Accuracy asked")]
    head += [number(f"{what}, {dataset}") for dataset in datasets for what in ("Admitted", "Accuracy", "n")]
    lines = []
    for method in dict.fromkeys(claim["method"] for claim in found["claims"]):
        for level in levels:
            cells = []
            for dataset in datasets:
                place = Place(method, CHOSEN, "", level, dataset, "accuracy")
                cells += [_interval(figures.get(place._replace(metric="admitted"))), _interval(figures.get(place))]
                cells.append(_n(figures, place))
            lines.append(Line((Value(sheet.phrase(method)), number(f"{level:g}"), *cells)))
    fewest = [min(choice["certify"]) for choice in found["choices"]]
    least = ", ".join(f"{n} for {level}" for level, n in found["needed"].items())
    caption = (
        "At every accuracy asked for, the confidence and map that promise most at it, certified; each accuracy has a "
        "judge and a delta of its own, so a higher one may admit more. A certificate needs so many rows without an "
        f"error in every cell: {least}; the rarer label has {min(fewest)} to {max(fewest)} certify rows. n: rows that "
        f"any training set admits. {BARE}"
    )
    return Table(caption, tuple(head), tuple(lines))


def _n(figures: Figures, place: Place) -> Value:
    return number(count((figures.get(place) or {}).get("n", 0)))


METRICS = {
    "admitted": "Admitted", "accuracy": "Accuracy of these", "lowest": "Lowest cell", "aurc": "AURC", "augrc": "AUGRC",
    "ece": "ECE", "brier": "Brier", "coverage": "Set holds label",
}  # fmt: skip


def _judges(sheet: Sheet, found: dict[str, Any], figures: Figures, dataset: str) -> Table:
    """Every judge of every reader on one data set; of those that need a map, on the state and on PLS."""
    head = (Value("Judge"), *map(number, METRICS.values()), number("n"))
    lines: list[Line] = []
    primary = dict.fromkeys(claim["method"] for claim in found["claims"])
    for method in primary:
        lines.append(Line((Value(upper(sheet.phrase(method))), *(Value("") for _ in head[1:])), heading=True))
        at = dict.fromkeys(
            place._replace(metric="") for place in figures
            if (place.method, place.level, place.dataset) == (method, found["level"], dataset)
            and place.map in ("", "state", "pls")
        )  # fmt: skip
        lines += [_judge_line(_judge_on(place), figures, place) for place in at]
    for method in dict.fromkeys(place.method for place in figures if place.method not in primary):
        place = Place(method, CHOSEN, "", found["level"], dataset, "")
        lines.append(_judge_line(f"{upper(sheet.phrase(method))}, {CHOSEN}", figures, place))
    caption = (
        f"Every judge on {dataset}, at {found['level']:g} [95 % interval]. AURC, AUGRC: of its confidence, lower is "
        "better. Certified ones promise all four cells; sgr the error of all that is admitted; conformal ones the sets "
        "alone; the others nothing. n: rows that any training set admits, on which the accuracy rests; the lowest cell "
        f"names its own, and all else rests on all rows. {BARE} Judges on other maps are in rows.csv."
    )
    return Table(caption, head, tuple(lines))


def _judge_line(name: str, figures: Figures, place: Place) -> Line:
    return Line((Value(name), *_row(figures, place), _n(figures, place._replace(metric="accuracy"))))


def _judge_on(place: Place) -> str:
    return f"{place.judge} on {place.map}" if place.map else place.judge


def _row(figures: Figures, place: Place) -> list[Value]:
    """All metrics of one place."""
    cells = []
    for metric in METRICS:
        if metric == "lowest":
            cells.append(_lowest(figures, place))
        else:
            cells.append(_interval(figures.get(place._replace(metric=metric))))
    return cells


def _lowest(figures: Figures, place: Place) -> Value:
    """The lowest of the four conditional accuracies, which it is, and its rows."""
    of = {cell: figures.get(place._replace(metric=f"accuracy_{cell}")) for cell in CELLS}
    seen = {cell: figure for cell, figure in of.items() if figure is not None and figure["n"]}
    if not seen:
        return number(NONE)
    cell, figure = min(seen.items(), key=lambda one: float(one[1]["value"]))
    said = (span(figure["lo"], figure["hi"]), f"{CELLS[cell]}, n = {count(figure['n'])}")
    return number(share(figure["value"]), " ".join(filter(None, said)))


def _maps(sheet: Sheet, found: dict[str, Any], figures: Figures) -> Table:
    """Which map admits most at equal validity: certificates of q' and agreement, in distribution and shifted."""
    scores = ("certified(sdm)", "certified(knn_agreement)")
    places = [(score, dataset) for score in scores for dataset in _headline(sheet, found)]
    head = [Value("Reader"), Value("Map")]
    head += [number(f"{score}, {what}, {d}") for score, d in places for what in ("admitted", "lowest cell")]
    lines = []
    for method in dict.fromkeys(claim["method"] for claim in found["claims"]):
        for on in dict.fromkeys(p.map for p in figures if (p.method, p.judge) == (method, scores[0])):
            rows = [_row(figures, Place(method, score, on, found["level"], d, "")) for score, d in places]
            cells = [cell for row in rows for cell in (row[0], row[2])]
            lines.append(Line((Value(sheet.phrase(method)), Value(on), *cells)))
    caption = (
        f"Which map admits most: certificates at {found['level']:g} of SDM's q' and of the agreement of 50 neighbours, "
        f"by the space in which rows are compared. Shares are of all rows of a data set. {BARE}"
    )
    return Table(caption, tuple(head), tuple(lines))


def _examples(sheet: Sheet, found: dict[str, Any], detail: pd.DataFrame) -> list[Block]:
    """Of the first training set, on the primary shift: what was admitted and wrong, and what was sure and rejected."""
    dataset, choice = _headline(sheet, found)[-1], {c["method"]: c["chosen"] for c in reversed(found["choices"])}
    shown_as = sheet.run.texts() if sheet.show_text else {}
    first = detail[(detail["seed"] == detail["seed"].iloc[0]) & (detail["dataset"] == dataset)]
    blocks: list[Block] = []
    for method, part in first.groupby("method", sort=False):
        wrong = part[(part["reason"] == "") & (part["predicted"] != part["label"])]
        sure = part[part["reason"] != ""].assign(sure=lambda f: np.maximum(f["probability"], 1 - f["probability"]))
        for rows, by, what in ((wrong, "confidence", "Admitted and wrong"), (sure, "sure", "Sure and rejected")):
            shown = rows.sort_values([by, "row"], ascending=[False, True], kind="stable")[:EXAMPLES]
            name = sheet.phrase(str(method))
            if not len(shown):
                blocks.append(Text(f"{what}, {name} on {dataset}: none of {count(len(part))} rows."))
                continue
            judge = f"{choice[method]['confidence']} on {choice[method]['map']}"
            caption = (
                f"{what}: {name} on {dataset}, of the first training set alone ({judge}), {count(len(rows))} of "
                f"{count(len(part))} rows, highest {'confidence' if by == 'confidence' else 'probability'} first."
            )
            blocks.append(_example_table(caption, shown.to_dict("records"), shown_as))
    return blocks


def _example_table(caption: str, rows: Sequence[dict[str, Any]], texts: dict[str, str]) -> Table:
    head = [Value("Row"), number("Label"), number("Predicted"), number("Probability of 1"), number("Confidence")]
    head += [Value("Reason")]
    head += [number("q"), number("d"), number("q'"), Value("Nearest exemplars")]
    lines = [
        Line(
            (
                Value(texts.get(r["row"], r["row"])), number(str(r["label"])), number(str(r["predicted"])),
                number(share(r["probability"])), number(_confidence(r["confidence"])),
                Value(r["reason"] or "admitted"), number(count(r["q"])),
                number(share(r["d"])), number(f"{r['q_prime']:.1f}"),
                Value("; ".join(texts.get(i, i) for i in r["exemplars"].split()[: (1 if texts else 3)])),
            )
        )
        for r in rows
    ]  # fmt: skip
    return Table(caption, tuple(head), tuple(lines))


def _confidence(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else NONE
