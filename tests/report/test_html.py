"""The page: right numbers, nothing loaded, nothing run, nothing leaked, the same bytes every time."""

import math
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from planted_run import AUDIT, PRIMARY, RECIPE, VERDICT, row, scores

from theodolite.core.run import Run
from theodolite.report import context, html

VOID = {"meta", "link", "br", "img", "input", "hr", "path", "use", "rect"}


class Read(HTMLParser):
    """Tags with attributes, table rows as lists of words, and whatever was opened and not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data
        if self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data if not self.rows[-1][-1] or self.open[-1] != "small" else f" {data}"

    def under(self, heading: str, first: str) -> list[str]:
        """The first row that starts with `first` after the group heading `heading`."""
        start = next(at for at, cells in enumerate(self.rows) if cells == [heading])
        return next(cells for cells in self.rows[start:] if cells[:1] == [first])


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return html.page(run)


@pytest.fixture(scope="module")
def read(page: str) -> Read:
    return Read(page)


def test_numbers_stand_under_their_data_set_rounded_with_their_interval(read: Read) -> None:
    head = next(cells for cells in read.rows if cells[:1] == ["Method"])
    line = read.under("Dense activations", "Logistic")
    assert line[head.index("jailbreak-wrapped primary shift, pooled")] == ".811 [.777, .845]"
    assert line[head.index("jailbreak-wrapped within template")] == ".851 [.817, .885]"
    assert line[head.index("Training mix source recognition")] == ".981 [.969, .993]"
    assert (
        read.under("SAE latents", "K-sparse logistic (k = 16)")[head.index("rho left-out source")]
        == ".903 [.869, .937]"
    )
    assert read.under("Controls", "Random direction (range of draws)")[1] == ".480 [.440, .520]"
    assert read.rows[read.rows.index(head) + 1][1:] == ["412 in 96 groups"] * 8


def test_columns_run_from_left_out_source_to_mix_to_primary_to_other_shifts(read: Read) -> None:
    head = next(cells for cells in read.rows if cells[:1] == ["Method"])
    roles = [re.split(r"(left-out|source rec|primary|within|shift)", cell)[1] for cell in head[1:]]
    assert roles == ["left-out", "left-out", "source rec", "primary", "within", "shift", "shift", "shift"]


def test_contrasts_carry_their_word_their_p_and_what_would_decide_them(read: Read) -> None:
    lines = {cells[0].split(" on ")[0]: cells for cells in read.rows if len(cells) == 7 and "minus" in cells[0]}
    assert lines["K-sparse logistic"][2:] == [
        "\N{MINUS SIGN}.034 [\N{MINUS SIGN}.054, \N{MINUS SIGN}.014]",
        ".001",
        ".910",
        "worse",
        "412 in 96 groups",
    ]
    assert lines["Difference in means"][5] == "undecided needs about 1,200 rows in 280 groups"
    assert lines["Logistic"][2] == "+.004 [\N{MINUS SIGN}.011, +.019]"


def test_the_subject_of_the_verdict_is_named(read: Read) -> None:
    for words in [
        "135M parameters, dequantised Q4_1",
        "blocks.17.resid_post, mean over content tokens",
        "2.05M tokens",
        "5 training sets of 874",
    ]:
        assert words in read.words


def test_sections_come_in_the_order_a_sceptic_reads(page: str) -> None:
    titles = re.findall(r'<h2 id="heading-\d+"><span>\d+</span> ([^<]+)</h2>', page)
    assert titles == [
        "Verdict",
        "Data audit",
        "All methods at one site",
        "Each method at the site it chose",
        "In distribution",
        "Under shift",
        "Selective prediction",
        "Where it can be read",
        "How many latents it takes",
        "The dictionary",
        "Costs",
        "Over-refusal",
        "Limits",
        "Methods paragraph",
        "Counted warnings",
        "Provenance",
    ]


def test_a_dictionary_outside_its_domain_is_said_to_be(read: Read) -> None:
    assert "On the last template token the dictionary's FVU is 2.410: it is outside its domain there" in read.words
    assert "tokens of the prompts the dictionary's FVU" not in read.words


def test_nothing_is_loaded_and_nothing_can_run(page: str, read: Read) -> None:
    tags = {tag for tag, _ in read.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "img", "image", "base", "form"}
    for tag, attributes in read.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("href", "src", "xlink:href", "action"):
            assert attributes.get(name, "#").startswith("#"), f"{tag} {name}"
    assert not re.search(r"https?://|@import|javascript:", page)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))
    policy = dict(read.tags)["meta"] and [a["content"] for t, a in read.tags if "http-equiv" in a]
    assert policy[0].startswith("default-src 'none'")


def test_every_figure_says_in_words_what_it_shows(read: Read) -> None:
    figures = [attributes for tag, attributes in read.tags if tag == "svg"]
    assert len(figures) == 7
    assert all(f["role"] == "img" and len(f["aria-label"]) > 40 for f in figures)
    assert "worse" in figures[0]["aria-label"]


def test_every_tag_is_closed_and_every_id_is_one_place(read: Read) -> None:
    assert read.open == []
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for _, a in read.tags if a.get("href", "").startswith("#")}
    assert targets <= set(ids)


def test_no_text_of_the_recipe_is_printed(page: str) -> None:
    assert "secret example" in str(RECIPE["few_shot"])
    assert "secret example" not in page


def test_same_rows_same_bytes(build: Callable[..., Run], tmp_path: Path) -> None:
    small = build(tmp_path, only=[row("logistic", PRIMARY), row("k_sparse(k=4)@latents", PRIMARY)])
    first = html.write(small).read_bytes()
    assert html.write(Run.open(tmp_path)).read_bytes() == first
    assert html.write(small, tmp_path / "elsewhere.html").read_bytes() == first


@pytest.mark.parametrize(
    "attack",
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style></svg><script>", "$x_{$", "&lt;i&gt;"],
)
def test_hostile_names_are_only_words(build: Callable[..., Run], tmp_path: Path, attack: str) -> None:
    made: dict[str, Any] = {"value": 0.7}
    sweep = [row(attack, PRIMARY, task="blocks", site=f"blocks.{at}.{attack}", **made) for at in range(2)]
    rows = [row(attack, PRIMARY, **made), row("logistic", attack, **made), row("logistic", PRIMARY), *sweep]
    contrast = VERDICT["contrasts"][0] | {"method": attack, "dataset": attack, "verdict": attack}
    noted = AUDIT | {"overviews": [AUDIT["overviews"][0] | {"note": attack}]}
    hostile = build(
        tmp_path,
        audit=noted,
        only=rows,
        recipe={"question": attack, "shifts": {attack: {"note": attack}}},
        facts={"model": {"name": attack, "quantisation": attack}},
        score=scores(4),
        verdict={"contrasts": [contrast], "notes": [{"code": attack}], "read": {"columns": attack}},
    )
    read = Read(html.page(hostile))
    assert read.open == []
    assert not {tag for tag, _ in read.tags} & {"script", "img", "i"}
    assert attack in read.words
    assert f"train: {attack}" in read.words
    assert Read(html.fragment(html.Sheet(hostile))).open == []


def test_what_a_run_does_not_have_is_said_not_faked(build: Callable[..., Run], tmp_path: Path) -> None:
    nothing: dict[str, Any] = {"verdict": None, "card": None, "audit": None, "facts": {"model": {}, "protocol": {}}}
    read = Read(html.page(build(tmp_path, only=[row("logistic", PRIMARY)], **nothing)))
    for words in [
        "fixed no contrasts",
        "kept no audit",
        "read one site only",
        "did not sweep the blocks",
        "no rows from its training",
        "no k-sparse curve",
        "nothing here speaks for or against SAEs",
        "no over-refusal set",
        "none: no SAE rows",
    ]:
        assert words in read.words, words
    assert not re.search(r"\b(nan|NaN|None|null)\b", read.words)
    assert "bootstrap" not in read.words
    assert "\N{EN DASH} parameters" not in read.words


def test_unscored_and_few_seeds_are_shown_as_such(build: Callable[..., Run], tmp_path: Path) -> None:
    points = [row("lat", PRIMARY, seed=str(s), value=0.7 + s / 100, lo=math.nan, hi=math.nan) for s in range(3)]
    few = build(tmp_path, only=[row("logistic", PRIMARY, value=math.nan, lo=math.nan, hi=math.nan), *points])
    read = Read(html.page(few))
    assert read.under("Dense activations", "Logistic")[1] == "\N{EN DASH}"
    assert read.under("Dense activations", "LAT")[1] == ".710 .700 .710 .720"


def test_the_report_never_loads_torch() -> None:
    code = "import sys, theodolite.report.result; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_was_removed_or_left_unscored_is_counted(build: Callable[..., Run], tmp_path: Path) -> None:
    lost = build(tmp_path / "lost", only=[row("logistic", PRIMARY, n_unscored=3)])
    read = Read(html.page(lost))
    assert ["removed", "31", "rows of train: duplicate"] in read.rows
    assert ["unscored", "3", "rows of jailbreak-wrapped by logistic on dense activations"] in read.rows
    clean = html.Sheet(build(tmp_path / "clean", only=[row("logistic", PRIMARY)], audit=None))
    clean.run.manifest["notes"] = []
    (text,) = context.warnings(clean).blocks
    assert text.words == "Nothing was cut, dropped or left unscored."


def test_a_run_without_a_command_claims_none(read: Read) -> None:
    assert "Command" not in read.words
