"""The report's section on selective prediction: the answer, the protocol, tables, curves and single predictions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from theodolite.core.claim import FAILS, HOLDS, INCONCLUSIVE, NOTHING
from theodolite.core.run import IN_DISTRIBUTION
from theodolite.report.blocks import Block, Figure, Line, Section, Table, Text, Value, absent, number
from theodolite.report.curves import reliability, risk_coverage
from theodolite.report.numbers import NONE, count, share
from theodolite.report.selective_tables import (
    Figures,
    choices_table,
    claim_figure,
    claim_word,
    claims_table,
    figures_of,
    headline_datasets,
    levels_table,
    rules_table,
    spaces_table,
    with_interval,
)
from theodolite.report.sheet import Sheet

EXAMPLES = 5
TITLE = "Selective prediction"


def selective(sheet: Sheet) -> Section:
    """Return the section, or one that says why the run has none."""
    found = sheet.run.read_json("selection")
    if not found:
        nothing = "This run has no selective prediction: `theodolite compare NAME --admit` adds it."
        return Section(TITLE, [absent(nothing)])
    figures = figures_of(sheet.run.rows)
    detail = sheet.run.read_table("selection")
    assert detail is not None
    blocks: list[Block] = [
        Text(_answer(sheet, found, figures), "lead"),
        Text(_protocol(found)),
        claims_table(sheet, found, figures),
        choices_table(sheet, found),
        levels_table(sheet, found, figures),
        *(rules_table(sheet, found, figures, dataset) for dataset in headline_datasets(sheet, found)),
        spaces_table(sheet, found, figures),
        Figure(risk_coverage(sheet, detail, found["level"]), _RISK),
        Figure(reliability(sheet, detail), _RELIABILITY),
        *_examples(sheet, found, detail),
        Text(LIMITS, "note"),
    ]
    return Section(TITLE, blocks)


_RISK = (
    "Error among the most confident predictions of the chosen rule against coverage, one line per data set, mean "
    "over training sets. Dots: coverage and error of the certified rule. Dashed: the error allowed."
)
_RELIABILITY = (
    "Share of label 1 against the calibrated probability, in ten bins of equal size, all training sets together; size "
    "of a dot: number of rows. On the diagonal the probability is calibrated."
)
LIMITS = (
    "A certificate is about rows drawn like its certify rows, one per near-duplicate cluster, on average over the "
    "accepted ones: on a shift it guarantees nothing, and the figures above are what was measured. Rows far from the "
    "training rows can be detected; rows that look the same and follow another label rule cannot: not detectable, by "
    "these or any rules that see the rows alone."
)


def answer(sheet: Sheet) -> str:
    """Return the section's answer in a sentence with its numbers; "" for a run without selective prediction."""
    found = sheet.run.read_json("selection")
    return _answer(sheet, found, figures_of(sheet.run.rows)) if found else ""


def summary(sheet: Sheet) -> str:
    """Return the outcome over all shifts in a sentence; "" for a run without claims about shifts."""
    found = sheet.run.read_json("selection")
    words = [c["word"] for c in found["claims"] if c["dataset"] != IN_DISTRIBUTION] if found else []
    if not words:
        return ""
    pairs = f"{len(words)} pair" + "s" * (len(words) > 1)
    return (
        f"If only predictions certified on the run's own rows are accepted: over {pairs} of reader and shift an "
        f"accuracy of {found['level']:g} holds in {words.count(HOLDS)}, fails in {words.count(FAILS)}, is "
        f"inconclusive in {words.count(INCONCLUSIVE)}, and nothing is accepted in {words.count(NOTHING)}."
    )


def _answer(sheet: Sheet, found: dict[str, Any], figures: Figures) -> str:
    if not found["claims"]:
        return "None of the readers of the primary analysis was among the methods: all selection here is exploratory."
    dataset, over = headline_datasets(sheet, found)[-1], summary(sheet)
    claims = [claim for claim in found["claims"] if claim["dataset"] == dataset]
    readers = "; ".join(_reader_sentence(sheet, claim, figures) for claim in claims)
    if not over:
        return f"There is no shift, so nothing is known about new kinds of rows. On the test rows: {readers}."
    return f"Do certified predictions stay accurate on new data? On {dataset}: {readers}. {over}"


