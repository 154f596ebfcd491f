"""One run's numbers as a report shows them: which data sets, which methods, in which order, under which names.

The order is fixed by the recipe, never by the result, so that every table and figure lists the same methods in the
same place.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from theodolite.core.errors import UserError
from theodolite.core.run import IN_DISTRIBUTION, LEFT_OUT, Run
from theodolite.core.stats import FEWEST_SEEDS
from theodolite.core.verdict import MARGIN
from theodolite.report.names import DRAW, GROUPS, Group, group, words
from theodolite.report.numbers import missing, size, upper

POOLED, WITHIN = "auroc", "auroc_within_template"


@dataclass(frozen=True)
class Column:
    """A data set and metric, with what it is called."""

    dataset: str
    metric: str
    title: str
    subtitle: str
    kind: str  # left-out | mix | primary | shift


@dataclass(frozen=True)
class Entry:
    """One line of a table: a method, at the site where it was used."""

    method: str
    site: str
    group: Group
    label: str


@dataclass(frozen=True)
class Cell:
    """One number; `points` are its seeds where too few allow an interval."""

    value: float
    lo: float
    hi: float
    n: int
    n_groups: int
    points: tuple[float, ...] = ()


class Key(NamedTuple):
    """Place of a number: task, method, site, data set and metric."""

    task: str
    method: str
    site: str
    dataset: str
    metric: str


def open_finished(folder: str | Path) -> Run:
    """The run in `folder`, with all its numbers: what every report starts from."""
    run = Run.open(folder)
    if not run.finished:
        command = f" ({run.manifest['command']})" if run.manifest["command"] else ""
        raise UserError(f"the run in {str(folder)!r} is unfinished: the same compare command continues it{command}")
    return run


class Sheet:
    """The rows of a finished run, ordered and named.

    The draws of a random control are shown as one method: their mean, with the range over draws as the interval.
    """

    def __init__(self, run: Run, *, show_text: bool = False) -> None:
        assert run.finished, "open_finished refuses what has no numbers yet"
        self.run = run
        self.show_text = show_text
        self.rows = _draws_together(run.rows)
        self._cells = _cells(self.rows)

    @property
    def reference(self) -> str:
        """The method that the recipe's contrasts are measured against."""
        against = [contrast["than"] for contrast in self.run.recipe.get("contrasts", [])]
        return max(against, key=against.count) if against else "logistic"

    @property
    def decided_on(self) -> str:
        """The data set on which the recipe's contrasts are decided."""
        return str(self.run.recipe.get("primary") or IN_DISTRIBUTION)

    @property
    def margin(self) -> float:
        """Differences in AUROC up to this size count as equivalent."""
        return float(self.run.facts.get("protocol", {}).get("margin", MARGIN))

    @property
    def few_training_sets(self) -> bool:
        """Return whether there are too few training sets for an interval between them."""
        return (self.run.recipe.get("seeds") or FEWEST_SEEDS) < FEWEST_SEEDS

    @property
    def figures(self) -> str:
        """Content of a table's cell: a figure and its interval, or the training sets where they are too few."""
        return "AUROC, mean and each training set" if self.few_training_sets else "AUROC [95 % interval]"

    def way(self, pooling: str | None, positions: str | None) -> str:
        """Write how a text's tokens become one row; `last` is the last token of all, whatever the positions."""
        return "last token" if pooling == "last" else f"{pooling} over {positions} tokens"

    def whiskers(self, ends: Iterable[tuple[float | None, float | None]], points: bool = False) -> str:
        """Write what the lines beside a figure's points mean in this run, from the ends that it has.

        points: the figure shows single training sets as ticks where a number has no interval.
        """
        known = [not missing(lo) and not missing(hi) for lo, hi in ends]
        said = "Lines: 95 % intervals over training sets and test rows." if any(known) else "No intervals are drawn"
        if not any(known):
            few = f": {self.run.recipe.get('seeds')} training sets are too few for one."
            said += few if self.few_training_sets else "."
        return said + (" Ticks: single training sets, where there is no interval." if points else "")

    @property
    def several_sources(self) -> bool:
        """Return whether the training mix has more than one source, so that telling sources apart may be enough."""
        if self.run.facts.get("from_arrays"):
            return False
        overviews = (self.run.read_json("audit") or {}).get("overviews") or [{}]
        return len(overviews[0].get("sources") or ["", ""]) > 1

    def columns(self, task: str, metric: str = POOLED) -> list[Column]:
        """Data sets scored in a task: left-out sources, the mix, the primary shift (pooled, within), other shifts."""
        found = list(dict.fromkeys(key.dataset for key in self._cells if (key.task, key.metric) == (task, metric)))
        order = ["left-out", "mix", "primary", "shift"]
        place = {name: at for at, name in enumerate(dict.fromkeys([*self.run.recipe.get("shifts", {}), *found]))}
        found.sort(key=lambda d: (order.index(self._kind(d)), place[d]))
        columns = [self.column(dataset, metric) for dataset in found]
        within = [key.dataset for key in self._cells if (key.task, key.metric) == (task, WITHIN)]
        for at, column in reversed(list(enumerate(columns))):
            if column.kind == "primary" and metric == POOLED and column.dataset in within:
                columns.insert(at + 1, self.column(column.dataset, WITHIN))
        return columns

    def column(self, dataset: str, metric: str = POOLED) -> Column:
        """Return the name of a data set here, and the role in which it stands."""
        kind = self._kind(dataset)
        title = {
            "left-out": dataset.removeprefix(LEFT_OUT),
            "mix": "Training mix" if self.several_sources else "Same file",
        }.get(kind, dataset)
        mix = "source recognition" if self.several_sources else "rows kept for testing"
        subtitle = {"left-out": "left-out source", "mix": mix, "shift": "shift"}.get(kind, "primary shift")
        if metric == WITHIN:
            subtitle = "within template"
        elif kind == "primary" and WITHIN in set(self.rows["metric"]):
            subtitle = "primary shift, pooled"
        return Column(dataset, metric, title, subtitle, kind)

    def headline(self, task: str) -> list[Column]:
        """Return columns of a short table: the left-out sources (else the mix), the primary shift (else the first)."""
        columns = self.columns(task)
        inside = [c for c in columns if c.kind == "left-out"] or [c for c in columns if c.kind == "mix"]
        outside = [c for c in columns if c.kind == "primary"] or [c for c in columns if c.kind == "shift"][:1]
        return inside + outside

    def entries(self, task: str, columns: Sequence[Column] | None = None) -> list[Entry]:
        """Methods of a task that have a number in any of the columns, grouped by what they look at."""
        wanted = None if columns is None else {(c.dataset, c.metric) for c in columns}
        keys = [
            key for key in self._cells if key.task == task and (wanted is None or (key.dataset, key.metric) in wanted)
        ]
        entries = [
            Entry(m, site, self.group(m), self.label(m)) for m, site in dict.fromkeys((k.method, k.site) for k in keys)
        ]
        order = self._order()
        return sorted(entries, key=lambda e: (GROUPS.index(e.group), order.get(e.method, len(order))))

    def cell(self, task: str, method: str, site: str, column: Column) -> Cell | None:
        """The aggregated number of a method on a data set; None when the run has none."""
        return self._cells.get(Key(task, method, site, column.dataset, column.metric))

    def group(self, method: str) -> Group:
        """Return what a method looks at: the run's own word (`facts["views"]`), else the part behind the @."""
        return group(method, self.run.facts.get("views", {}).get(method, ""))

    def label(self, method: str) -> str:
        """A method's name as the first word of a line; what it looks at is said by its group."""
        return upper(self._words(method))

    def phrase(self, method: str) -> str:
        """A method's name inside a sentence, with what it looks at."""
        looks_at = self.group(method).phrase
        return f"{self._words(method)} on {looks_at}" if looks_at else self._words(method)

    def _words(self, method: str) -> str:
        return words(method, size((self.run.facts.get("model") or {}).get("parameters")))

    def _order(self) -> dict[str, int]:
        listed = [*self.run.recipe.get("methods", []), *self.rows["method"]]
        return {method: at for at, method in enumerate(dict.fromkeys(listed))}

    def _kind(self, dataset: str) -> str:
        if dataset.startswith(LEFT_OUT):
            return "left-out"
        return (
            "mix" if dataset == IN_DISTRIBUTION else "primary" if dataset == self.run.recipe.get("primary") else "shift"
        )


