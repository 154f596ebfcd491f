"""Progress that nobody asked for is shown where a person looks on, and nowhere else."""

import sys
from types import SimpleNamespace

import pytest

from theodolite.core.tick import silent
from theodolite.report.automatic import automatic, in_ipython
from theodolite.report.progress import Display


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
