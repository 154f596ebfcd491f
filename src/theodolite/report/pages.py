"""Pages of Runs by the kind of their recipe: ours, and those of installed packages."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from theodolite.core.errors import UserError, unknown
from theodolite.core.installed import entry_points
from theodolite.core.recipe import COMPARE
from theodolite.core.run import Run

if TYPE_CHECKING:  # matplotlib takes a second
    from theodolite.report.blocks import Block, Section, Table
    from theodolite.report.chart import Chart

GROUP = "theodolite.pages"  # entry points of other packages, each named as its kind; its value is `module:name`
OWN = {
    COMPARE: "theodolite.report.comparison_page:PAGE",
    "steer": "theodolite.report.steer_page:PAGE",
    "debate": "theodolite.report.debate_page:PAGE",
}


@dataclass(frozen=True)
class Page:
    """Content of a report on the Runs of one kind; everything is made from the files of the Run.

    sections: the page's, called with a Run and whether texts may be shown. title: its heading. sentence: the result in
    one sentence, which stands for the Run in Python. summary: paragraphs and tables that the terminal prints below it.
    tables, charts: by name, each called with a Run; a chart is None where the Run has no numbers for it.
    """

    sections: "Callable[[Run, bool], Sequence[Section]]"
    title: Callable[[Run], str]
    sentence: Callable[[Run], str]
    summary: "Callable[[Run], Sequence[Block]]" = lambda run: ()
    tables: "Mapping[str, Callable[[Run], Table]]" = field(default_factory=dict)
    charts: "Mapping[str, Callable[[Run], Chart | None]]" = field(default_factory=dict)

    def table(self, run: Run, name: str | None = None) -> "Table":
        """Return a table by its name, by default the first."""
        return self.tables[_named("table", name, self.tables, run)](run)

    def chart(self, run: Run, name: str | None = None) -> "Chart":
        """Return a figure by its name, by default the first."""
        name = _named("plot", name, self.charts, run)
        if (chart := self.charts[name](run)) is None:
            raise UserError(f"this run has no numbers for the {name!r} plot")
        return chart


class Pages(Mapping[str, Page]):
    """Pages by kind of recipe, each imported on first use.

    >>> "compare" in Pages()
    True
    """

    def __getitem__(self, kind: str) -> Page:
        if kind not in self._places():
            raise unknown("kind of run", kind, self._places())
        module, _, name = self._places()[kind].partition(":")
        page: Page = getattr(import_module(module), name)
        return page

    def __iter__(self) -> Iterator[str]:
        return iter(self._places())

    def __len__(self) -> int:
        return len(self._places())

    def _places(self) -> dict[str, str]:
        # An installed package says where its page is; a Run names only its kind, so no Run names code that is run.
        return {entry.name: entry.value for entry in entry_points(group=GROUP)} | OWN


def kind_of(run: Run) -> str:
    """Return the kind of a Run's recipe; Runs from before there were kinds are comparisons."""
    return str(run.recipe.get("kind", COMPARE))


def page_of(run: Run) -> Page:
    """Return the page for Runs of this one's kind."""
    return Pages()[kind_of(run)]


def require_comparison(run: Run, what: str) -> None:
    """Refuse a Run of another kind where `what` exists for comparisons alone."""
    if kind_of(run) != COMPARE:
        raise UserError(f"{what} exists for runs of kind {COMPARE!r} only, and {str(run.folder)!r} is {kind_of(run)!r}")


def _named(what: str, name: str | None, known: Mapping[str, object], run: Run) -> str:
    if not known:
        raise UserError(f"runs of kind {kind_of(run)!r} have no {what}; their numbers are in rows.csv")
    if name is None:
        return next(iter(known))
    if name not in known:
        raise unknown(what, name, known)
    return name
