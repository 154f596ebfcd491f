"""Forest plots: one line per method, one panel per data set, and the differences that were fixed before the run."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from theodolite.report.baselines import bands
from theodolite.report.chart import BAND, GREY, HAIR, INK, WIDTH, Chart, style, title
from theodolite.report.names import Group
from theodolite.report.numbers import count, share, short, signed, span, upper, within
from theodolite.report.sheet import POOLED, Cell, Column, Entry, Sheet

LINE, LABELS, GAP, TOP = 0.172, 2.3, 0.18, 0.62  # inches
SIZES = {"*": 8, "P": 6.2, "X": 5.8, "d": 5.4}  # points; thin markers drawn larger, so that all look alike
CHANCE = 0.5


def forest(sheet: Sheet, columns: Sequence[Column], task: str = "matched") -> Chart | None:
    """AUROC with its interval for every method of a task; None when there is nothing to draw."""
    entries = sheet.entries(task, columns)
    if not entries:
        return None
    places, headings, height = _lines(entries)
    panels = [[sheet.cell(task, e.method, e.site, column) for e in entries] for column in columns]
    width = min(3.4, (WIDTH - LABELS) / len(columns) - GAP)
    with style():
        alt = _alt(entries, columns, panels)
        chart = Chart(WIDTH, TOP + height * LINE + 0.42, alt)
        limits = _limits([cell for panel in panels for cell in panel if cell])
        for at, (column, panel) in enumerate(zip(columns, panels, strict=True)):
            axes = chart.axes_at(LABELS + at * (width + GAP), TOP, width, height * LINE)
            _frame(axes, limits, height, places)
            _title(axes, column, panel, int(width * 13))
            _reference(axes, sheet, task, column)
            _random(axes, sheet, column)
            for place, entry, cell in zip(places, entries, panel, strict=True):
                if cell is not None:
                    _whisker(axes, place, cell, entry.group, limits[0])
        _label(chart.axes[0], entries, places, headings)
    return chart


def contrasts(sheet: Sheet, lines: Sequence[dict[str, Any]]) -> Chart:
    """Differences in AUROC with their intervals, against the band that counts as equivalent."""
    ends = [abs(v) for line in lines for v in (line["lo"], line["hi"], line["value"]) if v is not None]
    reach, tall = max([0.05, *ends]) * 1.1, 0.42 * len(lines)
    with style():
        chart = Chart(WIDTH, 0.62 + tall, _contrasts_alt(sheet, lines))
        axes = chart.axes_at(3.6, 0.1, 5.4, tall)
        axes.axvspan(-sheet.margin, sheet.margin, color=BAND, zorder=0)
        axes.axvline(0, color=GREY, lw=0.8, zorder=1)
        axes.set(xlim=(-reach, reach), ylim=(len(lines) - 0.5, -0.5), yticks=[])
        axes.set_xlabel(f"difference in AUROC; shaded: within {within(sheet.margin)} of zero, equivalent")
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_formatter(lambda v, _: short(v, sign=True))
        beside: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center"}
        for at, line in enumerate(lines):
            if line["lo"] is not None:
                axes.plot([line["lo"], line["hi"]], [at, at], color=INK, lw=1.6, solid_capstyle="butt")
            if line["value"] is not None:
                axes.plot(line["value"], at, "o", color=INK, ms=5)
            axes.text(-3.6 / 5.4, at - 0.2, upper(sheet.phrase(line["method"])), **beside)
            axes.text(-3.6 / 5.4, at + 0.2, f"minus {sheet.phrase(line['than'])}", color=GREY, **beside)
            axes.text(1.02, at, line["verdict"], weight="bold", **beside)
    return chart


def _contrasts_alt(sheet: Sheet, lines: Sequence[dict[str, Any]]) -> str:
    said = [
        f"{sheet.phrase(line['method'])} minus {sheet.phrase(line['than'])}: "
        f"{signed(line['value'])} {span(line['lo'], line['hi'], sign=True)}, {line['verdict']}"
        for line in lines
    ]
    return f"Differences in AUROC with 95 % intervals. {'; '.join(said)}."


def _lines(entries: Sequence[Entry]) -> tuple[list[float], list[tuple[float, Group]], float]:
    """y of every entry, y of every group's heading, and the height of them all, in lines."""
    places, headings, y = [], [], 0.0
    for at, entry in enumerate(entries):
        if at == 0 or entries[at - 1].group != entry.group:
            y += 0.4 if at else 0
            headings.append((y + 0.5, entry.group))
            y += 1
        places.append(y + 0.5)
        y += 1
    return places, headings, y


