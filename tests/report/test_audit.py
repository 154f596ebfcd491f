"""The audit as shown: losses, baselines beside each other, shortcuts, and no word of private data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted_run import AUDIT, PRIMARY, row

from theodolite.core.run import Run
from theodolite.report.audit import SHOWN, SHOWN_LATENTS, audit, blocks, may_not_be_quoted
from theodolite.report.blocks import Table, Text
from theodolite.report.sheet import Sheet


def cells(block: Any) -> dict[str, list[str]]:
    """A table's rows by their first cell: words and small print joined."""
    assert isinstance(block, Table)
    return {line.cells[0].words: [f"{v.words} {v.small}".strip() for v in line.cells[1:]] for line in block.lines}


def test_sizes_losses_and_baselines_stand_where_they_belong() -> None:
    overview, lost, near, baselines, tried, shortcuts = blocks(AUDIT)
    assert cells(overview)["train"][:5] == ["1,748", ".537", "1,655", "1,748", "\N{EN DASH}"]
    assert cells(overview)[PRIMARY][-2:] == [
        "jailbreakbench (206, 206)",
        "CC-BY-NC-4.0, fetched at use, not redistributed",
    ]
    assert cells(lost) == {"duplicate": ["31", "0"], "near a training row": ["0", "27"]}
    assert cells(near) == {PRIMARY: ["27", "0", "0", "3"]}
    assert cells(baselines)["train"] == [
        "itself",
        ".655 [.625, .685]",
        ".755 [.725, .785]",
        ".955 [.925, .985]",
        ".975 [.945, 1.005]",
        "412 in 96 groups",
    ]
    assert isinstance(tried, Text)
    assert "812 candidates" in tried.words
    assert "Beyond chance: 2 (words and pairs of words 1, sources 1)." in tried.words
    assert cells(shortcuts)["term"] == ["write a", "+.399", "+14.2", ".002", ".412", ".013", "388"]


@pytest.mark.parametrize("tag", [{"private": True}, {"train": [{}, {"redistributable": False}]}])
@pytest.mark.parametrize(("tagged", "show_text", "shown"), [(1, False, False), (1, True, True), (0, False, True)])
def test_words_of_private_data_and_of_data_that_must_not_be_passed_on_need_show_text(
    build: Callable[..., Run], tmp_path: Path, tag: dict[str, Any], tagged: int, show_text: bool, shown: bool
) -> None:
    made = build(tmp_path, only=[row("logistic", PRIMARY)], recipe=tag if tagged else {})
    section = audit(Sheet(made, show_text=show_text))
    names = [line.cells[1].words for line in section.blocks[-1].lines]  # type: ignore[union-attr]
    assert names == ["write a" if shown else "not shown (--show-text shows it)", "advbench"]


def test_a_shift_that_must_not_be_passed_on_hides_no_word_of_the_training_rows() -> None:
    shifts = {"health": {"rows": [{"redistributable": False}]}}
    assert not may_not_be_quoted({"private": False, "train": [{"redistributable": True}], "shifts": shifts})


def test_what_a_data_set_notes_about_itself_stands_under_its_sizes() -> None:
    noted = AUDIT["overviews"][1] | {"note": "Base rate: the model answers 24.0% of 59 right; outside 30-70 %."}
    _, note, *_ = blocks({**AUDIT, "overviews": [AUDIT["overviews"][0], noted]})
    assert note == Text(f"{PRIMARY}: Base rate: the model answers 24.0% of 59 right; outside 30-70 %.", "note")


def test_a_clean_data_set_is_said_to_be_clean() -> None:
    clean = AUDIT["overviews"][0] | {"lost": []}
    found = {**AUDIT, "overviews": [clean], "shortcuts": {**AUDIT["shortcuts"], "shortcuts": []}}
    words = [block.words for block in blocks(found) if isinstance(block, Text)]
    assert words[0] == "No row was removed."
    assert words[1].endswith("None went beyond chance.")


def test_a_long_list_of_shortcuts_says_how_many_it_leaves_out() -> None:
    many = [AUDIT["shortcuts"]["shortcuts"][0] | {"name": f"term {i}"} for i in range(SHOWN + 7)]
    table = blocks({**AUDIT, "shortcuts": {**AUDIT["shortcuts"], "shortcuts": many}})[-1]
    assert isinstance(table, Table)
    assert len(table.lines) == SHOWN
    assert "7 more" in table.caption


