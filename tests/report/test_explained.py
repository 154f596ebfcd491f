"""The section on the dictionary says outside its domain, undertrained or neither, and by which contrast."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted_run import PRIMARY, rows

from theodolite.core.run import Run
from theodolite.report import context, explained, html
from theodolite.report.blocks import Table, Text
from theodolite.report.sheet import Sheet

Build = Callable[..., Run]


def contrast(value: float, verdict: str) -> dict[str, Any]:
    numbers = {"value": value, "lo": value - 0.02, "hi": value + 0.02, "n": 412, "n_groups": 96}
    return {"dataset": "x", "method": "m", "than": "t", "verdict": verdict, "needs": {}, "primary": False} | numbers


def dataset(name: str, fvu: float, conclusion: str, **contrasts: dict[str, Any]) -> dict[str, Any]:
    return {"dataset": name, "fvu": fvu, "fvu_of": {"one": fvu}, "conclusion": conclusion, "contrasts": contrasts}


FAR = {"lost": contrast(-0.01, "undecided"), "missed": contrast(0.09, "better")}
FOUND: dict[str, Any] = {
    "outside_from": 0.5,
    "undertrained": True,
    "datasets": [
        dataset(PRIMARY, 0.62, "outside its domain", lost=contrast(-0.08, "worse"), missed=contrast(0.05, "better")),
        dataset("health", 0.31, "undertrained", lost=contrast(-0.06, "worse")),
        dataset("edgy", 0.2, "neither", lost=contrast(0.001, "equivalent")),
        dataset("toxicchat", 0.7, "outside its domain", **FAR),
        dataset("jailbreakbench", 0.2, "undecided"),
    ],
    "beside": [{"name": "text-only", "dataset": PRIMARY, "fvu": 0.41, "latents": contrast(0.03, "better")}],
}


def test_each_conclusion_names_its_data_sets_and_the_contrast_that_decides(build: Build, tmp_path: Path) -> None:
    outside, undertrained, neither, undecided = explained.sentences(Sheet(build(tmp_path, dictionary=FOUND)))
    assert outside.startswith("The dictionary is outside its domain on 2 of 5 data sets: jailbreak-wrapped (FVU .620; ")
    assert "reconstruction minus dense \N{MINUS SIGN}.080 [\N{MINUS SIGN}.100, \N{MINUS SIGN}.060], worse" in outside
    assert "toxicchat (FVU .700; error minus reconstruction +.090" in outside  # the contrast that was decided
    assert outside.endswith("So weak SAE rows there speak of this dictionary on these rows, not of SAEs.")
    assert "health (FVU .310; reconstruction minus dense" in undertrained
    assert "and its learning curve still fell" in undertrained
    assert neither.startswith("Neither outside its domain nor undertrained on 1 of 5 data sets: edgy (FVU .200;")
    assert "jailbreakbench (FVU .200; no reader of its reconstruction was run)" in undecided


def test_the_page_holds_every_number_of_it_and_other_dictionaries(build: Build, tmp_path: Path) -> None:
    shown = Sheet(build(tmp_path, dictionary=FOUND))
    section = context.dictionary(shown)
    mine, others = [b for b in section.blocks if isinstance(b, Table)][:2]
    cells = [[cell.words for cell in line.cells] for line in mine.lines]
    assert cells[0][0:2] == [PRIMARY, ".620"]
    assert cells[0][-1] == "outside its domain"
    assert cells[1][3:5] == ["not run", "not run"]
    assert [cell.words for cell in others.lines[0].cells] == ["text-only", PRIMARY, ".410", "+.030"]
    assert "The dictionary is outside its domain on 2 of 5 data sets" in html.page(shown.run)


@pytest.mark.parametrize("card", ["planted", None])
def test_a_run_without_conclusions_is_shown_as_before(build: Build, tmp_path: Path, card: str | None) -> None:
    shown = Sheet(build(tmp_path) if card else build(tmp_path, card=None))
    assert explained.blocks(shown) == []
    assert explained.sentences(shown) == []


def beside(*dictionaries: str) -> list[dict[str, Any]]:
    """Rows of readers of latents of further dictionaries, as those of the compared one."""
    same = [row for row in rows() if row["method"] == "logistic@latents"]
    return [row | {"method": f"logistic@latents [{name}]"} for name in dictionaries for row in same]


def test_a_dictionary_without_a_trained_control_says_what_stands_beside_it(build: Build, tmp_path: Path) -> None:
    kinds = ("random encoder", "permuted encoder", "random decoder")
    extra = beside(*(f"untrained {kind}" for kind in kinds), "untrained random encoder of topk-x", "text-only")
    shown = Sheet(build(tmp_path, card=None, extra=extra))
    said = [block.words for block in context.dictionary(shown).blocks if isinstance(block, Text)]
    assert said[1:] == [
        "No trained control exists for this dictionary; three untrained ones stand beside it: random encoder, permuted "
        "encoder, random decoder; they show what its width alone reads.",
        "No trained control exists for the dictionary topk-x; one untrained one stands beside it: random encoder; it "
        "shows what its width alone reads.",
    ]
    assert "No trained control exists for this dictionary" in html.page(shown.run)


def test_a_dictionary_with_its_control_says_nothing_of_untrained_ones(build: Build, tmp_path: Path) -> None:
    assert explained.untrained(Sheet(build(tmp_path, extra=beside("text-only")))) == []
