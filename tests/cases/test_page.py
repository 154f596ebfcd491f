"""Truth on the page: what a stranger needs beside the verdict stands on the page of a plain `compare`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from case_kit import Ended, table, theodolite, workplace

METHODS = [
    "difference_in_means",
    "logistic",
    "word_ngrams",
    "length",
    "majority",
    "random_direction(draw=0)",
    "random_direction(draw=1)",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a model, training rows and two shifts; the planted word of the second is another one."""
    with workplace(tmp_path_factory.mktemp("page")) as folder:
        table(120).to_csv("mine.csv", index=False)
        table(60, seed=5).to_csv("other.csv", index=False)
        changed = table(60, seed=9)
        changed.assign(text=changed["text"].str.replace("happy", "glad")).to_csv("glad.csv", index=False)
        yield folder


def compared(out: str, *more: str) -> Ended:
    chosen = [word for method in METHODS for word in ("--method", method)]
    shifts = ("--shift", "other.csv", "--shift", "glad.csv")
    return theodolite(
        "compare", "mine.csv", *shifts, "--model", "m", "--sae", "none", "--seeds", "2", "--out", out, *chosen, *more
    )


@pytest.fixture(scope="module")
def ended(place: Path) -> Ended:
    return compared("run", "--pooling", "auto")


@pytest.fixture(scope="module")
def page(place: Path, ended: Ended) -> str:
    assert ended.code == 0, ended.stderr
    return (place / "run" / "report.html").read_text()


def artefact(place: Path, name: str) -> Any:
    return json.loads((place / "run" / "artefacts" / f"{name}.json").read_text())


def test_every_data_set_is_in_the_figure_of_all_contrasts(place: Path, page: str) -> None:
    everywhere = artefact(place, "verdict")["everywhere"]
    assert {line["dataset"] for line in everywhere} == {"in-distribution", "other", "glad"}
    caption = page.index("Every contrast on every data set.")
    figure = page[page.rindex("<figure", 0, caption) : caption]
    assert all(name in figure for name in ("other", "glad", "Same file", "random ."))


def test_the_strongest_text_and_the_reader_it_is_held_against_are_named(ended: Ended, page: str, place: Path) -> None:
    (line,) = [x for x in artefact(place, "baselines")["text"] if x["dataset"] == "other"]
    assert line["than"] == "word_ngrams"
    for said in (page, ended.stdout.replace("\n", " ")):
        assert "From the text alone: word n-grams (AUROC 1.000), the highest of 2 text-only methods" in said


def test_random_directions_stand_beside_every_data_set(place: Path, page: str) -> None:
    bands = artefact(place, "baselines")["random"]
    assert {band["dataset"] for band in bands} == {"in-distribution", "other", "glad"}
    assert "lowest to highest of 2 draws, each with its better sign" in page


def test_auto_records_what_it_tried_and_the_run_holds_what_it_chose(place: Path, page: str) -> None:
    manifest = json.loads((place / "run" / "manifest.json").read_text())
    found = manifest["facts"]["pooling"]
    assert [c["pooling"] for c in found["candidates"]] == ["mean", "last", "max"]
    lowest = min(found["candidates"], key=lambda c: c["log_loss"])
    assert found["chosen"]["pooling"] == manifest["recipe"]["pooling"] == lowest["pooling"]
    assert set(pd.read_csv(place / "run" / "rows.csv")["pooling"].dropna()) == {"mean", "last", "max"}
    assert "the lowest of 3 was taken" in page
    assert "The fixed contrasts where the tokens of a text are pooled another way" in page


def test_the_page_does_not_call_ticks_intervals_and_the_majority_has_none(page: str) -> None:
    assert "No intervals are drawn: 2 training sets are too few for one." in page
    assert "Lines: 95 % intervals" not in page
    line = re.search(r'<th scope="row">Majority</th>\s*(<td class="number">.*?</td>)', page)
    assert line is not None
    assert line[1] == '<td class="number">.500</td>'


@pytest.mark.parametrize(
    ("option", "value", "words"), [("--pooling", "median", "pooling"), ("--positions", "middle", "middle")]
)
def test_an_unknown_way_is_refused_by_name(
    place: Path, monkeypatch: pytest.MonkeyPatch, option: str, value: str, words: str
) -> None:
    monkeypatch.chdir(place)
    found = compared("refused", option, value)
    assert found.code == 2
    assert words in found.stderr
    assert not (place / "refused").exists()
