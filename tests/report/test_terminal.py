"""What the command line prints is the run's own numbers, whole at any width, and readable without colour."""

import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from theodolite.core.run import Run
from theodolite.report import terminal
from theodolite.report.result import Result
from theodolite.report.sheet import Sheet

Build = Callable[..., Run]


@pytest.fixture
def run(build: Build, tmp_path: Path) -> Run:
    return build(tmp_path)


def wide(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """A terminal without colour of this width."""
    monkeypatch.setattr(terminal, "WIDE", columns)


def test_a_run_shows_verdict_numbers_counts_times_and_page(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show(SimpleNamespace(run=run))
    text = capsys.readouterr().out
    assert text.startswith("AUROC on jailbreak-wrapped (n = 412, at least 96 groups per class, 5 training sets)")
    assert "undecided (needs about 1,200 rows in 280 groups)" in " ".join(text.split())
    line = next(line for line in text.splitlines() if line.strip().startswith("Word n-grams"))
    assert line.split() == [
        "Word",
        "n-grams",
        ".934",
        "[.900,",
        ".968]",
        ".874",
        "[.840,",
        ".908]",
        ".654",
        "[.620,",
        ".688]",
        ".694",
        "[.660,",
        ".728]",
    ]
    assert "Counted: 17 truncated" in text
    assert "Time: reading the model 1 min 35 s, fitting 10 min 10 s" in text
    assert f"Report: {run.folder / 'report.html'}" in text.splitlines()


def test_a_run_that_another_version_made_says_so_before_anything_else(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run.made_with = "This run was made with torch 1.0; this is torch 2.0: --force runs it again."
    terminal.show(SimpleNamespace(run=run))
    assert capsys.readouterr().out.startswith("This run was made with torch 1.0; this is torch 2.0")
    assert "This run was made with torch 1.0" in repr(Result(run)).partition("AUROC on")[0]


def test_warnings_of_one_kind_are_added_up_and_say_what_they_are(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    notes = [{"kind": "sealed", "count": 1, "text": f"{name} was not opened"} for name in ("dev", "toxicchat")]
    run.manifest["notes"] += notes
    terminal.show(SimpleNamespace(run=run))
    said = " ".join(capsys.readouterr().out.split())
    assert "17 truncated: texts cut at 256 tokens. 2 sealed: dev was not opened; toxicchat was not opened" in said


def test_the_short_table_leaves_the_curve_to_the_page(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show(SimpleNamespace(run=run))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert not [line for line in lines if "(k = " in line]
    assert len([line for line in lines if line.startswith("K-sparse logistic  ")]) == 1


@pytest.mark.parametrize(("width", "shown"), [(60, 1), (80, 2), (100, 3), (120, 4)])
def test_columns_that_do_not_fit_are_left_out_whole(
    run: Run, width: int, shown: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wide(monkeypatch, width)
    terminal.show(SimpleNamespace(run=run))
    text = capsys.readouterr().out
    table = [line for line in text.splitlines() if line.strip().startswith("Logistic ")]
    assert [line.count("[") for line in table] == [shown] * len(table)
    assert "primary shift, pooled" in text
    assert ("within template" in text) == (shown >= 3)


def test_a_run_with_few_seeds_shows_them_instead_of_an_interval(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = [
        {
            "method": "logistic",
            "task": "matched",
            "dataset": "in-distribution",
            "metric": "auroc",
            "seed": s,
            "value": v,
        }
        for s, v in (("0", 0.75), ("1", 0.85))
    ]
    terminal.show(SimpleNamespace(run=build(tmp_path, only=seeds, verdict=None)))
    text = capsys.readouterr().out
    assert ".800 .750 .850" in text
    assert "nothing is decided" in text


def test_a_plan_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show(SimpleNamespace(lines=lambda: ["rows  [bold]1,748[/bold]", "minutes  21"]))
    assert capsys.readouterr().out == "rows  [bold]1,748[/bold]\nminutes  21\n"


def test_scores_go_whole_to_a_file_and_without_text_to_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = pd.DataFrame({"text": ["a secret", "b"], "method": "lat", "score": [0.25, math.nan]})
    terminal.show_scores(scores, None)
    assert capsys.readouterr().out == "row,method,score\n0,lat,0.25\n1,lat,\n"
    terminal.show_scores(scores, tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_text() == "text,method,score\na secret,lat,0.25\nb,lat,\n"
    assert capsys.readouterr().out == f"wrote 2 scores to {tmp_path / 's.csv'}\n"


def read(*tokens: tuple[str, float]) -> SimpleNamespace:
    about = {"score": 0.75, "probability": 0.625, "cut": 0, "selection": None, "blank": False}
    return SimpleNamespace(method="lat", tokens=list(tokens), **about)


def test_tokens_without_colour_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show_tokens(read(("How", 0.5), ("\n", math.nan), (" to [red]", -1.25)))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "+.500  'How'",
        "\N{EN DASH}  '\\n'",
        "\N{MINUS SIGN}1.250  ' to [red]'",
        "lat: +.750 for the whole text, probability .625",
        "Whether to accept it is not known: that needs a run made with --admit that includes this method.",
    ]


def test_tokens_in_colour_keep_the_text_and_name_the_strongest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    terminal.show_tokens(read(("How", 0.5), (" to", math.nan), (" [red]", -1.25)))
    text = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert text.splitlines()[0] == "How to [red]"
    assert "Strongest tokens: ' [red]' \N{MINUS SIGN}1.250, 'How' +.500" in text


def test_tokens_in_colour_are_as_strong_as_their_reading() -> None:
    full, half, none = (terminal._shade(strength).bgcolor for strength in (1.0, 0.5, 0.0))
    assert [tuple(colour.triplet or ()) for colour in (full, half, none) if colour] == [
        terminal.POSITIVE,
        (234, 174, 127),
        (255, 255, 255),
    ]
    negative = terminal._shade(-1.0).bgcolor
    assert negative is not None
    assert negative.triplet == terminal.NEGATIVE
    assert terminal._shade(math.nan).bgcolor is None


def test_laws_hold_only_when_there_are_some_and_all_hold(capsys: pytest.CaptureFixture[str]) -> None:
    kept = SimpleNamespace(law="columns may be rescaled", passed=True, message="not claimed (scale_free = False)")
    broken = SimpleNamespace(law="input is left alone", passed=False, message="fit changes its input")
    assert terminal.show_laws([kept, kept])
    assert not terminal.show_laws([kept, broken])
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "pass  columns may be rescaled: not claimed (scale_free = False)",
        "FAIL  input is left alone: fit changes its input",
        "1 of 2 laws hold",
    ]
    assert not terminal.show_laws([])


AUDIT = {
    "overviews": [
        {
            "name": "train",
            "n": 120,
            "n_positive": 30,
            "n_clusters": 100,
            "n_requests": 0,
            "n_templates": 0,
            "sources": {"forum": (90, 30)},
            "licence": "yours",
            "redistributable": True,
            "note": "",
            "lost": [{"dataset": "train", "cause": "duplicate", "n": 7}],
        },
    ],
    "baselines": [
        {
            "feature": "length",
            "fitted_on": "itself",
            "scored_on": "train",
            "auroc": 0.75,
            "lo": 0.625,
            "hi": 0.875,
            "n": 120,
            "n_groups": 100,
        },
    ],
    "shortcuts": {
        "n_candidates": 40,
        "n_permutations": 500,
        "n_rows": 100,
        "shortcuts": [
            {
                "kind": "term",
                "name": "[please]",
                "effect": 0.375,
                "z": 4.0,
                "p": 0.002,
                "share_positive": 0.5,
                "share_negative": 0.125,
                "n": 30,
            }
        ],
    },
}


def test_an_audit_shows_losses_baselines_and_shortcuts(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show_audit(SimpleNamespace(to_json=lambda: AUDIT))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["duplicate", "7"] in lines
    assert ["train", "itself", ".750", "[.625,", ".875]", *["\N{EN DASH}"] * 3, "120", "in", "100", "groups"] in lines
    assert ["term", "[please]", "+.375", "+4.0", ".002", ".500", ".125", "30"] in lines


def test_an_audit_shows_notes_as_they_are_and_no_word_of_hidden_data(capsys: pytest.CaptureFixture[str]) -> None:
    noted = AUDIT | {"overviews": [AUDIT["overviews"][0] | {"note": "[bold]base rate[/bold] .24"}]}
    terminal.show_audit(SimpleNamespace(to_json=lambda: noted), hidden=True)
    text = capsys.readouterr().out
    assert "train: [bold]base rate[/bold] .24" in text.splitlines()
    assert "[please]" not in text
    assert "not shown (--show-text shows it)" in text


def test_printing_a_few_lines_loads_no_heavy_library() -> None:
    heavy = {"torch", "transformers", "pandas", "matplotlib"}
    code = f"import sys, theodolite.report.terminal; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_headline_of_the_fixture_has_the_columns_these_tests_count(run: Run) -> None:
    assert [c.kind for c in Sheet(run).headline("matched")] == ["left-out", "left-out", "primary", "primary"]


def test_a_selected_reading_says_why_it_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    near = [SimpleNamespace(id="a", label=1, distance=0.5), SimpleNamespace(id="b", label=0, distance=2.25)]
    said = {"alpha": 0.9, "label": 1, "name": "harmful", "probability": 0.875, "exemplars": near}
    said |= {
        "threshold": 0.5,
        "delta": 0.1,
        "rule": "sdm in pls",
        "confidence": 0.75,
        "q": 3,
        "d": 0.25,
        "q_prime": 2.5,
    }
    said |= {"shifts": {"holds": 1, "fails": 1, "inconclusive": 1}}
    reading = read(("How", 0.5))
    for reason, words in (("", "accepted at 0.9"), ("far from the data", "rejected: far from the data")):
        reading.selection = SimpleNamespace(reason=reason, **said)
        terminal.show_tokens(reading)
        text = " ".join(capsys.readouterr().out.split())
        assert f"Label 1 (harmful), {words}. Calibrated probability of 1: .875." in text
        assert "Selection rule: sdm in pls, confidence 0.75, accepts from 0.5 on. Similarity q 3 " in text
        assert "distance quantile d .250 (0: farther than all of a class), q' 2.5." in text
        assert "With probability 0.9 over certify rows, of accepted texts like the run's own at least 0.9" in text
        assert "On the 3 shifts of the run that hold both labels, over all training sets: holds in 1, fails in" in text
        assert "0.5 label 1 a 2.25 label 0 b" in text
        assert "probability of 1: .875. 1 of the 2 nearest labelled texts have the other label." in text
    nothing = said | {"confidence": -math.inf, "threshold": math.inf, "shifts": {}}
    reading.selection = SimpleNamespace(reason="far from the data", **nothing)
    terminal.show_tokens(reading)
    text = " ".join(capsys.readouterr().out.split())
    assert "Selection rule: sdm in pls, no confidence, accepts nothing." in text
    assert "With probability" not in text
    assert "No accuracy of 0.9 could be certified." in text
    assert "The run made no claim about this method on other texts." in text


@pytest.mark.parametrize(
    ("shifts", "accepted"),
    [
        ({"fails": 3}, False),
        ({"fails": 1, "inconclusive": 2}, False),
        ({"fails": 1, "nothing accepted": 1}, False),
        ({"holds": 1, "fails": 2}, True),
        ({"inconclusive": 3}, True),
        ({}, True),
    ],
)
def test_a_certificate_that_failed_on_the_shifts_is_not_called_accepted(
    shifts: dict[str, int], accepted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    near = [SimpleNamespace(id=str(i), label=1, distance=0.5) for i in range(5)]
    terminal.show_selection(
        SimpleNamespace(
            alpha=0.9,
            label=1,
            name="harmful",
            probability=0.99,
            reason="",
            rule="sdm in pls",
            confidence=1.0,
            threshold=0.5,
            delta=0.1,
            q=5,
            d=0.5,
            q_prime=3.0,
            exemplars=near,
            shifts=shifts,
        ),
        None,
    )
    first = capsys.readouterr().out.splitlines()[0]
    assert ("accepted at 0.9" in first) == accepted
    assert ("holds on none of its" in first) == (not accepted)
    assert "other label" not in first


def test_a_text_of_unknown_words_is_no_reading(capsys: pytest.CaptureFixture[str]) -> None:
    reading = read()
    reading.blank = True
    terminal.show_tokens(reading)
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("lat: no reading. The text holds none of the n-grams that it learnt")