def _limits(cells: Sequence[Cell]) -> tuple[float, float]:
    """From below chance, where controls lie, to 1; anything lower than .35 is drawn as an arrow at the edge."""
    lowest = min([CHANCE, *(v for c in cells for v in (c.value, c.lo, *c.points) if np.isfinite(v))])
    return max(0.35, np.floor((lowest - 0.01) * 20) / 20), 1.005


def _frame(axes: Axes, limits: tuple[float, float], height: float, places: Sequence[float]) -> None:
    axes.set(xlim=limits, ylim=(height, 0), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.hlines(places, *limits, color=HAIR, lw=0.5, zorder=0)
    axes.axvline(CHANCE, color=GREY, lw=0.8, ls=(0, (2, 2)), zorder=1)
    ticks = [t for t in np.arange(0, 1.01, 0.1) if t >= limits[0] - 1e-9]
    axes.set_xticks(ticks, [short(t) for t in ticks])
    axes.set_xlabel("AUROC")


def _title(axes: Axes, column: Column, panel: Sequence[Cell | None], letters: int) -> None:
    seen = [cell for cell in panel if cell]
    rows = f"n = {count(max(c.n for c in seen))}, {count(max(c.n_groups for c in seen))} groups"
    title(axes, textwrap.shorten(column.title, letters, placeholder="..."), column.subtitle, rows)


def _reference(axes: Axes, sheet: Sheet, task: str, column: Column) -> None:
    """A thin line at the method every primary contrast is measured against, so that the eye can compare."""
    for entry in sheet.entries(task, [column]):
        cell = sheet.cell(task, entry.method, entry.site, column)
        if entry.method == sheet.reference and cell:
            axes.axvline(cell.value, color=entry.group.colour, lw=0.8, alpha=0.6, zorder=1)


def _random(axes: Axes, sheet: Sheet, column: Column) -> None:
    """The band that random directions of the activations cover, behind everything else."""
    band = bands(sheet).get(column.dataset) if column.metric == POOLED else None
    if band:
        axes.axvspan(band["lo"], band["hi"], color=BAND, zorder=-1, lw=0)


def _whisker(axes: Axes, y: float, cell: Cell, group: Group, left: float) -> None:
    look: dict[str, Any] = {"color": group.colour, "zorder": 3, "clip_on": False}
    if cell.points:
        inside = [point for point in cell.points if point >= left]
        axes.plot(inside, [y] * len(inside), "|", ms=6, mew=1.2, alpha=0.8, **look)
        if len(inside) < len(cell.points):
            axes.plot(left, y, marker="<", ms=3.5, **look)
    elif np.isfinite(cell.lo):
        axes.plot([max(cell.lo, left), max(cell.hi, left)], [y, y], lw=1.4, solid_capstyle="butt", **look)
    if cell.value < left:
        axes.plot(left, y, marker="<", ms=4.5, **look)
    elif np.isfinite(cell.value):
        axes.plot(cell.value, y, marker=group.marker, ms=SIZES.get(group.marker, 4.6), mec="white", mew=0.4, **look)


def _label(
    axes: Axes, entries: Sequence[Entry], places: Sequence[float], headings: Sequence[tuple[float, Group]]
) -> None:
    left: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "clip_on": False}
    width = axes.get_position().width * WIDTH
    sites = len({e.site for e in entries if e.site}) > 1
    for y, group in headings:
        axes.text(-LABELS / width, y, group.title, weight="bold", color=group.colour, **left)
    for y, entry in zip(places, entries, strict=True):
        where = f"  {entry.site.removeprefix('blocks.')}" if sites and entry.site else ""
        axes.text((0.12 - LABELS) / width, y, textwrap.shorten(entry.label + where, 38, placeholder="..."), **left)


def _alt(entries: Sequence[Entry], columns: Sequence[Column], panels: Sequence[Sequence[Cell | None]]) -> str:
    parts = []
    for column, panel in zip(columns, panels, strict=True):
        seen = [
            (cell.value, entry) for cell, entry in zip(panel, entries, strict=True) if cell and np.isfinite(cell.value)
        ]
        if seen:
            (low, worst), (high, best) = min(seen, key=lambda s: s[0]), max(seen, key=lambda s: s[0])
            parts.append(
                f"{column.title} ({column.subtitle}): from {share(low)} ({worst.label}, {worst.group.title}) "
                f"to {share(high)} ({best.label}, {best.group.title})"
            )
    return f"Forest plot of AUROC with 95 % intervals, {len(entries)} methods. {'; '.join(parts)}."
