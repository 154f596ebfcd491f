"""`theodolite data check`: which kind of file it is, what is printed, what is hidden, and the exit code."""

from pathlib import Path

import pandas as pd
import pytest
from toy_rows import sentences

from theodolite.cli import app
from theodolite.study.file_checking import check
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model


def table(folder: Path, **columns: list[object]) -> str:
    texts = sentences(60, seed=2)
    rows = pd.DataFrame({"text": texts, "label": [0, 1] * 30} | columns)
    rows.to_csv(folder / "mine.csv", index=False)
    return str(folder / "mine.csv")


def test_a_sound_table_prints_notes_and_exits_with_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app(["data", "check", table(tmp_path)], result_action="return_value")
    printed = capsys.readouterr().out
    assert "texts: 30 label = 1, 30 label = 0, 60 groups" in printed
    assert "0 errors, 0 warnings" in printed


def test_an_error_exits_with_one_and_says_all_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [*sentences(58, seed=2), " ", "left over"]
    with pytest.raises(SystemExit) as ended:
        app(["data", "check", table(tmp_path, text=texts, label=[1] * 60)], result_action="return_value")
    printed = capsys.readouterr().out
    assert ended.value.code == 1
    assert "error:   texts: one class only" in printed
    assert "1 of 60 texts are empty, the first in row 58" in printed


def test_a_file_that_is_no_concept_has_this_one_error(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("name: x\n", encoding="utf-8")
    checked = check(str(tmp_path / "c.yaml"))
    assert checked.errors == 1
    assert "title: Field required" in checked.findings[0].words
    assert check(str(tmp_path / "gone.csv")).errors == 1
    assert "unknown concept" in check("nothing-of-this-name").findings[0].words


def test_pairs_are_known_by_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("clean,counterfactual,answer,counter_answer\na b,c d, x, y\n", encoding="utf-8")
    assert [finding.words for finding in check(str(path)).findings] == ["1 pairs in 1 groups, the largest of 1"]


def test_texts_of_a_private_concept_are_shown_only_on_request(tmp_path: Path) -> None:
    table(tmp_path, text=[*sentences(59, seed=2), sentences(60, seed=2)[1]])
    body = "name: n\ntitle: t\npositive: p\nnegative: n\nprivate: true\ntexts: {file: mine.csv}\n"
    (tmp_path / "c.yaml").write_text(body, encoding="utf-8")
    checked, copied = check(str(tmp_path / "c.yaml")), sentences(60, seed=2)[1]
    assert not any(copied in line for line in checked.lines())
    assert any(copied in line for line in checked.lines(show_text=True))
    assert any(copied in line for line in check(str(tmp_path / "mine.csv")).lines())


def test_a_models_tokenizer_counts_where_it_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    tiny_model().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    path = tmp_path / "pairs.csv"
    path.write_text("clean,counterfactual,answer,counter_answer\na b,c dddd, x, y\n", encoding="utf-8")
    assert check(str(path)).errors == 0
    checked = check(str(path), model=str(folder))
    assert [f.words for f in checked.findings if f.level == "error"] == [
        "1 of 1 pairs differ in their number of tokens, the first is row 0"
    ]
