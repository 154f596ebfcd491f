"""The report's tables as values: AUROC by method and data set, other metrics, over-refusal, contrasts, costs."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from theodolite.report.blocks import Line, Table, Value, number
from theodolite.report.needs import needs_words
from theodolite.report.numbers import NONE, count, duration, p_value, share, signed, size, span, upper
from theodolite.report.sheet import POOLED, WITHIN, Cell, Column, Entry, Sheet

# p-values of a contrast: uncorrected, after Holm over the fixed ones, false-discovery rate over all others
TESTS = {
    "p": ("no difference", ""),
    "p_holm": ("no difference", "; Holm"),
    "p_fdr": ("no difference", "; false-discovery rate"),
    "p_equivalent": ("beyond the margin", None),
}
METRICS = {
    "auroc": "AUROC",
    "auroc_within_template": "AUROC within template",
    "average_precision": "Average precision",
    "brier": "Brier score",
    "ece": "ECE",
    "auroc_averaged": "AUROC of averaged seeds",
    "auroc_sd_rows": "Standard error, rows",
    "auroc_sd_seeds": "Standard error, training sets",
    "auroc_sd_refits": "of which refits alone",
    "auroc_spread": "SD between training sets",
}


def auroc(sheet: Sheet, task: str, columns: Sequence[Column], caption: str) -> Table:
    """Methods by data sets; the site is a column where methods differ in it."""
    entries = sheet.entries(task, columns)
    sites = len({e.site for e in entries if e.site}) > 1
    head = [Value("Method"), *([Value("Site")] if sites else []), *(number(c.title, c.subtitle) for c in columns)]

    def cells(entry: Entry) -> list[Value]:
        where = [Value(entry.site or NONE)] if sites else []
        return [*where, *(_interval(sheet.cell(task, entry.method, entry.site, c)) for c in columns)]

    lines = [_population(sheet, task, entries, columns, sites), *_grouped(entries, cells, len(head))]
    return Table(caption, tuple(head), tuple(lines))


def metrics(sheet: Sheet, task: str, dataset: str, caption: str, only: str = "") -> Table | None:
    """Every metric but AUROC on one data set, or `only` those whose name starts so (a pattern); None without any."""
    rows = sheet.rows[(sheet.rows["task"] == task) & (sheet.rows["dataset"] == dataset)]
    found = [m for m in dict.fromkeys(rows["metric"]) if m not in {POOLED, WITHIN} and re.match(only, m)]
    place = {metric: at for at, metric in enumerate([*METRICS, *(m for m in found if "@" in m)])}
    found.sort(key=lambda m: place.get(m, len(place)))
    columns = [Column(dataset, metric, metric_name(metric), "", "shift") for metric in found]
    if not columns:
        return None
    entries = sheet.entries(task, columns)

    def cells(entry: Entry) -> list[Value]:
        return [_interval(sheet.cell(task, entry.method, entry.site, column)) for column in columns]

    head = (Value("Method"), *(number(c.title) for c in columns))
    return Table(caption, head, tuple(_grouped(entries, cells, len(head))))


def contrasts(sheet: Sheet, lines: Sequence[dict[str, Any]], caption: str, corrected: str = "; Holm") -> Table:
    """Differences, each with the word it earned and what would change it; no p where there is no interval either.

    corrected: how p_equivalent is.
    """
    tests = {key: name for key, name in TESTS.items() if any(line.get(key) is not None for line in lines)}
    head = [Value("Difference in AUROC"), Value("On"), number("Value")]
    head += [number("p", name + (corrected if how is None else how)) for name, how in tests.values()]
    rows = []
    for line in lines:
        verdict = line["verdict"]
        cells = (
            Value(upper(sheet.phrase(line["method"])), f"minus {sheet.phrase(line['than'])}"),
            Value(sheet.column(line["dataset"]).title, "within template" if line.get("metric") == WITHIN else ""),
            number(signed(line["value"]), span(line["lo"], line["hi"], sign=True)),
            *(number(NONE if line["lo"] is None or line.get(key) is None else p_value(line[key])) for key in tests),
            Value(verdict, needs_words(line), f"verdict {verdict}"),
            number(count(line["n"]), f"in {count(line['n_groups'])} groups"),
        )
        rows.append(Line(cells))
    return Table(caption, (*head, Value("Verdict"), number("n")), tuple(rows))


def verdict_cell(line: dict[str, Any]) -> Value:
    """A contrast in one cell: the difference and its word, with the interval beneath."""
    words = f"{signed(line['value'])} {line['verdict']}"
    return Value(words, span(line["lo"], line["hi"], sign=True), f"number verdict {line['verdict']}")


def costs(sheet: Sheet, caption: str) -> Table:
    """Return the cost of each method of the matched site, over all its seeds."""
    entries = sheet.entries("matched")
    rows = sheet.rows[(sheet.rows["task"] == "matched") & (sheet.rows["seed"] == "all")]
    cost = rows.groupby("method")[["n_fits", "tokens", "seconds", "peak_mb"]].max()
    cost = cost.reindex([entry.method for entry in entries])
    labels = count(sheet.run.facts.get("labels"))

    def cells(entry: Entry) -> list[Value]:
        spent = cost.loc[entry.method]
        words = (
            count(spent["n_fits"]),
            labels,
            size(spent["tokens"]),
            duration(spent["seconds"]),
            count(spent["peak_mb"]),
        )
        return [number(word) for word in words]

    head = (Value("Method"), *map(number, ["Fits", "Labels per fit", "Tokens read", "Time", "Peak memory, MB"]))
    return Table(caption, head, tuple(_grouped(entries, cells, len(head))))


def metric_name(metric: str) -> str:
    """Return the name of a metric in a table; `@` is the false-positive rate that the threshold had in training.

    >>> metric_name("ece"), metric_name("tpr@0.05"), metric_name("fpr@0.01"), metric_name("fpr@p>0.5")
    ('ECE', 'TPR at 5 % FPR', 'Realised FPR at 1 % FPR', 'FPR at probability .5')
    """
    if metric.endswith("@p>0.5"):
        return f"{metric[:3].upper()} at probability .5"
    if found := re.fullmatch(r"(tpr|fpr)@(0?\.\d+)", metric):
        return f"{'TPR' if found[1] == 'tpr' else 'Realised FPR'} at {100 * float(found[2]):g} % FPR"
    return METRICS.get(metric, upper(metric.replace("_", " ")))


def _grouped(entries: Iterable[Entry], cells: Callable[[Entry], list[Value]], width: int) -> list[Line]:
    lines: list[Line] = []
    group = None
    for entry in entries:
        if entry.group != group:
            group = entry.group
            lines.append(Line((Value(group.title), *[Value("")] * (width - 1)), heading=True, colour=group.colour))
        lines.append(Line((Value(entry.label), *cells(entry))))
    return lines


def _interval(cell: Cell | None) -> Value:
    if cell is None:
        return number(NONE)
    small = span(cell.lo, cell.hi) or " ".join(share(p) for p in cell.points)
    return number(share(cell.value), small)


def _population(sheet: Sheet, task: str, entries: Sequence[Entry], columns: Sequence[Column], sites: bool) -> Line:
    """n of every column, once; two numbers where methods differ, because some left rows unscored."""
    cells = [Value("Rows")] + [Value("")] * sites
    for column in columns:
        seen = [cell for e in entries if (cell := sheet.cell(task, e.method, e.site, column))]
        n, groups = ({count(c.n) for c in seen}, {count(c.n_groups) for c in seen})
        cells.append(number(" to ".join(sorted(n)), f"in {' to '.join(sorted(groups))} groups"))
    return Line(tuple(cells))
