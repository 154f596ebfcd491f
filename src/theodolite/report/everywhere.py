"""Every contrast on every data set in one figure, and the table behind it."""

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from theodolite.report import baselines
from theodolite.report.blocks import Block, Figure, Line, Table, Text, Value, number
from theodolite.report.chart import BAND, GREY, HAIR, INK, WIDTH, Chart, style, title
from theodolite.report.numbers import NONE, count, share, short, signed, upper, within
from theodolite.report.sheet import Column, Sheet
from theodolite.report.tables import verdict_cell

LABELS, GAP, TOP, ROW, FOOT = 3.0, 0.14, 0.78, 0.36, 0.5  # inches
ABREAST = 5  # panels beside each other; more go below
# A verdict is told by its shape as well as by its colour (after Okabe & Ito); hollow is what is not decided.
LOOKS: dict[str, tuple[str, str]] = {
    "better": ("^", "#0072B2"),
    "worse": ("v", "#D55E00"),
    "equivalent": ("s", "#008060"),
    "non-inferior": ("D", "#B4558F"),
    "inverted": ("X", "#A67C00"),
    "undecided": ("o", GREY),
}
ROLES = {"left-out": "left-out source", "mix": "test rows", "primary": "primary shift", "shift": "shift"}
TEXT_ROW = ("", "")  # the row whose two methods are chosen by a rule, and may differ between data sets

Pair = tuple[str, str]
Lines = dict[tuple[Pair, str], dict[str, Any]]


def blocks(sheet: Sheet) -> list[Block]:
    """The figure, the table and the note on testing many; nothing where one data set holds all contrasts there are."""
    lines = _lines(sheet)
    columns = [c for c in sheet.columns("matched") if c.metric == "auroc" and any(d == c.dataset for _, d in lines)]
    if len(columns) < 2:
        return []
    pairs = list(dict.fromkeys(pair for pair, _ in lines))
    return [
        Figure(chart(sheet, pairs, columns, lines), _caption(sheet, lines)),
        _table(sheet, pairs, columns, lines),
        Text(_many(sheet, lines), "note"),
    ]


def chart(sheet: Sheet, pairs: Sequence[Pair], columns: Sequence[Column], lines: Lines) -> Chart:
    """Rows of contrasts, a panel per data set, at most ABREAST of them beside each other."""
    tall, bands = ROW * len(pairs), [columns[at : at + ABREAST] for at in range(0, len(columns), ABREAST)]
    width = min(2.2, (WIDTH - LABELS) / min(ABREAST, len(columns)) - GAP)
    reach = _reach(sheet, list(lines.values()))
    with style():
        drawn = Chart(WIDTH, len(bands) * (TOP + tall + FOOT) + 0.25, _alt(sheet, lines))
        for down, band in enumerate(bands):
            for across, column in enumerate(band):
                top = down * (TOP + tall + FOOT) + TOP
                axes = drawn.axes_at(LABELS + across * (width + GAP), top, width, tall)
                _panel(axes, sheet, pairs, column, lines, reach)
                if across == 0:
                    _names(axes, sheet, pairs, LABELS / width)
        shown = [word for word in LOOKS if any(line["verdict"] == word for line in lines.values())]
        handles = [drawn.axes[0].plot([], [], label=word, **_look(word))[0] for word in shown]
        drawn.legend(handles, shown, loc="lower left", bbox_to_anchor=(LABELS / WIDTH - 0.01, 0), ncols=len(shown))
    return drawn


def _panel(axes: Axes, sheet: Sheet, pairs: Sequence[Pair], column: Column, lines: Lines, reach: float) -> None:
    axes.axvspan(-sheet.margin, sheet.margin, color=BAND, zorder=0)
    axes.hlines(range(len(pairs)), -reach, reach, color=HAIR, lw=0.5, zorder=0)
    axes.axvline(0, color=GREY, lw=0.8, zorder=1)
    axes.set(xlim=(-reach, reach), ylim=(len(pairs) - 0.5, -0.5), yticks=[], xlabel="difference in AUROC")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(lambda v, _: short(v, sign=True))
    axes.locator_params(axis="x", nbins=5)
    here = [line for (_, dataset), line in lines.items() if dataset == column.dataset]
    band = baselines.bands(sheet).get(column.dataset)
    about = [f"n = {count(max(line['n'] for line in here))}, {_groups(here)} groups"]
    about += (
        [f"random {short(band['lo'])} to {short(band['hi'])}" + (" (easy)" if band["easy"] else "")] if band else []
    )
    title(axes, textwrap.shorten(column.title, 22, placeholder="..."), ROLES[column.kind], *about)
    for y, pair in enumerate(pairs):
        if line := lines.get((pair, column.dataset)):
            look = _look(line["verdict"])
            if line["lo"] is not None:
                axes.plot([line["lo"], line["hi"]], [y, y], color=look["color"], lw=1.5, solid_capstyle="butt")
            if line["value"] is not None:
                axes.plot(line["value"], y, zorder=3, **look)


