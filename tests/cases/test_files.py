"""Cases 06, 15, 19, 21: a text is read as it is written, a row keeps its place, and what is no text names its row."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from case_kit import QUICK, model_folder, table, theodolite

import theodolite as package
from theodolite.core.errors import UserError
from theodolite.core.recipe import Source
from theodolite.core.zstd import compressed
from theodolite.data import sources
from theodolite.data.gather import gather
from theodolite.study import own, request

# what a table reader likes to turn into numbers, missing values, booleans or nothing
AS_WRITTEN = [
    "00001",
    "1e3",
    "NA",
    "null",
    "1.50",
    " a space at both ends ",
    "True",
    "nan",
    "-0",
    "1_000",
    "\u2028",
    "a\0b",
]


def read(name: str, content: bytes, **fields: Any) -> pd.DataFrame:
    Path(name).write_bytes(content)
    return sources.rows(Source(source="mine", file=name, **fields))


def csv_of(frame: pd.DataFrame, **how: Any) -> bytes:
    return frame.to_csv(index=False, **how).encode()


def parquet_of(frame: pd.DataFrame) -> bytes:
    into = io.BytesIO()
    frame.to_parquet(into)
    return into.getvalue()


KINDS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    "f.csv": csv_of,
    "F.CSV": csv_of,
    "f.tsv": lambda t: csv_of(t, sep="\t"),
    "f.csv.gz": lambda t: gzip.compress(csv_of(t)),
    "F.TSV.GZ": lambda t: gzip.compress(csv_of(t, sep="\t")),
    "f.csv.zst": lambda t: compressed(csv_of(t)),
    "f.jsonl": lambda t: "\n".join(map(json.dumps, t.to_dict("records"))).encode(),
    "f.NDJSON": lambda t: "\n".join(map(json.dumps, t.to_dict("records"))).encode(),
    "f.jsonl.gz": lambda t: gzip.compress("\n".join(map(json.dumps, t.to_dict("records"))).encode()),
    "records.json": lambda t: json.dumps(t.to_dict("records")).encode(),
    "columns.json": lambda t: json.dumps(t.to_dict("list")).encode(),
    "pandas.json": lambda t: t.to_json().encode(),
    "f.parquet": parquet_of,
}


@pytest.mark.parametrize("name", KINDS)
def test_texts_and_groups_are_as_written_in_every_kind_of_file(name: str) -> None:
    frame = pd.DataFrame({"text": AS_WRITTEN, "label": [0, 1] * 6, "who": AS_WRITTEN})
    got = read(name, KINDS[name](frame), label="label", group="who")
    assert got["text"].tolist() == AS_WRITTEN
    assert got["label"].tolist() == frame["label"].tolist()
    assert got["who"].tolist() == AS_WRITTEN
    assert request.is_table(name)


def test_a_text_file_gives_one_text_for_each_line() -> None:
    texts = [text for text in AS_WRITTEN if text != "\0"]
    assert read("f.txt", "\r\n".join([*texts, "", "end"]).encode())["text"].tolist() == [*texts, "", "end"]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbftext,label\na,0\n",
        b"text,label\r\na,0\r\n",
        b"text,label\ra,0\r",
        b"\n\ntext,label\na,0",
        b",text,label\n9,a,0\n",
    ],
    ids=["BOM", "CRLF", "CR", "blank lines first", "index column without a name"],
)
def test_what_editors_leave_in_a_file_is_no_part_of_it(content: bytes) -> None:
    got = read("f.csv", content, label="label")
    assert (got["text"].tolist(), got["label"].tolist()) == (["a"], [0])


def test_a_quoted_line_end_stays_in_its_text() -> None:
    got = read("f.csv", b'text,label\n"one\r\ntwo, and ""three""",1\nfour,0\n', label="label")
    assert got["text"].tolist() == ['one\r\ntwo, and "three"', "four"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"text,label\na,0\nb,c,1\n", "line 3 has 3 fields and the header has 2"),
        (b'text,label\n"a\nb",0\nb\n', "line 4 has 1 field and the header has 2"),
        (b"text\na\nb,c\n", "line 3 has 2 fields and the header has 1"),
        (b'text,label\na,0\n"b" c,1\n', "the record in line 3: .*write a quote that is inside a quoted field twice"),
        (b'text,label\n"a,0\nb,1\n', "a quote opened in line 2 is never closed"),
        (b"text,text\na,0\n", "has 2 columns called 'text'"),
        ("text,label\né,0\ncafé,1\n".encode("latin-1"), r"byte 0xe9 at offset 11 \(line 2\)"),
        (b"text,label\n", "holds no rows"),
    ],
)
def test_a_broken_table_is_refused_with_its_line(content: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read("f.csv", content, label="label")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (5, "an int"),
        (1.5, "a float"),
        (True, "a bool"),
        ([{"a": 1}], "a list"),
        (["a", "b"], "a list"),
        ("cut \ud83d here", "half a character at position 4"),
    ],
)
def test_what_is_no_text_names_its_row(value: object, kind: str) -> None:
    rows = [{"text": value if i == 7 else f"text {i}", "label": i % 2} for i in range(9)]
    with pytest.raises(UserError, match=f"row 7 of column 'text' .* {kind}"):
        read("f.jsonl", "\n".join(map(json.dumps, rows)).encode(), label="label")
    with pytest.raises(UserError, match=f"the DataFrame: row 7 of column 'text' .* {kind}"):
        own.as_path(pd.DataFrame(rows, dtype=object), Path("cache"))


