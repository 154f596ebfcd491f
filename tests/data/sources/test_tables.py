"""Every format gives the same rows; broken files are one clear error."""

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from theodolite.core.errors import UserError
from theodolite.core.recipe import Source
from theodolite.core.zstd import compressed
from theodolite.data.sources import rows
from theodolite.study.own import from_files


def source(**fields: Any) -> Source:
    return Source(source="toy", **fields)


def read(path: Path, content: str | bytes, **fields: Any) -> pd.DataFrame:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return rows(source(file=str(path), **fields))


@pytest.mark.parametrize("name", ["f.csv", "f.tsv", "f.jsonl", "f.json", "f.yaml", "f.parquet", "f.csv.zst"])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    table = pd.DataFrame({"text": ["one, two", "zwei é", "NA"], "label": [1, 0, 1], "topic": ["a", "b", "a"]})
    records = json.loads(table.to_json(orient="records"))
    table.to_parquet(tmp_path / "p")
    content = {
        "f.csv": table.to_csv(index=False).encode(),
        "f.tsv": table.to_csv(index=False, sep="\t").encode(),
        "f.jsonl": table.to_json(orient="records", lines=True).encode(),
        "f.json": json.dumps(records).encode(),
        "f.yaml": json.dumps(records).encode(),
        "f.parquet": (tmp_path / "p").read_bytes(),
        "f.csv.zst": compressed(table.to_csv(index=False).encode()),
    }
    frame = read(tmp_path / name, content[name], label="label")
    assert frame.to_dict("list") == table.to_dict("list")


def test_compressed_files_are_read_across_frames(tmp_path: Path) -> None:
    content = compressed(b"text\none\n") + compressed(b"two\n")
    assert read(tmp_path / "f.csv.zst", content).text.tolist() == ["one", "two"]


def test_a_text_file_is_one_text_per_line_or_one_in_all(tmp_path: Path) -> None:
    assert read(tmp_path / "f.txt", "one\n\n two \n").text.tolist() == ["one", "", " two "]
    assert read(tmp_path / "f.txt", "one\n\ntwo\n", options={"whole": True}).text.tolist() == ["one\n\ntwo"]


def test_a_field_path_walks_lists_and_mappings(tmp_path: Path) -> None:
    tree = {"seeds": [{"value": "a", "by": ["x", "y"], "deep": [[1]]}, {"value": "b", "meta": {"kind": "k"}}]}
    frame = read(tmp_path / "f.json", json.dumps(tree), field="seeds[].value", label=1)
    assert frame.text.tolist() == ["a", "b"]
    assert frame.columns.tolist() == ["text", "label", "by", "meta.kind"]
    assert frame.by[0] == "x | y"
    keyed = {"First": {"extract": "e1"}, "Second": {"extract": "e2"}}
    assert read(tmp_path / "g.json", json.dumps(keyed), field="[].extract").text.tolist() == ["e1", "e2"]
    assert read(tmp_path / "h.json", json.dumps({"a": {"b": ["p", "q"]}}), field="a.b[]").text.tolist() == ["p", "q"]


def test_comment_lines_are_left_out_only_where_asked_and_only_at_the_top(tmp_path: Path) -> None:
    content = "# version 1\n# by hand\ntext\nC# is a language\n# a heading\n"
    frame = read(tmp_path / "f.csv", content, options={"comment": "#"})
    assert frame.text.tolist() == ["C# is a language", "# a heading"]


def test_another_encoding_is_used_only_when_named(tmp_path: Path) -> None:
    content = "text\ncafé\n".encode("latin-1")
    assert read(tmp_path / "f.csv", content, options={"encoding": "latin-1"}).text.tolist() == ["café"]
    with pytest.raises(UserError, match="no encoding 'latin-99'"):
        read(tmp_path / "f.csv", content, options={"encoding": "latin-99"})


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    assert read(tmp_path / "f.csv", b"\xef\xbb\xbftext\nhello\n").text.tolist() == ["hello"]


def test_the_separator_that_excel_is_told_is_no_row(tmp_path: Path) -> None:
    frame = read(tmp_path / "f.csv", "sep=;\r\ntext;label\r\none, two;1\r\n")
    assert frame.text.tolist() == ["one, two"]
    assert frame.columns.tolist() == ["text", "label"]
    assert read(tmp_path / "g.csv", "sep=;\ntext,n\na,1\n", options={"delimiter": ","}).text.tolist() == ["a"]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.csv")
    with pytest.raises(UserError, match="is a pipe or a device"):
        rows(source(file=str(tmp_path / "rows.csv")))
    with pytest.raises(UserError, match="is a pipe or a device"):
        from_files(tmp_path / "rows.csv", [], text="text", label="label")


@pytest.mark.parametrize(
    ("name", "content", "field", "words"),
    [
        ("f.jsonl", '{"text": "a"}\n{"text": \n', None, "line 2 of .*f.jsonl cannot be parsed"),
        ("f.jsonl", "3\n", None, "must be objects"),
        ("f.json", '{"seeds": 1}', "seeds[].value", "is a int, so .. has nothing to walk"),
        ("f.json", '{"seeds": []}', "seed[].value", "unknown field of .* 'seed': did you mean 'seeds'"),
        ("f.yaml", "a: [", None, "cannot be parsed"),
        ("f.parquet", b"PAR?", None, "not a Parquet file"),
        ("f.csv.zst", b"plain", None, "not zstandard data"),
        ("f.csv.zst", compressed(b"text\none\ntwo\n" * 100)[:-5], None, "f.csv.zst is cut"),
        ("f.csv.zst", b"", None, "f.csv.zst is cut"),
        ("f.csv", b"\n", None, "f.csv is empty"),
        ("f.docx", b"x", None, "unknown format of .*'docx'"),
    ],
)
def test_bad_files_are_one_clear_error(
    tmp_path: Path, name: str, content: str | bytes, field: str | None, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        read(tmp_path / name, content, field=field)


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "prompts.csv").write_text("text\n")
    with pytest.raises(UserError, match=r"did you mean 'prompts.csv'"):
        rows(source(file=str(tmp_path / "promts.csv")))
    with pytest.raises(UserError, match="is a folder"):
        rows(source(file=str(tmp_path)))


def test_a_field_path_walks_the_lists_of_every_line(tmp_path: Path) -> None:
    lines = '{"seeds": [{"value": "a"}, {"value": "b"}]}\n{"seeds": [{"value": "c"}]}\n'
    for field in ("seeds[].value", "[].seeds[].value"):
        assert read(tmp_path / "f.jsonl", lines, field=field).text.tolist() == ["a", "b", "c"]
    assert read(tmp_path / "g.jsonl", '{"text": "d"}\n', field="[].text").text.tolist() == ["d"]
    with pytest.raises(UserError, match="did you mean 'seeds'"):
        read(tmp_path / "f.jsonl", lines, field="seed[].value")


@pytest.mark.parametrize("delimiter", ["||", "", 5])
def test_a_delimiter_of_another_length_is_refused(tmp_path: Path, delimiter: Any) -> None:
    with pytest.raises(UserError, match="delimiter of a CSV table is one character"):
        read(tmp_path / "f.csv", "text||label\na||1\n", options={"delimiter": delimiter})
    assert read(tmp_path / "f.csv", "text  label\na 1\n", options={"delimiter": r"\s+"}).text.tolist() == ["a"]
