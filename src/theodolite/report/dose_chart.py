"""The figure of effects against disturbance: a line for each method and sign over the band of random directions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from theodolite.report.chart import BAND, GREY, WIDTH, Chart, style

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5f6368", "#000000")
MARKS = ("o", "s", "^", "v", "D", "P", "X", "*")


def dose_chart(rows: pd.DataFrame, bands: Sequence[Mapping[str, Any]], phrase: Callable[[str], str]) -> Chart:
    """Draw mean effects with 95 % intervals at each level of disturbance; rows as in a Run, splits + and -.

    bands: of random directions, with nats and width. phrase: writes the name of a method.
    """
    methods = list(dict.fromkeys(rows["method"]))
    alt = f"Effect against disturbance of {len(methods)} methods, for pushes towards and away from the concept"
    with style():
        chart = Chart(WIDTH, 4.4, alt)
        axes = chart.axes_at(0.6, 0.2, WIDTH - 3.2, 3.7)
        known = sorted((one["nats"], one["width"]) for one in bands if one["width"] is not None)
        if len(known) == 1:  # between one level and itself there is nothing to fill
            ((level, only),) = known
            known = [(level / 1.1, only), (level * 1.1, only)]
        if known:
            nats, width = zip(*known, strict=True)
            axes.fill_between(nats, [-w for w in width], width, color=BAND, zorder=0)
        for number, method in enumerate(methods):
            look: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "marker": MARKS[number % len(MARKS)]}
            for split in ("+", "-"):
                mine = rows[(rows["method"] == method) & (rows["split"] == split)].sort_values("nats")
                if mine.empty:
                    continue
                # a little apart, so that intervals at one level do not hide each other
                at = mine["nats"] * (1 + 0.015 * (number - len(methods) / 2))
                reach = [(mine["value"] - mine["lo"]).fillna(0), (mine["hi"] - mine["value"]).fillna(0)]
                label = phrase(method) if split == "+" else None
                axes.errorbar(at, mine["value"], reach, label=label, lw=1, ms=4, elinewidth=0.6, **look)
        axes.axhline(0, color=GREY, lw=0.6)
        axes.set_xscale("log")
        levels = sorted(rows["nats"].unique())
        axes.set_xticks(levels, [f"{level:g}" for level in levels])
        axes.minorticks_off()
        axes.set_xlabel("disturbance: mean KL from the plain model, nats per token")
        axes.set_ylabel("effect, nats of log-odds")
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1))
    return chart
