"""A Run whose files are cut, garbled or made by somebody else: one clear error or the right answer, and no markup."""

import random
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from case_kit import QUICK, Ended, table, theodolite, workplace

SCRIPT = "<script>alert(1)<-script><img src=x onerror=alert(1)>"
SHIFT = "{{7*7}}<marquee onload=x>&\x1b[2J\\g<1>\\d$x_"
PARTS = [
    "manifest.json",
    "rows.parquet",
    "artefacts/verdict.json",
    "artefacts/audit.json",
    "artefacts/readers/difference_in_means/config.json",
    "artefacts/readers/difference_in_means/model.safetensors",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a Run whose data set, shift, labels and texts are markup."""
    with workplace(tmp_path_factory.mktemp("artefacts")) as folder:
        rows = table()
        rows["text"] = [f"{text} <script>alert({i})</script>" for i, text in enumerate(rows.text)]
        rows["label"] = rows["label"].map({1: SCRIPT, 0: "no"})
        rows.to_csv(f"{SCRIPT}.csv", index=False)
        other = table(80, seed=9)
        other["text"] = [f"={i} {' '.join(text.split()[::-1])} {i * 7919}" for i, text in enumerate(other.text)]
        other["label"] = other["label"].map({1: SCRIPT, 0: "no"})
        other.to_csv(f"{SHIFT}.csv", index=False)
        line = ("compare", f"{SCRIPT}.csv", "--positive", SCRIPT, "--shift", f"{SHIFT}.csv", "--model", "m", *QUICK)
        done = theodolite(*line, "--show-text", "--out", "run")
        assert done.code == 0, done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        yield folder


@pytest.fixture(autouse=True)
def _same_cache(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(place / "cache"))
    monkeypatch.chdir(place)


def opened(run: Path, part: str) -> list[Ended]:
    """Every command that opens this part of a Run."""
    reading = theodolite("read", "old mill", "--run", run) if "manifest" in part or "readers" in part else None
    if reading and "readers" in part:
        return [reading]
    line = ("compare", f"{SCRIPT}.csv", "--positive", SCRIPT, "--shift", f"{SHIFT}.csv", "--model", "m", *QUICK)
    reports = [("report", run), ("report", run, "--format", "csv"), (*line, "--out", run)]
    return [*([reading] if reading else []), *(theodolite(*words) for words in reports)]


def clean(ended: Ended) -> bool:
    """Whether a command ended well, or with exactly one clear line of its own."""
    said = [line for line in ended.stderr.splitlines() if line.startswith("theodolite: ")]
    errors = [line for line in said if "unexpected" in line]
    return (
        not errors and "Traceback" not in ended.stderr and ended.code in (0, 2) and (ended.code == 0 or len(said) == 1)
    )


class Tags(HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.values: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.values += [value or "" for _, value in attrs]


def test_a_page_of_markup_runs_nothing(place: Path) -> None:
    found = Tags()
    page = (place / "run" / "report.html").read_text()
    found.feed(page)
    assert not found.tags & {"script", "img", "iframe", "object", "embed", "link", "base", "form", "marquee"}
    assert not [name for name in found.attributes if name.startswith("on")]
    assert not [value for value in found.values if "javascript:" in value.lower()]
    assert "alert(1)" in page  # it is shown
    assert "{{7*7}}" in page
    assert "\x1b" not in page


def test_figures_and_latex_of_markup_are_inert(place: Path, tmp_path: Path) -> None:
    assert theodolite("report", "run", "--format", "svg", "--out", tmp_path / "figures").code == 0
    for svg in (tmp_path / "figures").iterdir():
        found = Tags()
        found.feed(svg.read_text())
        assert not found.tags & {"script", "img", "foreignobject", "image"}
        assert not [name for name in found.attributes if name.startswith("on")]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_cut_or_garbled_is_one_clear_error(place: Path, tmp_path: Path, part: str) -> None:
    whole = (place / "run" / part).read_bytes()
    draw = random.Random(part)
    spots = [draw.randrange(len(whole)) for _ in range(2)]
    damaged = [b"", whole[: len(whole) // 2], b"\xff\xfe" + whole, b"[" * 100_000, b"null", b"{}"]
    damaged += [whole[:spot] + bytes([whole[spot] ^ 4]) + whole[spot + 1 :] for spot in spots]
    for number, content in enumerate(damaged):
        run = Path(shutil.copytree(place / "run", tmp_path / str(number)))
        (run / part).write_bytes(content)
        ended = opened(run, part)
        for one in ended:
            assert clean(one), (part, number, one)
        assert any(one.code == 2 for one in ended), (part, number)
        refused = [one.stderr for one in ended if one.code == 2]
        assert all(Path(part).name in said for said in refused), (part, number, refused)


@pytest.mark.parametrize("part", PARTS[1:])
def test_a_part_that_is_gone_is_one_clear_error(place: Path, tmp_path: Path, part: str) -> None:
    run = Path(shutil.copytree(place / "run", tmp_path / "run"))
    (run / part).unlink()
    for one in opened(run, part):
        assert clean(one), (part, one)
