"""The figures by name, and the two curves: k latents against the reference, and the dictionary's learning curve."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from theodolite.core.errors import UserError, unknown
from theodolite.report.chart import GREY, WIDTH, Chart, style, title
from theodolite.report.forest import forest
from theodolite.report.heatmap import sites
from theodolite.report.numbers import share, short, size, upper
from theodolite.report.sheet import Cell, Column, Sheet

CURVES = {
    "latents": ("SAE latents", "#D55E00", "s", "-"),
    "control": ("frozen-encoder SAE", "#8C6D5A", "P", (0, (4, 2))),
}
KINDS = {
    "forest": lambda sheet: forest(sheet, sheet.headline("matched")),
    "sites": sites,
    "k-sparse": lambda sheet: k_sparse(sheet),
}


def plot(sheet: Sheet, kind: str) -> Chart:
    """A figure by name: forest, sites or k-sparse."""
    if kind not in KINDS:
        raise unknown("plot", kind, KINDS)
    chart = KINDS[kind](sheet)
    if chart is None:
        raise UserError(f"this run has no numbers for the {kind!r} plot")
    return chart


def k_sparse(sheet: Sheet) -> Chart | None:
    """AUROC against how many latents a logistic may use; None when the run has no such method."""
    curves = {(c, view): _curve(sheet, c, view) for c in sheet.headline("matched") for view in CURVES}
    columns = [c for c in sheet.headline("matched") if any(curves[c, view] for view in CURVES)]
    if not columns:
        return None
    width = min(4.3, (WIDTH - 0.55) / len(columns) - 0.3)
    with style():
        chart = Chart(WIDTH, 3.65, _k_alt(curves))
        for at, column in enumerate(columns):
            axes = chart.axes_at(0.55 + at * (width + 0.3), 0.45, width, 2.45)
            drawn = {view: curves[column, view] for view in CURVES if curves[column, view]}
            _draw_curves(axes, drawn, upper(sheet.phrase(sheet.reference)), _reference(sheet, column))
            title(axes, column.title, column.subtitle)
            axes.set_xlabel("latents a logistic may use (k)")
        low = min(axes.get_ylim()[0] for axes in chart.axes)
        for axes in chart.axes:
            axes.set_ylim(min(low, 0.5), 1.0)
            axes.yaxis.set_major_formatter(lambda v, _: short(v))
        chart.axes[0].set_ylabel("AUROC")
        handles, names = chart.axes[0].get_legend_handles_labels()
        chart.legend(handles, names, loc="lower left", bbox_to_anchor=(0.045, 0), ncols=3)
    return chart


def learning_curve(points: Sequence[tuple[float, float]]) -> Chart:
    """The dictionary's error on held-out documents against the tokens it has seen."""
    tokens, fvu = np.array(points, float).T
    with style():
        last = f"{share(fvu[-1])} at {size(tokens[-1])} tokens"
        chart = Chart(4.6, 2.1, f"Learning curve: FVU on held-out documents falls from {share(fvu[0])} to {last}.")
        axes = chart.axes_at(0.55, 0.15, 3.9, 1.5)
        axes.plot(tokens, fvu, "o-", color="#D55E00", ms=4, lw=1.4)
        axes.set(xscale="log", ylim=(0, None), xlabel="tokens seen", ylabel="FVU")
        labelled = _apart(tokens)
        axes.set_xticks(labelled, [size(t) for t in labelled])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter(lambda v, _: short(v))
    return chart


def _apart(tokens: Sequence[float]) -> list[float]:
    """The tick positions whose labels do not touch on the learning curve's axis; the last is always one.

    >>> _apart([100, 200, 400, 800, 850])
    [100, 200, 400, 850]
    """
    kept = [tokens[-1]]
    for t in reversed(tokens[:-1]):
        if np.log(kept[0] / t) > 0.11 * np.log(tokens[-1] / tokens[0]):
            kept.insert(0, t)
    return kept


def _curve(sheet: Sheet, column: Column, view: str) -> list[tuple[int, Cell]]:
    """(k, cell) of every `k_sparse(k=..)@view`, by k."""
    points = []
    for entry in sheet.entries("matched", [column]):
        found = re.fullmatch(rf"k_sparse\(k=(\d+)\)@{view}", entry.method)
        cell = sheet.cell("matched", entry.method, entry.site, column)
        if found and cell and np.isfinite(cell.value):
            points.append((int(found[1]), cell))
    return sorted(points, key=lambda p: p[0])


def _reference(sheet: Sheet, column: Column) -> Cell | None:
    """The cell of the method that contrasts are measured against; None when it did not run."""
    for entry in sheet.entries("matched", [column]):
        if entry.method == sheet.reference:
            return sheet.cell("matched", entry.method, entry.site, column)
    return None


def _draw_curves(axes: Axes, curves: dict[str, list[tuple[int, Cell]]], reference: str, level: Cell | None) -> None:
    """One panel: the curves, and the `level` of the method called `reference`."""
    ks = sorted({k for points in curves.values() for k, _ in points})
    if level:
        known = bool(np.isfinite([level.lo, level.hi]).all())
        if known:
            axes.axhspan(level.lo, level.hi, color="#0072B2", alpha=0.12, lw=0)
        name = f"{reference}, 95 % interval" if known else reference
        axes.axhline(level.value, color="#0072B2", lw=1.4, label=name)
    for nudge, (view, points) in zip((-0.06, 0.06), curves.items(), strict=False):
        name, colour, marker, dash = CURVES[view]
        x = [np.log2(k) + nudge for k, _ in points]
        look: dict[str, Any] = {"color": colour, "zorder": 3}
        axes.vlines(x, [c.lo for _, c in points], [c.hi for _, c in points], lw=1.2, **look)
        axes.plot(
            x, [c.value for _, c in points], marker=marker, ls=dash, ms=5, mec="white", mew=0.5, label=name, **look
        )
    axes.axhline(0.5, color=GREY, lw=0.8, ls=(0, (2, 2)))
    axes.set_xticks([np.log2(k) for k in ks], [str(k) for k in ks])


def _k_alt(curves: dict[tuple[Column, str], list[tuple[int, Cell]]]) -> str:
    lines = [
        f"{column.title}, {CURVES[view][0]}: " + ", ".join(f"k={k} {share(cell.value)}" for k, cell in points)
        for (column, view), points in curves.items()
        if points
    ]
    return f"AUROC by number of latents. {'; '.join(lines)}."