@pytest.mark.parametrize("cell", [pd.Timestamp("2020-01-01"), b"bytes", 3])
def test_no_cell_of_another_type_becomes_a_text(cell: object) -> None:
    with pytest.raises(UserError, match=r"row 0 of column 'text' .* not a string"):
        read("f.parquet", parquet_of(pd.DataFrame({"text": [cell], "label": [1]})), label="label")


def test_half_a_character_in_a_label_or_a_group_names_its_row() -> None:
    rows = [{"text": f"text {i}", "label": i % 2, "who": "a\ud800" if i == 3 else "b"} for i in range(5)]
    content = "\n".join(map(json.dumps, rows)).encode()
    part = Source(source="mine", file="f.jsonl", label="label", group="who")
    Path("f.jsonl").write_bytes(content)
    with pytest.raises(UserError, match="row 3 of column 'who'"):
        gather("train", [part], 0)
    with pytest.raises(UserError, match="row 3 of column 'who'"):
        read("f.jsonl", content, label="who", positive=["b"])


def test_a_group_is_known_by_its_value_in_every_file() -> None:
    """A whole number beside a missing one is a float to pandas: 1.0 of one file and 1 of another are one group."""
    pd.DataFrame({"text": ["a b", "c d", "e"], "label": [0, 1, 0], "who": [1, 2, None]}).to_parquet("f.parquet")
    Path("f.csv").write_text("text,label,who\nx,0,1\ny,1,2\nz,1,\n")
    both = [
        gather("train", [Source(source="s", file=name, label="label", group="who")], 0)
        for name in ("f.parquet", "f.csv")
    ]
    group = [dict(zip(data.frame["text"], data.frame["group"], strict=True)) for data in both]
    assert group == [{"a b": "who:1", "c d": "who:2", "e": ""}, {"x": "who:1", "y": "who:2", "z": ""}]


@pytest.mark.parametrize("column", ["text", "label"])
@pytest.mark.parametrize("kind", ["csv", "frame"])
def test_a_column_of_groups_may_be_called_as_ours_are(column: str, kind: str) -> None:
    """The texts themselves, or 0 and 1, were taken for the groups."""
    frame = pd.DataFrame({"prompt": ["a b", "c d", "e f"], "harm": [0, 1, 0], column: ["u", "v", "u"]})
    frame.to_csv("f.csv", index=False)
    at = "f.csv" if kind == "csv" else own.as_path(frame, Path("cache"), text="prompt", label="harm", group=column)
    part = Source(source="s", file=str(at), field="prompt", label="harm", group=column)
    found = gather("train", [part], 0).frame
    assert dict(zip(found["text"], found["group"], strict=True)) == {
        "a b": f"{column}:u",
        "c d": f"{column}:v",
        "e f": f"{column}:u",
    }


