"""Requests that cannot be carried out are refused with the cause and a way out that exists."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from case_kit import QUICK, model_folder, table, theodolite
from pydantic import ValidationError

import theodolite as package
from theodolite.core.errors import UserError
from theodolite.core.recipe import Source
from theodolite.data import sources
from theodolite.toys.tiny_models import tiny_model


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("f.jsonl", b'{"text": "a", "label": 0}\n{"text": "b", "text": "c", "label": 1}\n', "line 2 .* key 'text'"),
        ("f.json", b'[{"text": "b", "text": "c", "label": 1}]', "key 'text' stands twice"),
        ("f.jsonl", b"\n", "f.jsonl is empty"),
        ("f.json", b"", "f.json is empty"),
        ("f.csv", b"text;label\na, b;0\n", "separated by ';'.*commas"),
        ("f.csv", b"text|label\na;0\n", r"separated by '\|'"),
        ("f.csv", b"text\tlabel\na\t0\n", "separated by tabs"),
        ("f.csv", "text,label\na,0\n".encode("utf-16"), "is UTF-16"),
        ("f.csv", "text,label\na,0\n".encode("utf-16-le"), "are NUL"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_named_for_what_it_is(name: str, content: bytes, words: str) -> None:
    Path(name).write_bytes(content)
    with pytest.raises(UserError, match=words):
        sources.rows(Source(source="mine", file=name, label="label"))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--format", "raw", "--positions", "suffix"), "no row of 'train' is left: no token at 'suffix'; choose other"),
        (("--shift", "copy.csv"), "no row of 'copy' is left: near a training row; .* --leaks keep-all"),
        (("--out", "mine.csv"), "--out 'mine.csv' is a file"),
    ],
)
def test_the_cause_comes_first_and_names_its_option(tmp_path: Path, more: tuple[str, ...], words: str) -> None:
    for name in ("mine.csv", "copy.csv"):
        table(120).to_csv(name, index=False)
    ended = theodolite("compare", "mine.csv", "--model", model_folder(tmp_path / "m"), *QUICK, *more)
    assert ended.code == 2
    with pytest.raises(UserError, match=words):
        raise UserError(" ".join(ended.stderr.split()))


def compared(data: Any, tmp_path: Path, **how: Any) -> Any:
    model = how.pop("model", None) or str(model_folder(tmp_path / "m"))
    return package.compare(data, model=model, methods=["difference_in_means"], sae="none", seeds=2, **how)


def test_data_frames_are_shifts_too(tmp_path: Path) -> None:
    plan = compared(table(80), tmp_path, shifts=[table(60, 5), table(60, 6)], dry_run=True)
    assert plan.rows.keys() == {"train", "shift 1", "shift 2"}


@pytest.mark.parametrize(
    ("frame", "how", "words"),
    [
        (table(80), {"model": tiny_model()}, r"wrap it: theodolite.Model\(model, tokenizer\)"),
        (pd.concat({"a": table(80)}, axis=1), {}, "the DataFrame has columns of 2 levels"),
        (table(80).assign(label=5), {}, "source 'the DataFrame': labels must be 0 or 1"),
    ],
)
def test_what_python_hands_over_is_named_for_what_it_is(
    tmp_path: Path, frame: pd.DataFrame, how: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        compared(frame, tmp_path, **how)


def test_sets_of_one_class_are_called_so_and_printed(tmp_path: Path) -> None:
    table(120).to_csv("mine.csv", index=False)
    table(60, 5).assign(label=0).to_csv("benign.csv", index=False)
    model = model_folder(tmp_path / "m")
    ended = theodolite("compare", "mine.csv", "--shift", "benign.csv", "--model", model, *QUICK, "--out", "run")
    assert ended.code == 0, ended.stderr
    rows = pd.read_csv("run/rows.csv").query("dataset == 'benign' and task == 'matched' and metric == 'fpr@p>0.5'")
    rate = rows[rows["seed"].astype(str) == "all"]["value"].iloc[0]
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("benign (label 0 only)")]
    assert f"flags {rate:.3f} of".replace(" 0.", " .") in line
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "Sets of one class" in page
    assert "Over-refusal" not in page
    assert json.loads(Path("run/manifest.json").read_text(encoding="utf-8"))["finished"]


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_a_header_in_quotes_names_its_separator(mark: str) -> None:
    """As R's write.csv2 writes it: "write a quote twice" led nowhere."""
    rows = [["text", "my label"], *([f"a {i}", str(i % 2)] for i in range(3))]
    Path("f.csv").write_text("\n".join(mark.join(f'"{cell}"' for cell in row) for row in rows))
    with pytest.raises(UserError, match=r"is separated by .*, and ',' is expected: save it as CSV with commas"):
        sources.rows(Source(source="s", file="f.csv", label="my label"))


