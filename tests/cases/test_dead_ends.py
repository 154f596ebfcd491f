"""Requests that cannot be carried out are refused with the cause and a way out that exists."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from case_kit import QUICK, model_folder, table, theodolite

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
