"""What stands beside the verdict: every contrast on every data set, the text alone, easy data sets, what lines are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted_run import LOSS, PRIMARY, VERDICT, row

from theodolite.core.run import IN_DISTRIBUTION, Run
from theodolite.report import baselines, everywhere, findings
from theodolite.report.blocks import Figure, Fold, Table, Text
from theodolite.report.chart import GREY
from theodolite.report.forest import forest
from theodolite.report.sheet import Sheet

Build = Callable[..., Run]


def line(method: str, than: str, dataset: str, value: float, verdict: str, primary: bool = False) -> dict[str, Any]:
    return {
        "method": method,
        "than": than,
        "dataset": dataset,
        "metric": "auroc",
        "primary": primary,
        "value": value,
        "lo": value - 0.05,
        "hi": value + 0.05,
        "n": 200,
        "n_groups": 100,
        "verdict": verdict,
        "needs": {},
    }


EVERYWHERE = [
    line("difference_in_means", "logistic", PRIMARY, -0.008, "undecided", primary=True),
    line("difference_in_means", "logistic", "jailbreakbench", -0.07, "worse"),
    line("logistic", "char_ngrams", PRIMARY, -0.001, "undecided"),
    line("logistic", "char_ngrams", "jailbreakbench", 0.149, "better"),
    line("logistic", "char_ngrams", "health", 0.001, "equivalent"),
]
TEXT = {
    "chosen": {"": "logistic"},
    "text_only": ["char_ngrams", "sentence"],
    "easy_from": 0.7,
    "text": [
        line("logistic", "sentence", PRIMARY, -0.101, "worse")
        | {"n_text": 2, "p_adjusted": 0.012, "level": 0.64, "than_level": 0.741},
        line("logistic", "char_ngrams", "jailbreakbench", 0.149, "better")
        | {"n_text": 2, "p_adjusted": 0.0001, "level": 0.86, "than_level": 0.711},
    ],
    "random": [
        {"dataset": PRIMARY, "draws": 10, "lo": 0.5, "hi": 0.62, "best": "logistic", "easy": False},
        {"dataset": "health", "draws": 10, "lo": 0.55, "hi": 0.89, "best": "logistic", "easy": True},
    ],
}


@pytest.fixture(scope="module")
def sheet(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Sheet:
    verdict = VERDICT | {"everywhere": EVERYWHERE}
    return Sheet(build(tmp_path_factory.mktemp("beside"), verdict=verdict, baselines=TEXT))


def test_the_strongest_text_is_named_with_its_contrast_and_how_both_were_chosen(sheet: Sheet) -> None:
    said = baselines.text_alone(sheet)
    assert "MiniLM embedding, logistic (AUROC .741), the highest of 2 text-only methods" in said
    assert "lowest cross-validated log loss on training rows is logistic on dense activations (.640)" in said
    assert "−.101 [−.151, −.051] (worse, p = .012 adjusted for that choice)" in said


def test_what_is_decided_elsewhere_is_said_in_one_sentence(sheet: Sheet) -> None:
    said = baselines.elsewhere(sheet)
    assert said.startswith("On the other data sets 2 of 3 contrasts show a difference")
    better = "logistic on dense activations is better than character n-grams on jailbreakbench (+.149 [+.099, +.199])"
    assert said.index(better) < said.index("difference in means"), "the largest first"
    assert PRIMARY not in said
    assert "(fewer than one would by chance alone)" in said  # .05 * 3


def test_a_set_that_chance_reads_is_called_easy_and_no_other(sheet: Sheet) -> None:
    said = baselines.easy(sheet)
    assert said.startswith("Easy: health (.550 to .890).")
    assert PRIMARY not in said


def test_the_verdict_carries_all_three_and_the_terminal_too(sheet: Sheet, capsys: pytest.CaptureFixture[str]) -> None:
    from theodolite.report.result import Result
    from theodolite.report.terminal import show

    blocks = findings.verdict(sheet).blocks
    words = [block.words for block in blocks if isinstance(block, Text)]
    folded = [inner for fold in blocks if isinstance(fold, Fold) for inner in fold.blocks]
    text_alone, elsewhere, easy = baselines.sentences(sheet)
    assert words[1:3] == [text_alone, easy]
    assert Text(elsewhere) in folded, "decisions on other data sets are exploratory"
    show(Result(sheet.run))
    assert "Easy: health" in capsys.readouterr().out


def test_every_contrast_stands_in_the_figure_by_shape_and_colour(sheet: Sheet) -> None:
    figure, table, note = everywhere.blocks(sheet)
    assert isinstance(figure, Figure)
    panels = [axes for axes in figure.chart.axes if axes.get_xlabel()]
    order = [text.get_text() for axes in panels for text in axes.texts if text.get_text() in LOSS]
    assert order == [PRIMARY, "jailbreakbench", "health"]
    drawn = [
        (float(mark.get_xdata()[0]), float(mark.get_ydata()[0]), mark.get_marker(), mark.get_color())
        for mark in panels[1].lines
        if mark.get_marker() not in {"None", "", None} and len(mark.get_xdata())
    ]
    assert drawn == [(-0.07, 0, "v", "#D55E00"), (0.149, 1, "^", "#0072B2"), (0.149, 2, "^", "#0072B2")]
    hollow = [mark for mark in panels[0].lines if mark.get_marker() == "o"]
    assert {(mark.get_color(), mark.get_markerfacecolor()) for mark in hollow if len(mark.get_xdata())} == {
        (GREY, "white")
    }
    assert len({marker for marker, _ in everywhere.LOOKS.values()}) == len(everywhere.LOOKS)
    assert len({colour for _, colour in everywhere.LOOKS.values()}) == len(everywhere.LOOKS)
    assert isinstance(table, Table)
    assert isinstance(note, Text)
    assert note.words.startswith("1 contrast was fixed as primary")


def test_the_table_behind_it_holds_the_same_numbers_with_n_and_random_directions(sheet: Sheet) -> None:
    table = everywhere.blocks(sheet)[1]
    assert isinstance(table, Table)
    lines = {line.cells[0].words: line.cells for line in table.lines}
    assert [cell.words for cell in table.head] == ["Difference in AUROC", PRIMARY, "jailbreakbench", "health"]
    assert lines["Logistic on dense activations"][2].words == "+.149 better"
    assert lines["Logistic on dense activations"][2].small == "[+.099, +.199]"
    assert lines["Random directions, AUROC"][3].words == ".550 to .890"
    assert lines["Random directions, AUROC"][3].small == "easy"
    assert lines["that text-only method"][1].words == "MiniLM embedding, logistic"
    assert (lines["Rows"][1].words, lines["Rows"][1].small) == ("200", "in 100 groups")


def test_one_data_set_needs_no_figure_of_all(build: Build, tmp_path: Path) -> None:
    verdict = VERDICT | {"everywhere": EVERYWHERE[:1]}
    assert everywhere.blocks(Sheet(build(tmp_path, verdict=verdict))) == []


def test_without_text_only_methods_the_page_says_so(build: Build, tmp_path: Path) -> None:
    found = TEXT | {"text_only": [], "text": []}
    assert baselines.text_alone(Sheet(build(tmp_path, baselines=found))).startswith("No text-only method was run")


def test_the_band_of_random_directions_lies_behind_the_methods(sheet: Sheet) -> None:
    (column,) = [c for c in sheet.columns("matched") if c.dataset == "health"]
    chart = forest(sheet, [column])
    assert chart is not None
    (band,) = chart.axes[0].patches
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((0.55, 0.89))
    assert "Grey band: random directions" in findings._read_as(sheet, [column])


def test_a_caption_says_what_the_lines_are_in_this_run(build: Build, tmp_path: Path) -> None:
    nan = float("nan")
    full = Sheet(build(tmp_path / "a", only=[row("logistic", PRIMARY)]))
    assert "Lines: 95 % intervals over training sets and test rows." in findings._read_as(full, full.columns("matched"))
    few = [row("logistic", PRIMARY, lo=nan, hi=nan)]
    few += [row("logistic", PRIMARY, seed=str(s), value=0.7 + s / 10, lo=nan, hi=nan) for s in range(2)]
    two = Sheet(build(tmp_path / "b", only=few, recipe={"seeds": 2}))
    said = findings._read_as(two, two.columns("matched"))
    assert said.startswith("No intervals are drawn: 2 training sets are too few for one. Ticks: single training sets")


def test_the_majority_has_no_interval_and_no_ticks(build: Build, tmp_path: Path) -> None:
    same = {"value": 0.5, "lo": 0.5, "hi": 0.5}
    rows = [row("majority", IN_DISTRIBUTION, **same), row("majority", IN_DISTRIBUTION, seed="0", **same)]
    sheet = Sheet(build(tmp_path, only=rows))
    cell = sheet.cell("matched", "majority", "blocks.17.resid_post", sheet.columns("matched")[0])
    assert cell is not None
    assert cell.value == 0.5
    assert np.isnan([cell.lo, cell.hi]).all()
    assert cell.points == ()
