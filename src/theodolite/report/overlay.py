"""Several runs laid over each other: a page, a figure and a LaTeX table of what they say about the same rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from theodolite.core.errors import UserError
from theodolite.core.run import Run
from theodolite.report import findings, pairing
from theodolite.report.blocks import Block, Figure, Line, Section, Table, Text, Value, number
from theodolite.report.chart import GREY, HAIR, WIDTH, Chart, style, title
from theodolite.report.latex import booktabs
from theodolite.report.numbers import NONE, count, share, short, signed, span, upper
from theodolite.report.sheet import Sheet

LOOKS = [("#0072B2", "o"), ("#D55E00", "s"), ("#008060", "^"), ("#B4558F", "D"), ("#333333", "X"), ("#A67C00", "v")]
LINE, LABELS, GAP = 0.24, 2.9, 0.25  # inches


def page(runs: Sequence[Run]) -> tuple[str, str, list[Section]]:
    """Title, subtitle and sections of the overlay."""
    frame = pairing.paired(runs)
    words = (
        "Every number here is from texts that all runs scored, found by content hash, with the seeds they share. "
        "Differences are paired by row and seed, exploratory, and not adjusted."
    )
    blocks: list[Block] = [Text(words), _runs(runs), _shared(runs)]
    sheet = Sheet(runs[0])
    caption = "AUROC on shared rows, each run at its own matched site. Whiskers: 95 % intervals; dashed line: chance."
    results: list[Block] = [Figure(chart(sheet, frame), caption), *tables(sheet, frame)]
    called = " and ".join(pairing.run_names(runs))
    return f"{called} on the rows they share", "overlay", [Section("Runs", blocks), Section("On shared rows", results)]


def latex(runs: Sequence[Run]) -> str:
    """One table per data set."""
    parts = tables(Sheet(runs[0]), pairing.paired(runs))
    return "\n".join(booktabs(part, f"tab:overlay-{at}") for at, part in enumerate(parts, 1))


def tables(sheet: Sheet, frame: pd.DataFrame) -> list[Table]:
    """Per data set: methods by runs, with the difference of each later run from the first."""
    return [_table(sheet, str(name), part) for name, part in frame.groupby("dataset", sort=False)]


def chart(sheet: Sheet, frame: pd.DataFrame) -> Chart:
    """Forest plot with one point per run, side by side; data sets beyond the fourth are in the tables."""
    datasets = list(dict.fromkeys(frame["dataset"]))[:4]
    methods, called = list(dict.fromkeys(frame["method"])), list(dict.fromkeys(frame["run"]))
    if len(called) > len(LOOKS):
        raise UserError(f"{len(called)} runs in one figure: {len(LOOKS)} at most")
    tall, width = LINE * len(methods), min(4.0, (WIDTH - LABELS) / len(datasets) - GAP)
    with style():
        said = f"{len(methods)} methods in {', '.join(called)}, on {', '.join(datasets)}"
        drawn = Chart(WIDTH, tall + 1.35, f"Forest plot of AUROC on shared rows: {said}.")
        for at, dataset in enumerate(datasets):
            axes = drawn.axes_at(LABELS + at * (width + GAP), 0.5, width, tall)
            _panel(axes, frame[frame["dataset"] == dataset], methods, called)
            title(axes, sheet.column(dataset).title, f"n = {count(frame.loc[frame['dataset'] == dataset, 'n'].max())}")
        place: dict[str, Any] = {"transform": drawn.axes[0].get_yaxis_transform(), "va": "center"}
        for y, method in enumerate(methods):
            drawn.axes[0].text(-LABELS / width, y, upper(sheet.phrase(method)), **place)
        handles, labels = drawn.axes[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="lower left", bbox_to_anchor=(LABELS / WIDTH, 0), ncols=len(called))
    return drawn


def _panel(axes: Axes, frame: pd.DataFrame, methods: Sequence[str], called: Sequence[str]) -> None:
    """One data set: for every method the runs below each other."""
    step = 0.6 / len(called)
    axes.hlines(range(len(methods)), 0, 1, color=HAIR, lw=0.5, zorder=0)
    axes.axvline(0.5, color=GREY, lw=0.8, ls=(0, (2, 2)), zorder=1)
    for at, (name, (colour, marker)) in enumerate(zip(called, LOOKS, strict=False)):
        part = frame[frame["run"] == name].set_index("method").reindex(methods)
        y = np.arange(len(methods)) + (at - (len(called) - 1) / 2) * step
        axes.hlines(y, part["lo"], part["hi"], color=colour, lw=1.3)
        axes.plot(part["value"], y, marker, color=colour, ms=4.6, mec="white", mew=0.4, label=name)
    lowest = np.nanmin([0.5, *frame["value"], *frame["lo"]])
    axes.set(
        xlim=(max(0, np.floor(lowest * 20 - 0.2) / 20), 1.005),
        ylim=(len(methods) - 0.5, -0.5),
        yticks=[],
        xlabel="AUROC",
    )
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(lambda v, _: short(v))


def _table(sheet: Sheet, dataset: str, part: pd.DataFrame) -> Table:
    called = list(dict.fromkeys(part["run"]))
    head = [Value("Method"), *map(number, called), *(number(f"{name} minus {called[0]}") for name in called[1:])]
    lines = []
    for method, rows in part.groupby("method", sort=False):
        of = {line.run: line for line in rows.itertuples()}
        cells = [number(share(of[n].value), span(of[n].lo, of[n].hi)) if n in of else number(NONE) for n in called]
        cells += [_difference(of.get(name)) for name in called[1:]]
        lines.append(Line((Value(upper(sheet.phrase(str(method)))), *cells)))
    first = part.iloc[0]
    column = sheet.column(dataset)
    size = f"{count(first['n'])} shared rows in {count(first['n_groups'])} groups"
    caption = f"{column.title} ({column.subtitle}): AUROC [95 % interval] on {size}."
    return Table(caption, tuple(head), tuple(lines))


def _difference(line: Any) -> Value:
    return (
        number(NONE)
        if line is None
        else number(signed(line.difference), span(line.difference_lo, line.difference_hi, sign=True))
    )


def _runs(runs: Sequence[Run]) -> Table:
    head = tuple(Value(word) for word in ("Run", "Recipe", "Model", "Matched site", "Dictionary", "Repeated over"))
    lines = []
    for name, run in zip(pairing.run_names(runs), runs, strict=True):
        about = dict(findings.subject(Sheet(run)))
        lines.append(
            Line((Value(name, run.id), Value(run.recipe["name"]), *(Value(words) for words in about.values())))
        )
    return Table("The runs.", head, tuple(lines))


def _shared(runs: Sequence[Run]) -> Table:
    frame = pairing.shared(runs)
    head = (Value("Data set"), *(number(str(name)) for name in frame.columns))
    lines = [
        Line((Value(str(d)), *(number(count(n)) for n in row)))
        for d, row in zip(frame.index, frame.to_numpy(), strict=True)
    ]
    return Table("Rows of every data set, and those all runs share.", head, tuple(lines))