@pytest.mark.parametrize("name", ["o.parquet", "o.tsv", "o.jsonl", "o.csv.gz"])
def test_scores_are_not_written_under_the_name_of_another_format(name: str) -> None:
    """The file could not be opened again, by us or by anything else."""
    table(3).to_csv("in.csv", index=False)
    ended = theodolite("read", "--in", "in.csv", "--run", "run", "--out", name)
    assert (ended.code, Path(name).exists()) == (2, False)
    assert "written as CSV: give a name that ends in .csv" in ended.stderr


@pytest.mark.parametrize("data", [["a"], {"text": ["a"]}, pd.Series(["a"]), ([[1.0]], [1], [1])])
def test_data_of_another_kind_is_named(data: Any) -> None:
    with pytest.raises(UserError, match=r"data is a (list|dict|Series): give|a tuple is \(X, y\)"):
        package.compare(data)


X, Y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2


@pytest.mark.parametrize(
    ("rows", "labels", "words"),
    [
        (X + 1j, Y, "X is no array of real numbers: its values are complex128"),
        (np.ma.masked_less(X, 0), Y, "X is no array of real numbers: some values are masked"),
        (X.astype("datetime64[s]"), Y, "X is no array of real numbers: its values are datetime64"),
        (scipy.sparse.csr_matrix(X), Y, r"X is no array of real numbers: .*X.toarray\(\)"),
        (torch.tensor(X).bfloat16(), Y, r"X is no array of real numbers: .*X.detach\(\)"),
        ([["some"], ["texts"]], [0, 1], "X is no array of real numbers: .* texts in a DataFrame"),
        (X * 1e300, Y, "a number beyond float32"),
        (X, Y[:, None], r"got \(60, 3\) and \(60, 1\)"),
        (X, [None, 1] * 30, "y must hold 0 and 1 .* got {None: 30, 1: 30}"),
    ],
)
def test_rows_that_would_be_changed_are_refused(rows: Any, labels: Any, words: str) -> None:
    """NumPy drops an imaginary part with a warning and a mask without one; what it refuses was no sentence."""
    with pytest.raises(UserError, match=words):
        package.compare((rows, labels))


def test_a_table_of_groups_is_refused() -> None:
    with pytest.raises(UserError, match="groups must be one value for each row of X"):
        package.compare((X, Y), groups=np.zeros((60, 2)))


@pytest.mark.parametrize("field", [{"sample": -1}, {"sample": 0}, {"skip": -5}])
def test_a_sample_of_less_than_nothing_is_refused(field: dict[str, int]) -> None:
    """`sample: -1` left out the last row, and nothing was said."""
    with pytest.raises(ValidationError, match="greater than or equal to"):
        Source(source="s", file="f.csv", **field)


def test_options_of_a_table_are_text() -> None:
    table(4).to_csv("f.csv", index=False)
    for options in ({"encoding": [1]}, {"comment": 5}):
        with pytest.raises(UserError, match=r"is text, not .*: put it in quotes"):
            sources.rows(Source(source="s", file="f.csv", label="label", options=options))


def test_a_group_in_a_pattern_is_no_warning() -> None:
    table(4).to_csv("f.csv", index=False)
    found = sources.rows(Source(source="s", file="f.csv", label="label", keep="(happy|sad)", drop="(sad)"))
    assert found["label"].tolist() == [1, 1]
