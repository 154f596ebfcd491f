"""The verdict's sentence, its notes and what a contrast needs are written from facts, each in its own words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted_run import PRIMARY, VERDICT, contrast, row

from theodolite.core.run import IN_DISTRIBUTION, Run
from theodolite.core.verdict import Needs
from theodolite.report.needs import needs_words
from theodolite.report.sheet import Sheet
from theodolite.report.verdict_words import note, notes, sentence, subject

Build = Callable[..., Run]


def shown(build: Build, folder: Path, verdict: dict[str, Any] | None) -> Sheet:
    return Sheet(build(folder, only=[row("logistic", PRIMARY)], verdict=verdict))


@pytest.fixture(scope="module")
def sheet(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Sheet:
    return shown(build, tmp_path_factory.mktemp("run"), VERDICT)


def test_the_sentence_names_rows_subject_levels_and_words(sheet: Sheet) -> None:
    said = sentence(sheet)
    assert said.startswith(
        "AUROC on jailbreak-wrapped (n = 412, at least 96 groups per class, 5 training sets), reading "
        "blocks.17.resid_post of smollm2-135m-instruct (135M, dequantised Q4_1; one dictionary of 4096 latents trained "
        "on 2.0M tokens): k-sparse logistic on SAE latents (.781) is worse than logistic on dense activations (.811; "
        "difference \N{MINUS SIGN}.034 [\N{MINUS SIGN}.054, \N{MINUS SIGN}.014]); "
    )
    assert said.endswith(
        "is equivalent to logistic on dense activations (.811; difference +.004 [\N{MINUS SIGN}.011, +.019])."
    )


def test_without_contrasts_the_sentence_says_so(build: Build, tmp_path: Path) -> None:
    assert sentence(shown(build, tmp_path / "none", None)) == "No contrasts were fixed, so nothing is decided."
    empty = {"contrasts": [], "dataset": IN_DISTRIBUTION, "read": {"columns": 12}}
    said = "Planted numbers, reading 12 columns of X: no contrast could be run on the test rows."
    assert sentence(shown(build, tmp_path / "empty", empty)) == said


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"verdict": "inverted", "inverted": ["lat"]}, "are not compared: LAT on dense activations inverted, AUROC"),
        ({"lo": None, "hi": None, "n_seeds": 2}, "difference .000, too few seeds for an interval)"),
        ({"lo": None, "hi": None, "no_interval": "nothing was scored"}, "difference .000, no interval: nothing was"),
        ({"n": 7}, "(n = 7 to 412"),
    ],
)
def test_what_is_not_compared_or_has_no_interval_says_why(
    build: Build, tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    lines = [contrast("lat", 0.0, 0.1, 1, 1, "undecided", {}), contrast("lat", 0.0, 0.1, 1, 1, "undecided", {}) | more]
    assert words in sentence(shown(build, tmp_path, {"contrasts": lines}))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"code": "no dictionary"}, "this says nothing about SAEs"),
        ({"code": "one dictionary"}, "another training seed of it"),
        ({"code": "not run", "method": "lat", "than": "logistic"}, "LAT on dense activations against logistic on"),
        ({"code": "outside domain", "dictionary": "d", "fvu": {"health": 0.7}}, "(FVU .700 on health)"),
        ({"code": "inverted", "dataset": IN_DISTRIBUTION, "methods": ["lat"]}, "On the test rows the AUROC of LAT on"),
        (
            {
                "code": "margin",
                "method": "lat",
                "than": "lda",
                "better": "lda",
                "other": "lat",
                "error": 0.015,
                "margin": 0.02,
                "verdict": "equivalent",
            },
            "shrinkage LDA on dense activations puts 1.5 % of pairs in the wrong order; equivalent within .02 leaves "
            "room for 3.5 % of LAT on dense activations.",
        ),
    ],
)
def test_every_note_has_its_words(sheet: Sheet, facts: dict[str, Any], words: str) -> None:
    assert words in note(sheet, facts)


def test_the_notes_of_a_run_are_those_of_its_verdict(sheet: Sheet, build: Build, tmp_path: Path) -> None:
    assert [one.partition(" leaves")[0] for one in notes(sheet)] == ["Dictionary shipped"]
    assert notes(shown(build, tmp_path, None)) == []


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        (Needs(), ""),
        (Needs("seeds", seeds=5), "needs at least 5 seeds"),
        (Needs("no interval", reason="nothing was scored"), "nothing was scored"),
        (Needs("inverted"), "AUROC of lat significantly below .5"),
        (Needs("unscored"), "nothing was scored"),
        (Needs("no error"), "has no standard error"),
        (Needs("luck"), "a study of this size decides such a difference four times in five; this one does not"),
        (Needs("more", rows=2800, groups=300), "needs about 2,800 rows in 300 groups"),
        (Needs("more", rows=2800, groups=300, seeds=10), "needs about 2,800 rows in 300 groups, and 10 seeds"),
        (Needs("more", seeds=10), "more rows do not help; needs about 10 seeds"),
        (Needs("many", times=50), "needs more than 50 times these rows"),
        (Needs("training rows", refits=0.0271), "refits differ by 0.027, more than rows or seeds can average away"),
        (Needs("chosen here"), "the reader was chosen with these rows"),
    ],
)
def test_every_need_has_its_words(needs: Needs, words: str) -> None:
    said = needs_words({"needs": needs.facts(), "inverted": ["lat"]})
    assert said.startswith(words)
    assert bool(said) == bool(words)


def test_two_dictionaries_and_none_are_counted() -> None:
    read = {"site": "s", "model": "m", "parameters": 1e6, "quantisation": None, "width": 64, "tokens": None}
    assert subject(read | {"dictionaries": 2}) == "s of m (1M; 2 dictionaries of 64 latents)"
    assert subject(read | {"dictionaries": 0}) == "s of m (1M; no dictionary)"