@pytest.mark.parametrize("name", ["text", "prompt"])
def test_texts_may_be_their_own_groups_and_stay_as_written(name: str) -> None:
    frame = pd.DataFrame({name: [" 1.0 ", "b", "1"], "label": [0, 1, 0]})
    path = own.as_path(frame, Path("cache"), text=name, group=name)
    found = gather("train", [Source(source="s", file=str(path), field=name, label="label", group=name)], 0).frame
    assert dict(zip(found["text"], found["group"], strict=True)) == {
        " 1.0 ": f"{name}:1",
        "b": f"{name}:b",
        "1": f"{name}:1",
    }


def test_only_the_columns_named_are_kept_of_a_data_frame() -> None:
    """Case 19: a column of mixed types beside the text is nobody's business."""
    frame = table(40).assign(source_id=[1, "a"] * 20, deep=[[{"a": 1}]] * 40, when=pd.Timestamp("2020"))
    path = own.as_path(frame, Path("cache"), group="source_id")
    kept = pd.read_parquet(path)
    assert kept.columns.tolist() == ["text", "label", "source_id"]
    assert kept["source_id"].tolist() == ["1", "a"] * 20
    shuffled = frame.set_axis(np.random.default_rng(0).permutation(40), axis=0)
    assert own.as_path(shuffled, Path("cache"), group="source_id") == path  # an index is no content


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on texts that look like numbers, next to the folder of its model."""
    home = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THEODOLITE_CACHE", str(home / "cache"))
        patch.chdir(home)
        frame = table(120)
        frame.loc[0, "text"] = "00001"
        frame.to_csv("mine.csv", index=False)
        ended = theodolite("compare", "mine.csv", "--model", model_folder(home / "m"), *QUICK, "--out", home / "run")
    assert ended.code == 0, ended.stderr
    return home / "run"


def test_a_run_reads_and_shows_texts_as_written(run: Path) -> None:
    """Case 06: 00001 stays itself in the comparison, and in what `read --in` writes."""
    texts = pd.concat(pd.read_parquet(path) for path in run.parent.glob("cache/views/frames/*.parquet"))["text"]
    assert "00001" in set(texts)
    Path("new.csv").write_text("text,n\n00012,007\n13,1e3\n")
    assert theodolite("read", "--in", "new.csv", "--run", run, "--out", "s.csv").code == 0
    got = pd.read_csv("s.csv", dtype=str)
    assert (got["text"].tolist(), got["n"].tolist()) == (["00012", "13"], ["007", "1e3"])


def test_every_line_of_a_file_has_a_row_in_the_output(run: Path) -> None:
    """Case 21: blank lines keep their place, with NaN and a count."""
    files = {
        "one.csv": "text\nhappy old mill\n\n   \nsad river\n",
        "two.csv": "text,n\nhappy old mill,1\n\n   \nsad river,4\n",
        "f.txt": "happy old mill\n\n   \nsad river\n",
        "f.jsonl": '{"text": "happy old mill"}\n\n   \n{"text": "sad river"}\n',
    }
    scores = []
    for name, content in files.items():
        Path(name).write_text(content)
        with pytest.warns(UserWarning, match="2 of 4 rows have no text: their score is NaN"):
            ended = theodolite("read", "--in", name, "--run", run, "--out", "s.csv")
        assert ended.code == 0, ended.stderr
        got = pd.read_csv("s.csv")["score"]
        assert got.isna().tolist() == [False, True, True, False], name
        scores.append(got[[0, 3]].tolist())
    assert np.allclose(scores, scores[0], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("f.jsonl", b'{"text": "a \\ud83d"}\n', "row 0 of column 'text'"),
        ("f.jsonl", b'{"text": "a", "x": "\\ud83d"}\n', "row 0 of column 'x'"),
        ("f.csv", b"text,n\na,1,2\n", "line 2 has 3 fields"),
        ("f.csv.gz", gzip.compress(b"text\na\n", mtime=0)[:-4], "its gzip data end before their end mark"),
        ("f", b"text\na\n", "unknown format"),
        ("f.json", b"{}", "unknown column 'text'"),
    ],
)
def test_what_cannot_be_read_is_one_line(run: Path, name: str, content: bytes, words: str) -> None:
    Path(name).write_bytes(content)
    ended = theodolite("read", "--in", name, "--run", run)
    assert ended.code == 2, ended.stderr
    assert words in ended.stderr
    assert "unexpected" not in ended.stderr


def test_half_a_character_on_the_command_line_is_one_line(run: Path) -> None:
    ended = theodolite("read", "happy \udcff", "--run", run)
    assert ended.code == 2
    assert "half a character at position 6" in ended.stderr


def test_a_file_of_any_kind_is_compared_and_audited(run: Path) -> None:
    """One reader: the dry run of a TSV in capitals and the audit of a compressed JSONL see the same rows."""
    frame = table(60)
    Path("Mine.TSV").write_bytes(csv_of(frame, sep="\t"))
    Path("mine.jsonl.gz").write_bytes(KINDS["f.jsonl.gz"](frame))
    dry = theodolite("compare", "Mine.TSV", "--model", run.parent / "m", *QUICK, "--dry-run")
    assert dry.code == 0, dry.stderr
    assert " 60 rows" in dry.stdout
    audit = theodolite("data", "audit", "mine.jsonl.gz")
    assert audit.code == 0, audit.stderr
    for command in (("compare", "mine.txt"), ("data", "audit", "mine.txt")):
        assert "cannot read 'mine.txt'" in theodolite(*command).stderr


def test_a_data_frame_with_a_mixed_column_is_compared(run: Path) -> None:
    frame = table(60).assign(source_id=[1, "a"] * 30)
    plan = package.compare(
        frame, model=str(run.parent / "m"), methods=["difference_in_means"], sae="none", dry_run=True
    )
    assert plan.rows == {"train": 60}


@pytest.mark.parametrize("lines", [[('"a', "1"), ('b"', "0")], [('"a', "1"), ("m", "0"), ('b"', "0")]])
@pytest.mark.parametrize("label_first", [False, True])
def test_a_quote_that_is_only_a_quote_swallows_no_rows(lines: list[tuple[str, str]], label_first: bool) -> None:
    """Rows between two texts, one that starts and one that ends with a quote, became one text, and nothing was said."""
    names = ["label", "text"] if label_first else ["text", "label"]
    rows = [row[::-1] if label_first else row for row in lines]
    Path("f.tsv").write_text("\n".join("\t".join(row) for row in [names, *rows]))
    with pytest.raises(UserError, match=r"the quote that opens in line 2 closes in another .* csv\.QUOTE_NONE"):
        sources.rows(Source(source="s", file="f.tsv", label="label"))
    for quoting, n in ((csv.QUOTE_NONE, len(lines)), (csv.QUOTE_MINIMAL, 1)):
        pd.read_csv("f.tsv", sep="\t", quoting=quoting).to_csv("mine.csv", index=False)
        found = sources.rows(Source(source="s", file="mine.csv", label=1))
        assert len(found) == n


def test_a_text_of_indented_lines_is_one_text_of_a_tab_separated_table() -> None:
    code = 'def f():\n\treturn "x"\n'
    pd.DataFrame({"text": [code], "label": [1]}).to_csv("f.tsv", sep="\t", index=False)
    assert sources.rows(Source(source="s", file="f.tsv", label="label"))["text"].tolist() == [code]
