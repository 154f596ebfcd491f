"""Pair files: read as written, refused with the row, checked for lengths that differ."""

from pathlib import Path

import pytest

from theodolite.core.errors import UserError
from theodolite.data import pair_file
from theodolite.data.file_check import check_pairs

HEAD = "clean,counterfactual,answer,counter_answer,group\n"


def write(folder: Path, rows: str, name: str = "pairs.csv") -> Path:
    path = folder / name
    path.write_text(rows, encoding="utf-8")
    return path


def test_pairs_come_as_written_and_one_without_a_group_has_its_own(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + "The cat, The cats, sits, sit,a\nA dog,Some dogs, runs, run,\n\n")
    one, other = pair_file.load(path)
    assert (one.clean, one.counterfactual, one.answer, one.counter_answer, one.group) == (
        "The cat",
        " The cats",
        " sits",
        " sit",
        "a",
    )
    assert other.group.startswith("pair:")
    assert pair_file.load(path)[1].group == other.group


def test_jsonl_is_read_alike(tmp_path: Path) -> None:
    row = '{"clean": "A", "counterfactual": "B", "answer": " x", "counter_answer": " y"}\n'
    assert pair_file.load(write(tmp_path, row, "pairs.jsonl"))[0].answer == " x"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (HEAD, "holds no pairs"),
        ("clean,counterfactual,answer\na,b,c\n", "unknown column of 'pairs.csv' 'counter_answer'"),
        (HEAD + "a,b, c, d,\na,a, c, d,\n", "row 1 .* the same text"),
        (HEAD + "a,b, c, c,\n", "both answers are the same"),
        (HEAD + "a,, c, d,\n", "counterfactual is empty"),
    ],
)
def test_a_pair_that_says_nothing_is_refused_with_its_row(tmp_path: Path, rows: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        pair_file.load(write(tmp_path, rows))


def test_the_check_counts_tokens_where_it_can_and_words_where_not(tmp_path: Path) -> None:
    pairs = pair_file.load(
        write(tmp_path, HEAD + "one two,three four, x, y,g\none,two three, x, y,g\nab c,d e, x, y,h\n")
    )
    words = [found for found in check_pairs(pairs) if found.level != "note"]
    assert [(found.level, found.words[:12]) for found in words] == [("warning", "1 of 3 pairs")]
    letters = lambda texts: [[ord(c) for c in text] for text in texts]  # noqa: E731
    (found,) = (found for found in check_pairs(pairs, letters) if found.level != "note")
    assert found.level == "error"
    assert found.words == "3 of 3 pairs differ in their number of tokens, the first is row 0"
    assert check_pairs(pairs)[0].words == "3 pairs in 2 groups, the largest of 2"


def test_the_check_lists_every_fault_with_its_row(tmp_path: Path) -> None:
    pairs = pair_file.read(write(tmp_path, HEAD + "a,a, x, y,\nb,c, x, x,\nd,e, sit, sits,\nd,e, sit, sits,\n"))
    levels = [(found.level, found.words.split(",")[0]) for found in check_pairs(pairs)[1:]]
    assert levels == [
        ("error", "row 0: clean and counterfactual are the same text"),
        ("error", "row 1: both answers are the same"),
        ("warning", "2 pairs have an answer that is the beginning of the other: only their first tokens differ"),
        ("warning", "1 pairs occur more than once"),
    ]