def _names(axes: Axes, sheet: Sheet, pairs: Sequence[Pair], left: float) -> None:
    beside: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center"}
    for y, pair in enumerate(pairs):
        one, other = _words(sheet, pair)
        axes.text(-left, y - 0.2, textwrap.shorten(one, 46, placeholder="..."), **beside)
        axes.text(-left, y + 0.2, textwrap.shorten(other, 52, placeholder="..."), color=GREY, **beside)


def _look(verdict: str) -> dict[str, Any]:
    marker, colour = LOOKS.get(verdict, ("o", INK))
    face = "white" if verdict == "undecided" else colour
    return {"marker": marker, "color": colour, "mfc": face, "ms": 5.4, "mew": 1.1, "ls": ""}


def _words(sheet: Sheet, pair: Pair) -> tuple[str, str]:
    if pair == TEXT_ROW:
        return "Best reader of the model (chosen in training)", "minus the strongest text-only method there"
    return upper(sheet.phrase(pair[0])), f"minus {sheet.phrase(pair[1])}"


def _lines(sheet: Sheet) -> Lines:
    """By contrast and data set, in the order of the recipe; last the row that is chosen by a rule."""
    found = {((x["method"], x["than"]), x["dataset"]): x for x in baselines.everywhere(sheet)}
    return found | {(TEXT_ROW, x["dataset"]): x for x in baselines.against_text(sheet)}


def _table(sheet: Sheet, pairs: Sequence[Pair], columns: Sequence[Column], lines: Lines) -> Table:
    def row(name: Value, cells: Sequence[Value | None]) -> Line:
        return Line((name, *(cell or number(NONE) for cell in cells)))

    here = {c.dataset: [line for (_, d), line in lines.items() if d == c.dataset] for c in columns}
    sizes = [number(count(max(x["n"] for x in of)), f"in {_groups(of)} groups") for of in here.values()]
    rows = [row(Value("Rows"), sizes)]
    for pair in pairs:
        found = [lines.get((pair, c.dataset)) for c in columns]
        rows.append(row(Value(*_words(sheet, pair)), [verdict_cell(line) if line else None for line in found]))
        if pair == TEXT_ROW:  # which methods these are may differ between data sets
            for what, key, level in (("reader", "method", "level"), ("text-only method", "than", "than_level")):
                named = [Value(sheet.label(x[key]), share(x[level]), "number wrap") if x else None for x in found]
                rows.append(row(Value(f"that {what}", "its AUROC"), named))
    if bands := baselines.bands(sheet):
        draws = max(band["draws"] for band in bands.values())
        name = Value("Random directions, AUROC", f"lowest to highest of {draws} draws, each with its better sign")
        found = [bands.get(c.dataset) for c in columns]
        words = [number(baselines.band_words(b), "easy" if b["easy"] else "") if b else None for b in found]
        rows.append(row(name, words))
    head = (Value("Difference in AUROC"), *(number(c.title, ROLES[c.kind]) for c in columns))
    interval = " [95 % interval]" if any(x["lo"] is not None for x in lines.values()) else ""
    return Table(f"The same differences in numbers{interval}.", head, tuple(rows))


def _groups(lines: Sequence[dict[str, Any]]) -> str:
    return count(max(line["n_groups"] for line in lines))


def _caption(sheet: Sheet, lines: Lines) -> str:
    primary = sheet.run.recipe.get("primary")
    goes_on = " A line that ends at the frame goes on." if any(x["lo"] is not None for x in lines.values()) else ""
    where = f"the panel {sheet.column(primary).title!r}" if primary else "the panel of test rows"
    return (
        f"Every contrast on every data set. {sheet.whiskers((x['lo'], x['hi']) for x in lines.values())} Shaded: "
        f"within {within(sheet.margin)} of zero. The recipe's own contrasts in {where} are the primary ones; all "
        f"others are exploratory. Shape and colour say the verdict.{goes_on}"
    )


def _many(sheet: Sheet, lines: Lines) -> str:
    primary = sum(bool(x.get("primary")) for x in lines.values())
    rest = len(lines) - primary
    fixed = "1 contrast was" if primary == 1 else f"{primary} contrasts were"
    return (
        f"{fixed} fixed as primary (Holm's correction over them). The other {rest} are exploratory, "
        f"each tested on its own at .05: where nothing differs, {baselines.by_chance(rest)} of them would still be "
        "called better or worse. Those against the strongest text-only method are adjusted for the number of such "
        "methods."
    )


def _reach(sheet: Sheet, lines: Sequence[dict[str, Any]]) -> float:
    """Half the width of the axis: all points, and whiskers as far as they do not squeeze the rest."""
    values = [abs(line["value"]) for line in lines if line["value"] is not None]
    ends = [abs(v) for line in lines for v in (line["lo"], line["hi"]) if v is not None]
    furthest = max(values, default=0.0)
    return max(2.5 * sheet.margin, 1.15 * furthest, min(1.05 * max(ends, default=0.0), 2 * furthest))


def _alt(sheet: Sheet, lines: Lines) -> str:
    said = [
        f"{sheet.column(dataset).title}, {sheet.phrase(x['method'])} minus {sheet.phrase(x['than'])}: "
        f"{signed(x['value'])}, {x['verdict']}"
        for (_, dataset), x in lines.items()
    ]
    return f"Differences in AUROC by contrast and data set. {'; '.join(said)}."
