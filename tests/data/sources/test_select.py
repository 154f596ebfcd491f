"""Which column, which rows, which label; what cannot be meant is one clear error."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from theodolite.core.errors import UserError
from theodolite.core.recipe import Source
from theodolite.data.sources import rows

TABLE = "text,label,topic\none,1,a\ntwo,0,b\nthree,1,a\n"


def source(**fields: Any) -> Source:
    return Source(source="toy", **fields)


def read(path: Path, content: str | bytes, **fields: Any) -> pd.DataFrame:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return rows(source(file=str(path), **fields))


def test_where_keep_drop_and_cut(tmp_path: Path) -> None:
    content = "prompt,topic\nkeep this\tno,a\nkeep that,b\nkeep bad,a\nleave,a\n"
    frame = read(tmp_path / "f.csv", content, field="prompt", where={"topic": "a"}, keep="keep", drop="bad", cut="\t")
    assert frame.text.tolist() == ["keep this"]
    both = read(tmp_path / "f.csv", content, field="prompt", where={"topic": ["a", "b"]})
    assert len(both) == 4


def test_labels_are_a_constant_a_column_or_named_positive_values(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    assert read(path, TABLE, label=0).label.tolist() == [0, 0, 0]
    assert read(path, TABLE, label="label").label.tolist() == [1, 0, 1]
    assert read(path, TABLE, label="topic", positive=["b"]).label.tolist() == [0, 1, 0]
    assert read(path, TABLE).label.tolist() == [None] * 3
    assert read(path, "text,label\na,True\nb,False\n", label="label").label.tolist() == [1, 0]


def test_sample_and_skip_share_no_row_and_follow_the_seed(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("text\n" + "".join(f"t{i}\n" for i in range(50)))
    first = rows(source(file=str(path), sample=20)).text.tolist()
    rest = rows(source(file=str(path), skip=20)).text.tolist()
    assert sorted([*first, *rest]) == sorted(f"t{i}" for i in range(50))
    assert first == rows(source(file=str(path), sample=20)).text.tolist()
    assert first != rows(source(file=str(path), sample=20), seed=1).text.tolist()
    assert first == sorted(first, key=lambda text: int(text[1:]))


def test_a_missing_text_is_empty_and_left_to_cleaning(tmp_path: Path) -> None:
    assert read(tmp_path / "f.csv", "text,label\n,1\nnull,0\n", label="label").text.tolist() == ["", "null"]


@pytest.mark.parametrize(
    ("content", "fields", "words"),
    [
        (TABLE, {"field": "txt"}, "unknown column of source 'toy' 'txt': did you mean 'text'"),
        (TABLE, {"field": "txt"}, "name the text's with --text, or `field` in a recipe"),
        (TABLE, {"label": "lbl"}, "name the label's with --label, or `label` in a recipe"),
        (TABLE, {"label": "lable"}, "did you mean 'label'"),
        (TABLE, {"where": {"topics": "a"}}, "did you mean 'topic'"),
        (TABLE, {"where": {"topic": "z"}}, r"no row is left .* \(0 were read\)"),
        (TABLE, {"keep": "["}, "not a regular expression"),
        (TABLE, {"label": "topic"}, r"labels must be 0 or 1, column 'topic' has 'a', 'b'"),
        (TABLE, {"label": "topic", "positive": ["A"]}, "unknown positive label"),
        (TABLE, {"sample": 4}, "has 3 rows, but skip=0 and sample=4 need 4"),
        (TABLE, {"options": {"coment": "#"}}, "unknown option 'coment': did you mean 'comment'"),
        (
            "text,label\na,1\nb,\nc,0\n",
            {"label": "label"},
            "1 labels in column 'label' are missing, the first in row 1",
        ),
        ("text,label\na,1\nb,nan\n", {"label": "label"}, "labels must be 0 or 1"),
        ("text\n" + "x" * 1_000_000 + "\n", {}, "row 0 has a text of 1,000,000 characters"),
        ('text\n"unclosed\nmore\n', {}, "not a CSV table: .*EOF inside string"),
        ("text\na\nb,c,d\n", {}, "not a CSV table"),
        ("", {}, "is empty"),
        (b"text\ngood\ncaf\xe9\n", {}, r"not UTF-8: byte 0xe9 at offset 13 \(line 3\)"),
    ],
)
def test_bad_tables_are_one_clear_error(tmp_path: Path, content: str, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        read(tmp_path / "f.csv", content, **fields)


@pytest.mark.parametrize("fields", [{}, {"wheel": "toys", "file": "f.csv"}])
def test_a_source_names_exactly_one_place(fields: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="exactly one of wheel, hub, file, generated"):
        rows(source(**fields))