def _reader_sentence(sheet: Sheet, claim: dict[str, Any], figures: Figures) -> str:
    """Return one reader's accuracy on one data set, on all rows and on the accepted ones."""
    of_all, coverage, accuracy = (
        claim_figure(figures, claim, metric) for metric in ("accuracy_of_all", "coverage", "accuracy")
    )
    every = f"{sheet.phrase(claim['method'])} is right on {with_interval(of_all)} of all {count(of_all['n'])} rows and "
    if not accuracy["n"]:
        return every + "accepts none"
    accepted = f"on {with_interval(accuracy)} of the {with_interval(coverage)} it accepts"
    return f"{every}{accepted} ({claim['alpha']:g} {claim_word(claim, figures)})"


def _protocol(found: dict[str, Any]) -> str:
    sizes, readers = found["choices"][0]["sizes"], found["readers"]
    each, delta, sure = found["delta_each"], found["delta"], 1 - found["delta"]
    if found["as_fixed"]:
        fixed = "Fixed in the code before this run: these readers, accuracy"
    else:
        fixed = (
            "Chosen for this run, so exploratory: these readers or this accuracy are not those fixed in the code. "
            "Accuracy"
        )
    return (
        f"{fixed} {found['level']:g}, and for each reader and training set the feature space and gated confidence with "
        "the highest expected coverage by the calibration rows. One certificate per reader and training set, at delta "
        f"{each:.3g}: with probability {sure:g} those of a training set hold for all {readers} readers. The first "
        f"training set has {count(sizes['support'])} support, {count(sizes['calibrate'])} calibration and "
        f"{count(sizes['certify'])} certify rows; of certify and test rows one per near-duplicate cluster counts. An "
        "accuracy holds if all four conditional ones (within each label, within each prediction) are shown to reach "
        "it, and fails if one is shown not to; p-values are Holm-corrected over reader and shift, those of the test "
        "rows are not corrected. All else is exploratory: rules that were not chosen are certified at delta "
        f"{delta:g} each, and all other accuracies of one training set share {delta:g}."
    )


def _examples(sheet: Sheet, found: dict[str, Any], detail: pd.DataFrame) -> list[Block]:
    """Return tables of accepted errors and of confident rejections, of the first training set on the primary shift."""
    dataset = headline_datasets(sheet, found)[-1]
    choice = {c["method"]: c["chosen"] for c in reversed(found["choices"])}
    shown_as = sheet.run.texts() if sheet.show_text else {}
    first = detail[(detail["seed"] == detail["seed"].iloc[0]) & (detail["dataset"] == dataset)]
    blocks: list[Block] = []
    for method, part in first.groupby("method", sort=False):
        wrong = part[(part["reason"] == "") & (part["predicted"] != part["label"])]
        sure = part[part["reason"] != ""].assign(sure=lambda f: np.maximum(f["probability"], 1 - f["probability"]))
        kinds = ((wrong, "confidence", "Accepted and wrong"), (sure, "sure", "Confident and rejected"))
        for rows, by, what in kinds:
            shown = rows.sort_values([by, "row"], ascending=[False, True], kind="stable")[:EXAMPLES]
            name = sheet.phrase(str(method))
            if not len(shown):
                blocks.append(Text(f"{what}, {name} on {dataset}: none of {count(len(part))} rows."))
                continue
            rule = f"{choice[method]['confidence']} in {choice[method]['space']}"
            caption = (
                f"{what}: {name} on {dataset}, of the first training set alone ({rule}), {count(len(rows))} of "
                f"{count(len(part))} rows, highest {'confidence' if by == 'confidence' else 'probability'} first."
            )
            blocks.append(_example_table(caption, shown.to_dict("records"), shown_as))
    return blocks


def _example_table(caption: str, rows: Sequence[dict[str, Any]], texts: dict[str, str]) -> Table:
    head = [Value("Row"), number("Label"), number("Predicted"), number("Probability of 1"), number("Confidence")]
    head += [Value("Reason")]
    head += [number("q"), number("d"), number("q'"), Value("Nearest exemplars")]
    return Table(caption, tuple(head), tuple(_example_line(row, texts) for row in rows))


def _example_line(row: dict[str, Any], texts: dict[str, str]) -> Line:
    confidence, shown = row["confidence"], 1 if texts else 3
    cells = (
        Value(texts.get(row["row"], row["row"])),
        number(str(row["label"])),
        number(str(row["predicted"])),
        number(share(row["probability"])),
        number(f"{confidence:.3g}" if np.isfinite(confidence) else NONE),
        Value(row["reason"] or "accepted"),
        number(count(row["q"])),
        number(share(row["d"])),
        number(f"{row['q_prime']:.1f}"),
        Value("; ".join(texts.get(i, i) for i in row["exemplars"].split()[:shown])),
    )
    return Line(cells)
