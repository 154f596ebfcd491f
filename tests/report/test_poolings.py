"""The page says what another pooling gives on the fixed contrasts, and how a pooling left open was chosen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted_run import PRIMARY

from theodolite.core.run import Run
from theodolite.report import findings, poolings
from theodolite.report.blocks import Table, Text
from theodolite.report.sheet import Sheet

Build = Callable[..., Run]


def part(reference: float, difference: float, verdict: str) -> dict[str, Any]:
    level = {
        "method": "logistic",
        "dataset": PRIMARY,
        "value": reference,
        "lo": reference - 0.02,
        "hi": reference + 0.02,
    }
    line = {
        "method": "difference_in_means",
        "than": "logistic",
        "dataset": PRIMARY,
        "value": difference,
        "lo": difference - 0.05,
        "hi": difference + 0.05,
        "n": 200,
        "n_groups": 90,
        "verdict": verdict,
        "needs": {},
        "primary": True,
    }
    return {"levels": [level], "contrasts": [line]}


FOUND = {
    "mean": part(0.64, -0.01, "undecided"),
    "last": part(0.76, -0.12, "worse"),
    "max": part(0.61, 0.0, "undecided"),
}
CHOSEN = {
    "chosen": {"positions": "content", "pooling": "mean"},
    "reader": "logistic(C=0.01)",
    "candidates": [
        {"positions": "content", "pooling": "mean", "log_loss": 0.31},
        {"positions": "content", "pooling": "last", "log_loss": 0.42},
    ],
}


@pytest.fixture(scope="module")
def sheet(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Sheet:
    return Sheet(build(tmp_path_factory.mktemp("poolings"), facts={"pooling": CHOSEN}, poolings=FOUND))


def test_the_sentence_gives_every_pooling_and_the_verdicts_that_differ(sheet: Sheet) -> None:
    said = poolings.sentence(sheet)
    assert "logistic on dense activations has AUROC .640 (mean over content tokens)" in said
    assert ".760 (last token), .610 (max over content tokens)" in said
    assert (
        "Verdicts that differ: difference in means on dense activations against logistic on dense activations is worse"
        in said
    )
    assert "max over content tokens." not in said.partition("Verdicts")[2]
    assert said in [block.words for block in findings.verdict(sheet).blocks if isinstance(block, Text)]


def test_the_table_has_a_column_per_pooling_and_the_candidates_stand_below(sheet: Sheet) -> None:
    others, candidates = poolings.blocks(sheet)
    assert isinstance(others, Table)
    assert isinstance(candidates, Table)
    assert [(v.words, v.small) for v in others.head[1:]] == [
        ("Mean over content tokens", "this run"),
        ("Last token", ""),
        ("Max over content tokens", ""),
    ]
    lines = {line.cells[0].words: [cell.words for cell in line.cells[1:]] for line in others.lines}
    assert lines["Difference in means on dense activations"] == ["−.010 undecided", "−.120 worse", ".000 undecided"]
    assert lines["AUROC of logistic on dense activations"] == [".640", ".760", ".610"]
    assert [[cell.words for cell in line.cells] for line in candidates.lines] == [
        ["content", "mean", ".310", "yes"],
        ["last token of all", "last", ".420", ""],
    ]
    assert "the lowest of 2 was taken" in candidates.caption
    assert {*others.lines, *candidates.lines}


def test_the_methods_paragraph_counts_the_candidates(sheet: Sheet) -> None:
    from theodolite.report import prose

    words = " ".join(block.words for block in prose.methods(sheet).blocks if isinstance(block, Text))
    assert "chosen among 2 candidates by the log loss of logistic(C=0.01) on out-of-fold training rows" in words


def test_a_run_without_other_poolings_says_nothing_of_them(run: Run) -> None:
    assert poolings.sentence(Sheet(run)) == ""
    assert poolings.blocks(Sheet(run)) == []


def test_last_is_called_the_last_token_whatever_the_positions(build: Build, tmp_path: Path) -> None:
    last = Sheet(build(tmp_path, recipe={"pooling": "last"}))
    assert dict(findings.subject(last))["Site"] == "blocks.17.resid_post, last token"
