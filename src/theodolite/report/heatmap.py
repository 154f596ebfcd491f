"""Heat-map of where a concept can be read: AUROC for every block and dense method, at fixed parameters."""

import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from theodolite.report.chart import INK, WIDTH, Chart, style, title
from theodolite.report.numbers import share
from theodolite.report.sheet import Column, Sheet

CELL, LABELS, TOP, BETWEEN = 0.25, 1.75, 0.42, 0.9  # inches
PARTS = [
    "embed",
    "resid_pre",
    "attn_out",
    "resid_mid",
    "mlp_out",
    "resid_post",
    "final_norm",
]  # in order of computation


def sites(sheet: Sheet) -> Chart | None:
    """One heat-map per headline data set; None when the run scored no blocks."""
    columns = sheet.headline("blocks")
    entries = sheet.entries("blocks", columns)
    if not entries:
        return None
    places = sorted({e.site for e in entries}, key=depth)
    methods = list(dict.fromkeys(e.method for e in entries))
    grids = [_grid(sheet, methods, places, column) for column in columns]
    tall = CELL * len(methods)
    with style():
        alt = _alt(sheet, columns, grids, methods, places)
        chart = Chart(WIDTH, TOP + len(columns) * (tall + BETWEEN) - 0.42, alt)
        for at, (column, grid) in enumerate(zip(columns, grids, strict=True)):
            axes = chart.axes_at(LABELS, TOP + at * (tall + BETWEEN), WIDTH - LABELS - 0.05, tall)
            _draw(axes, grid, float(np.nanmin(grids)), float(np.nanmax(grids)))
            title(axes, column.title, column.subtitle)
            axes.set_yticks(range(len(methods)), [sheet.label(m) for m in methods], color=INK, size=8)
            axes.set_xticks(range(len(places)), block_names(places))
            axes.set_xlabel("block whose output is read" if _one_part(places) else "site")
            if (matched := sheet.run.recipe.get("site")) in places:
                frame = (places.index(matched) - 0.5, -0.5), 1, len(methods)
                axes.add_patch(Rectangle(*frame, fill=False, ec=INK, lw=1.6, clip_on=False))
    return chart


def depth(site: str) -> tuple[int, int]:
    """A sort key: order in which a forward pass reaches sites.

    >>> sorted(["final_norm", "blocks.2.resid_post", "blocks.10.resid_pre", "embed"], key=depth)
    ['embed', 'blocks.2.resid_post', 'blocks.10.resid_pre', 'final_norm']
    """
    found = re.fullmatch(r"blocks\.(\d+)\.(\w+)", site)
    part = found[2] if found else site
    place = PARTS.index(part) if part in PARTS else len(PARTS)
    return (int(found[1]) if found else (-1 if part == "embed" else 10**6), place)


def block_names(places: Sequence[str]) -> list[str]:
    """Short names of sites: block numbers where every site is the same part.

    >>> block_names(["blocks.2.resid_post", "blocks.3.resid_post"]), block_names(["embed", "blocks.0.mlp_out"])
    (['2', '3'], ['embed', '0.mlp_out'])
    """
    within = [place.removeprefix("blocks.") for place in places]
    return [w.split(".")[0] for w in within] if _one_part(places) else within


def _one_part(places: Sequence[str]) -> bool:
    return all(p.startswith("blocks.") for p in places) and len({p.split(".")[-1] for p in places}) == 1


def _grid(sheet: Sheet, methods: Sequence[str], places: Sequence[str], column: Column) -> np.ndarray:
    cells = [[sheet.cell("blocks", m, place, column) for place in places] for m in methods]
    return np.array([[cell.value if cell else np.nan for cell in line] for line in cells])


def _draw(axes: Axes, grid: np.ndarray, low: float, high: float) -> None:
    darkest = high + (high - low) / 4  # the top of the colour map is too dark for an outline to show
    edges = np.arange(grid.shape[1] + 1) - 0.5, np.arange(grid.shape[0] + 1) - 0.5
    axes.pcolormesh(*edges, grid, cmap="YlGnBu", vmin=low, vmax=darkest, ec="white", lw=0.4)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    small = 7 if grid.shape[1] <= 34 else 5.5
    for (y, x), value in np.ndenumerate(grid):
        dark = (value - low) / max(high - low, 1e-9) > 0.7
        text = "" if np.isnan(value) else f"{round(value * 100)}"
        axes.text(x, y, text, ha="center", va="center", size=small, color="white" if dark else "black")


def _alt(
    sheet: Sheet, columns: Sequence[Column], grids: Sequence[np.ndarray], methods: Sequence[str], places: Sequence[str]
) -> str:
    parts = []
    for column, grid in zip(columns, grids, strict=True):
        y, x = np.unravel_index(np.nanargmax(grid), grid.shape)
        parts.append(f"{column.title}: highest {share(grid[y, x])}, {sheet.label(methods[int(y)])} at {places[int(x)]}")
    return f"Heat-map of AUROC, {len(methods)} methods at {len(places)} sites. {'; '.join(parts)}."
