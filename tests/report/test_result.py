"""What Python gets back: the run's own rows, and the report's table, figures and LaTeX."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from planted_run import PRIMARY, RECIPE, row

from theodolite.core.errors import UserError
from theodolite.core.run import Run
from theodolite.report.result import Result, open_run


def test_rows_and_scores_are_the_runs(run: Run) -> None:
    result = Result(run)
    pd.testing.assert_frame_equal(result.rows, run.rows)
    pd.testing.assert_frame_equal(result.scores, run.scores)
    assert "text" not in result.scores
    assert result.notes == [{"kind": "truncated", "count": 17, "text": "texts cut at 256 tokens"}]


def test_table_is_methods_by_data_sets(run: Run) -> None:
    table = open_run(run.folder).table()
    assert table.loc[("Dense activations", "Logistic"), (PRIMARY, "within template")] == ".851 [.817, .885]"
    assert (
        open_run(run.folder).table("free").loc[("Text alone", "Word n-grams"), ("health", "shift")]
        == ".845 [.811, .879]"
    )


def test_frame_is_the_table_in_numbers(run: Run) -> None:
    result = open_run(run.folder)
    frame = result.frame
    assert not frame.duplicated(["method", "site", "dataset"]).any()
    found = frame[(frame["method"] == "word_ngrams") & (frame["dataset"] == "health")].iloc[0]
    wanted = result.table().loc[("Text alone", "Word n-grams"), ("health", "shift")]
    assert wanted == "{:.3f} [{:.3f}, {:.3f}]".format(*found[["value", "lo", "hi"]]).replace("0.", ".")
    assert frame.pivot(index="method", columns="dataset", values="value").notna().any(axis=None)


def test_plots_and_latex_are_the_reports(run: Run) -> None:
    result = Result(run)
    assert result.plot("k-sparse").alt.startswith("AUROC by number of latents")
    assert r"\toprule" in result.to_latex()
    with pytest.raises(UserError, match="unknown plot"):
        result.plot("pie")


def test_notebooks_show_verdict_and_headline_and_it_is_escaped(build: Callable[..., Run], tmp_path: Path) -> None:
    verdict = {"contrasts": [], "read": {"columns": "<script>alert(1)</script>"}}
    html = Result(build(tmp_path, only=[row("logistic", PRIMARY)], verdict=verdict))._repr_html_()
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert ".811" in html
    assert "worse" in repr(Result(build(tmp_path / "other", only=[row("logistic", PRIMARY)])))


def test_report_can_be_written_again(build: Callable[..., Run], tmp_path: Path) -> None:
    path = Result(build(tmp_path / "run", only=[row("logistic", PRIMARY)])).report(tmp_path / "again.html")
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_an_unfinished_run_is_not_opened_and_the_message_says_what_continues_it(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "half", RECIPE, "e" * 64, command="theodolite compare planted")
    said = r"half' is unfinished: the same compare command continues it \(theodolite compare planted\)"
    with pytest.raises(UserError, match=said):
        open_run(run.folder)


@pytest.mark.parametrize("call", ["table", "to_latex"])
def test_a_misspelt_task_is_named(run: Run, call: str) -> None:
    with pytest.raises(UserError, match="unknown task 'mached': did you mean 'matched'"):
        getattr(Result(run), call)("mached")


def test_a_table_without_numbers_is_said_to_be_missing(build: Callable[..., Run], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no numbers for the 'free' table"):
        Result(build(tmp_path, only=[row("logistic", PRIMARY)])).table("free")
