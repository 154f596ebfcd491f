"""A finished run in Python, as `theodolite.compare` returns it: its table, figures and LaTeX one call away."""

from functools import cached_property
from html import escape
from pathlib import Path

import pandas as pd

from theodolite.core.errors import UserError, unknown
from theodolite.core.recipe import COMPARE
from theodolite.core.run import Run
from theodolite.report import html, tables
from theodolite.report.answers import Answer, answers_of
from theodolite.report.blocks import Table
from theodolite.report.chart import Chart
from theodolite.report.latex import latex
from theodolite.report.pages import kind_of, page_of, require_comparison
from theodolite.report.plots import plot
from theodolite.report.sheet import Sheet, open_finished
from theodolite.report.verdict_words import sentence

TABLES = ("matched", "free", "blocks")


class Result:
    """A finished run in Python; everything comes from the files in `folder`, and the model is not needed.

    `rows`, `scores` and `notes` exist for runs of every kind; tables and figures are those of its kind.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.folder = run.folder
        self._page = None if kind_of(run) == COMPARE else page_of(run)  # of another kind than a comparison

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Every number with its interval, n and cost: the columns of rows.csv."""
        return self.run.rows

    @property
    def frame(self) -> pd.DataFrame:
        """AUROC of each method at the matched site on each data set, as numbers: value, interval, rows and groups.

        One row per method and data set, over all training sets; lo and hi are NaN where no interval can be given.

        >>> run.frame.pivot(index="method", columns="dataset", values="value")  # doctest: +SKIP
        """
        rows = self.rows
        wanted = (rows["task"] == "matched") & (rows["metric"] == "auroc") & (rows["seed"].astype(str) == "all")
        columns = ["method", "site", "dataset", "value", "lo", "hi", "n", "n_groups", "n_unscored"]
        return rows.loc[wanted, columns].reset_index(drop=True)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Every method's score of every text, by content hash."""
        return self.run.scores

    @property
    def notes(self) -> list[dict[str, object]]:
        """Notes of everything that was cut, dropped or left unscored, and how often."""
        return self.run.notes

    def answers(self) -> list[Answer]:
        """Return the plain answers that open the report, each with its word, figure, interval and n.

        >>> [str(answer) for answer in run.answers()]  # doctest: +SKIP
        """
        return answers_of(self.run) if self._page is None else []

    def table(self, task: str | None = None) -> pd.DataFrame:
        """Return a table as written in the report; of a comparison methods by data sets, AUROC and interval.

        task: of a comparison `matched` (default), `free` or `blocks`; numbers to compute with are in `frame`.
        """
        if self._page is not None:
            return _frame(self._page.table(self.run, task))
        task = task or TABLES[0]
        self._check(task)
        lines = tables.auroc(self._sheet, task, self._sheet.columns(task), "")
        group, index, cells = "", [], []
        for line in lines.lines:
            group = line.cells[0].words if line.heading else group
            if not line.heading:
                index.append((group, line.cells[0].words))
                cells.append([f"{value.words} {value.small}".rstrip() for value in line.cells[1:]])
        names = [(value.words, value.small) for value in lines.head[1:]]
        columns = pd.MultiIndex.from_tuples(names, names=["data set", "role"])
        return pd.DataFrame(cells, pd.MultiIndex.from_tuples(index, names=["looks at", "method"]), columns)

    def plot(self, kind: str | None = None) -> Chart:
        """A matplotlib figure; of a comparison "forest" (default), "sites" or "k-sparse"."""
        return self._page.chart(self.run, kind) if self._page else plot(self._sheet, kind or "forest")

    def to_latex(self, task: str = "matched") -> str:
        """Headline table and contrasts of a comparison for a paper (booktabs)."""
        require_comparison(self.run, "LaTeX")
        self._check(task)
        return latex(self._sheet, task)

    def report(self, path: str | Path | None = None, *, show_text: bool = False) -> Path:
        """Write the page again, by default as report.html in the run's folder."""
        return html.write(self.run, path, show_text=show_text)

    def _check(self, task: str) -> None:
        if task not in TABLES:
            raise unknown("task", task, TABLES)
        if not self._sheet.entries(task):
            raise UserError(f"this run has no numbers for the {task!r} table")

    @cached_property
    def _sheet(self) -> Sheet:
        return Sheet(self.run)

    def _repr_html_(self) -> str:
        return f"<p>{escape(self._page.sentence(self.run))}</p>" if self._page else html.fragment(self._sheet)

    def __repr__(self) -> str:
        said = f"{self.run.made_with} " if self.run.made_with else ""
        result = self._page.sentence(self.run) if self._page else sentence(self._sheet)
        return f"Result({str(self.folder)!r}): {said}{result}"


def _frame(table: Table) -> pd.DataFrame:
    """Return a table's cells as words, each with its small second line; headings of groups are left out."""
    cells = [[f"{cell.words} {cell.small}".rstrip() for cell in line.cells] for line in table.lines if not line.heading]
    return pd.DataFrame(cells, columns=[head.words for head in table.head])


def open_run(folder: str | Path) -> Result:
    """A finished Run folder, to look at or to compute with."""
    return Result(open_finished(folder))