def _cells(rows: pd.DataFrame) -> dict[Key, Cell]:
    """Every number by its place."""
    places: dict[Key, list[Any]] = {}
    for row in rows[rows["task"] != "contrast"].itertuples():
        key = Key(str(row.task), str(row.method), str(row.site), str(row.dataset), str(row.metric))
        places.setdefault(key, []).append(row)
    return {key: _cell(same) for key, same in places.items()}


def _cell(rows: Sequence[Any]) -> Cell:
    """The row of seed "all"; single seeds are points where it has no interval, and their mean where it is missing."""
    seeds = tuple(float(row.value) for row in rows if row.seed != "all" and np.isfinite(row.value))
    whole = next((row for row in rows if row.seed == "all"), None)
    if whole is None:
        return Cell(float(np.mean(seeds)) if seeds else np.nan, np.nan, np.nan, rows[0].n, rows[0].n_groups, seeds)
    silent = not np.isfinite([whole.lo, whole.hi]).any() and len(seeds) > 1 and set(seeds) == {float(whole.value)}
    if whole.lo == whole.hi or silent:
        # a constant (the majority's score) is what it is: nothing was estimated, and its seeds tell nothing more
        return Cell(float(whole.value), np.nan, np.nan, whole.n, whole.n_groups)
    points = () if np.isfinite([whole.lo, whole.hi]).all() else seeds
    return Cell(float(whole.value), float(whole.lo), float(whole.hi), whole.n, whole.n_groups, points)


def _draws_together(rows: pd.DataFrame) -> pd.DataFrame:
    drawn = rows["method"].str.fullmatch(DRAW)
    if not drawn.any():
        return rows
    parts = rows[drawn].copy()
    parts["method"] = parts["method"].str.replace(r"\(.*\)", "", regex=True)
    same = ["method", "task", "site", "seed", "dataset", "metric", "versus"]
    pooled = [_pooled(part) for _, part in parts.groupby(same, sort=False)]
    return pd.concat([rows[~drawn], pd.DataFrame(pooled)], ignore_index=True)


def _pooled(part: pd.DataFrame) -> dict[str, Any]:
    values = part["value"]
    sums = {name: part[name].sum() for name in ("n_fits", "seconds")}
    return {**part.iloc[0], **sums, "value": values.mean(), "lo": values.min(), "hi": values.max()}