def test_hundreds_of_one_kind_do_not_push_another_off_the_screen() -> None:
    one = AUDIT["shortcuts"]["shortcuts"][0]
    many = [one | {"name": f"term {i}"} for i in range(1400)]
    shortcuts = [*many, one | {"kind": "surface", "name": "first letter is a capital", "effect": 0.01}]
    latents = [one | {"kind": "latent", "name": f"latent {i}"} for i in range(40)]
    *_, tried, table, fired = blocks(
        {**AUDIT, "shortcuts": {**AUDIT["shortcuts"], "shortcuts": [*shortcuts, *latents]}}
    )
    assert isinstance(table, Table)
    assert len(table.lines) == SHOWN
    assert table.lines[-1].cells[1].words == "first letter is a capital"
    assert "1,376 more" in table.caption
    assert isinstance(fired, Table)
    assert len(fired.lines) == SHOWN_LATENTS
    assert isinstance(tried, Text)
    assert "1,441 (words and pairs of words 1,400, surface form 1, latents 40)." in tried.words


def test_control_tokens_in_texts_are_named_and_counted() -> None:
    tokens = {"<|im_end|>": 7, **{f"[T{i}]": 1 for i in range(10)}}
    train = AUDIT["overviews"][0] | {"special": tokens, "n_special": 9}
    (warning,) = [b for b in blocks({**AUDIT, "overviews": [train]}) if isinstance(b, Text) and b.kind == "warning"]
    assert "train: 9 rows hold control tokens" in warning.words
    assert "<|im_end|> (7)" in warning.words
    assert "and 3 others" in warning.words


BY_SOURCE = {"n_sources": 2, "cramers_v": 0.9, "decided": 0.95, "commoner": 0.5}


def test_what_goes_with_the_source_stands_apart_in_a_table_of_its_own() -> None:
    one = AUDIT["shortcuts"]["shortcuts"][0]
    source, mark = one | {"kind": "source", "name": "b"}, one | {"kind": "term", "name": "zqx"}
    beside = [*(mark | {"name": f"zqx {i}"} for i in range(SHOWN + 7)), mark | {"kind": "latent", "name": "latent 3"}]
    search = {**AUDIT["shortcuts"], "shortcuts": [source], "with_source": beside, "source": BY_SOURCE}
    *_, tried, found, said, apart, latents = blocks({**AUDIT, "shortcuts": search}, hidden=True)
    assert isinstance(tried, Text)
    assert "V .900; the commoner label of its source is right for .950 of the rows" in tried.words
    assert "the commoner label of all for .500." in tried.words
    assert set(cells(found)) == {"source"}
    total = "Goes with the source: 33 (words and pairs of words 32, latents 1)."
    assert said == Text(total, "warning")
    assert isinstance(apart, Table)
    assert len(apart.lines) == SHOWN
    assert {line.cells[1].words for line in apart.lines} == {"not shown (--show-text shows it)"}
    assert "7 more. Beyond chance over all rows only" in apart.caption
    assert set(cells(latents)) == {"latent"}


def test_one_source_has_no_association_with_the_label() -> None:
    search = {**AUDIT["shortcuts"], "source": BY_SOURCE | {"n_sources": 1}}
    assert not [
        b for b in blocks({**AUDIT, "shortcuts": search}) if isinstance(b, Text) and "Source and label" in b.words
    ]


@pytest.mark.parametrize(
    ("detectable", "words"),
    [
        (0.14, "unseen in fewer than about 14 % of the positives."),
        (None, "every positive and no negative would go unseen."),
    ],
)
@pytest.mark.parametrize("shortcuts", [[], AUDIT["shortcuts"]["shortcuts"]], ids=["none", "some"])
def test_the_share_that_a_search_cannot_see_is_named(
    shortcuts: list[dict[str, Any]], detectable: float | None, words: str
) -> None:
    search = {**AUDIT["shortcuts"], "shortcuts": shortcuts, "detectable": detectable}
    assert [b for b in blocks({**AUDIT, "shortcuts": search}) if isinstance(b, Text) and b.words.endswith(words)]


def test_the_caption_says_what_the_intervals_of_text_baselines_are_over() -> None:
    (table,) = [b for b in blocks(AUDIT) if isinstance(b, Table) and b.caption.startswith("AUROC")]
    assert "fitted on other rows, for that one fit" in table.caption
    assert "counts the rows as training and as test rows" in table.caption
