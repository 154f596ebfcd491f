"""The figure of a debate: how well each method reads a concept against how far it moves it, a panel each."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from theodolite.report.chart import GREY, WIDTH, Chart, style, title
from theodolite.report.dose_chart import COLOURS, MARKS

COLUMNS = 2
PANEL = (3.1, 2.5)  # inches
GAP = (0.75, 1.0)


def debate_chart(
    panels: Sequence[tuple[str, str, pd.DataFrame]], methods: Sequence[str], phrase: Callable[[str], str]
) -> Chart:
    """Draw one point with both 95 % intervals for each method; equal methods look equal in all panels.

    panels: heading, a grey line under it, and rows with method, auroc, auroc_lo, auroc_hi, effect, effect_lo,
    effect_hi. phrase: writes the name of a method.
    """
    columns = min(COLUMNS, len(panels))
    n_rows = -(-len(panels) // columns)
    height = 0.6 + n_rows * (PANEL[1] + GAP[1])
    alt = f"AUROC under shift against the effect at equal disturbance of {len(methods)} methods, {len(panels)} panels"
    with style():
        chart = Chart(WIDTH, height, alt)
        for number, (heading, line, points) in enumerate(panels):
            row, column = divmod(number, columns)
            left, top = 0.7 + column * (PANEL[0] + GAP[0]), 0.6 + row * (PANEL[1] + GAP[1])
            axes = chart.axes_at(left, top, *PANEL)
            _panel(axes, points, methods, phrase)
            title(axes, heading, line)
            if number == columns - 1:
                shown = {method for _, _, each in panels for method in each["method"]}
                handles, labels = _looks(axes, [m for m in methods if m in shown], methods, phrase)
                axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.04, 1))
    return chart


def _panel(axes: Axes, points: pd.DataFrame, methods: Sequence[str], phrase: Callable[[str], str]) -> None:
    for one in points.to_dict("records"):
        reach = [
            [[one[name] - one[f"{name}_lo"]], [one[f"{name}_hi"] - one[name]]]
            # an interval that does not exist is drawn as none
            if pd.notna(one[f"{name}_lo"])
            else None
            for name in ("auroc", "effect")
        ]
        look = _look(methods.index(one["method"]))
        axes.errorbar(one["auroc"], one["effect"], reach[1], reach[0], ms=5, elinewidth=0.6, linestyle="none", **look)
    axes.axhline(0, color=GREY, lw=0.6, zorder=0)
    axes.set_xlabel("reads: AUROC under shift")
    axes.set_ylabel("controls: effect, nats of log-odds")


def _looks(
    axes: Axes, shown: Sequence[str], methods: Sequence[str], phrase: Callable[[str], str]
) -> tuple[list[Any], list[str]]:
    """Return the entries of the legend: also of methods that the panel itself lacks."""
    handles = [axes.plot([], [], linestyle="none", ms=5, **_look(methods.index(method)))[0] for method in shown]
    return handles, [phrase(method) for method in shown]


def _look(number: int) -> dict[str, Any]:
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKS[number % len(MARKS)]}
