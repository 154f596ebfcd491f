"""Progress that nobody asked for is shown where a person looks on, and nowhere else."""

import sys
from types import SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient

from theodolite.core.tick import silent
from theodolite.report.automatic import automatic, in_ipython
from theodolite.report.progress import Cell, Display


def test_a_script_or_pipe_hears_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with automatic(None) as tell:
        tell("fitting", 1, 2)
    assert tell is silent
    assert capfd.readouterr().err == ""


def test_a_terminal_gets_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with automatic(None) as tell:
        assert isinstance(tell, Display)


@pytest.mark.parametrize(("running", "shown"), [(object(), True), (None, False)])
def test_ipython_gets_a_display_only_where_it_runs(
    running: object, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another library may have imported IPython into a plain script."""
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: running))
    assert in_ipython() is shown
    with automatic(None) as tell:
        assert isinstance(tell, Display) is shown


def test_the_callers_own_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with automatic(print) as tell:
        assert tell is print


NOTEBOOK = """
from theodolite.report.automatic import automatic
with automatic(None) as tell:
    for stage in ("reading", "fitting"):
        for done in range(5001):
            tell(stage, done, 5000)
"""


def test_a_notebook_gets_one_output_that_is_written_anew() -> None:
    """The cell's output stays short however many units there are."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(NOTEBOOK)])
    NotebookClient(book, timeout=120).execute()
    (only,) = book.cells[0].outputs
    assert only.output_type == "display_data"
    lines = only.data["text/plain"].splitlines()
    assert [line.partition(":")[0] for line in lines] == ["reading", "fitting"]


def test_a_stage_under_way_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    cell = Cell(iter(range(1000)).__next__)
    handle = SimpleNamespace(update=lambda data, raw: drawn.append(data["text/plain"]))
    monkeypatch.setattr(cell, "handle", handle)
    cell("fitting <a>", 3, 12)
    assert drawn[-1].startswith("fitting <a> " + "█" * 6 + "░" * 18 + " 3/12, ")
    cell.end()
    assert drawn[-1].startswith("fitting <a>: ")
