"""Cases 07 and 13: labels count by value, and a shift may hold one of them only."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from case_kit import QUICK, model_folder, table, theodolite

import theodolite as package
from theodolite.core.errors import UserError
from theodolite.core.recipe import Source
from theodolite.data import sources
from theodolite.study import own

Y = np.arange(120) % 2


def labels(frame: pd.DataFrame, name: str, **fields: Any) -> list[int]:
    frame.to_csv(name, index=False) if name.endswith("csv") else frame.to_parquet(name)
    return sources.rows(Source(source="mine", file=name, label="label", **fields))["label"].tolist()


@pytest.mark.parametrize("name", ["f.csv", "f.parquet"])
@pytest.mark.parametrize(
    ("label", "positive"),
    [
        (np.where(Y, 4 + Y * (np.arange(120) % 4 // 2), 1), ["4", "5"]),
        (Y * 2 - 1, ["1"]),
        (Y * 2 - 1, [1]),
        (Y.astype(bool), ["True"]),
        (Y.astype(bool), ["true"]),
        (Y.astype(float), ["1"]),
        (Y.astype(float), [1]),
        (np.where(Y, " yes", "no "), ["yes"]),
        (np.where(Y, "01", "1"), ["01"]),
        (Y, None),
        (Y.astype(bool), None),
        (Y.astype(float), None),
        (np.where(Y, "TRUE", "false"), None),
        (np.where(Y, " 1", "0 "), None),
    ],
)
def test_a_label_counts_by_its_value(name: str, label: np.ndarray, positive: list[Any] | None) -> None:
    """Case 07: 1 = 1.0 = "1", True = "True", and the spaces around a word are no part of it."""
    assert labels(table(120).assign(label=label), name, positive=positive) == Y.tolist()


@pytest.mark.parametrize(
    ("label", "positive", "words"),
    [
        (np.where(Y, 4, 1), ["5"], "unknown positive label of source 'mine' '5'"),
        (Y * 2 - 1, None, "labels must be 0 or 1, column 'label' has '-1', '1'.*--positive"),
        (np.where(Y, "nan", "0"), None, "labels must be 0 or 1"),
    ],
)
def test_a_label_that_cannot_be_meant_is_refused(label: np.ndarray, positive: list[str] | None, words: str) -> None:
    with pytest.raises(UserError, match=words):
        labels(table(120).assign(label=label), "f.csv", positive=positive)


def shift(train: pd.DataFrame, other: pd.DataFrame, positive: list[Any] | None = None) -> Any:
    train.to_csv("mine.csv", index=False)
    other.to_csv("other.csv", index=False)
    recipe = own.from_files(Path("mine.csv"), ["other.csv"], text="text", label="label", positive=positive)
    return recipe, recipe.shifts["other"]


YES = table(120).assign(label=np.where(Y, "yes", "no"))


@pytest.mark.parametrize(
    ("other", "positive", "one_class", "over_refusal", "expected"),
    [
        (table(40, 5).assign(label=0), None, True, True, 0),
        (table(40, 5).assign(label=1), None, True, False, 1),
        (YES.assign(label="no"), ["yes"], True, True, 0),
        (YES.assign(label="yes"), ["yes"], True, False, 1),
        (YES.assign(label="maybe"), ["yes", "maybe"], True, False, 1),
    ],
)
def test_a_shift_of_one_label_is_known_by_what_it_holds(
    other: pd.DataFrame, positive: list[str] | None, one_class: bool, over_refusal: bool, expected: int
) -> None:
    train = table(120) if positive is None else YES.assign(label=YES["label"].where(Y == 0, [*positive, *positive][0]))
    recipe, found = shift(train, other, positive)
    assert (found.one_class, found.over_refusal) == (one_class, over_refusal)
    assert set(sources.rows(found.rows[0])["label"]) == {expected}
    assert recipe.primary is None  # contrasts are decided where both labels are


def test_a_word_that_training_does_not_know_is_no_negative() -> None:
    """A shift that spells the positive label otherwise must not become a set of false alarms."""
    with pytest.raises(UserError, match=r"no label of --shift 'other.csv' .* has no label 'Yes'"):
        shift(YES, YES.assign(label="Yes"), ["yes"])


def test_a_shift_of_both_labels_decides() -> None:
    recipe, found = shift(YES, YES, ["yes"])
    assert (found.one_class, recipe.primary) == (False, "other")


def test_shifts_of_one_label_give_false_alarms_and_detection(tmp_path: Path) -> None:
    """Case 13, in one run: benign rows (false alarms), harmful rows (detection), and words as labels."""
    YES.to_csv("mine.csv", index=False)
    table(120, 5).assign(label="no").to_csv("benign.csv", index=False)
    table(120, 6).query("label == 1").assign(label="yes").to_csv("harmful.csv", index=False)
    command = ["compare", "mine.csv", "--positive", "yes", "--shift", "benign.csv", "harmful.csv"]
    ended = theodolite(*command, "--model", model_folder(tmp_path / "m"), *QUICK, "--out", "run")
    assert ended.code == 0, ended.stderr
    rows, scores = pd.read_csv("run/rows.csv").query("task == 'matched'"), pd.read_parquet("run/scores.parquet")
    scores = scores[scores["site"] == rows["site"].iloc[0]]
    for name, metric in (("benign", "fpr@p>0.5"), ("harmful", "tpr@p>0.5")):
        found = rows[(rows["dataset"] == name) & (rows["metric"] == metric) & (rows["seed"].astype(str) == "all")]
        flagged = scores[scores["dataset"] == name]["probability"] > 0.5
        assert found["value"].iloc[0] == pytest.approx(flagged.mean())
        assert "auroc" not in set(rows[rows["dataset"] == name]["metric"])
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "FPR at probability .5" in page
    assert "TPR at probability .5" in page


@pytest.mark.parametrize("positive", [1, [1], "1", (1.0,)])
def test_python_takes_positive_values_as_they_are(tmp_path: Path, positive: Any) -> None:
    frame = table(60).assign(label=lambda t: t["label"] * 2 - 1)
    plan = package.compare(
        frame,
        positive=positive,
        model=str(model_folder(tmp_path / "m")),
        methods=["difference_in_means"],
        sae="none",
        dry_run=True,
    )
    assert plan.rows == {"train": 60}


def test_another_spelling_of_a_positive_label_is_no_negative() -> None:
    """'Yes' beside --positive yes would count as 0."""
    rows = YES.assign(label=np.where(Y, np.where(np.arange(120) % 4 == 1, "Yes", "yes"), "no"))
    with pytest.raises(UserError, match=r"label 'Yes' would count as 0, and 'yes'.*name both"):
        labels(rows, "f.csv", positive=["yes"])
    assert labels(rows, "f.csv", positive=["yes", "Yes"]) == Y.tolist()


@pytest.mark.parametrize("strange", ["YES", "maybe"])
def test_a_shift_with_positive_labels_may_hold_no_unknown_negative(strange: str) -> None:
    other = YES.assign(label=np.where(Y, "yes", strange))
    with pytest.raises(UserError, match=rf"some labels of --shift 'other.csv' are not .* has no label '{strange}'"):
        shift(YES, other, ["yes"])


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One file of words whose groups are partly empty, with a shift of negatives: dry run, audit and Run."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("mapped")
        patch.chdir(folder)
        patch.setenv("THEODOLITE_CACHE", str(folder / "cache"))
        model_folder(folder / "m")
        YES.assign(who=[f"p{i // 2}" if i < 40 else "" for i in range(120)]).to_csv("mine.csv", index=False)
        table(120, 5).assign(label="no", who="q").to_csv("benign.csv", index=False)
        words = ["mine.csv", "--positive", "yes", "--group", "who"]
        how = ["--shift", "benign.csv", "--model", "m", *QUICK, "--out", "run"]
        yield {
            "audit": theodolite("data", "audit", *words),
            "dry run": theodolite("compare", *words, *how, "--dry-run"),
            "run": theodolite("compare", *words, *how),
            "notes": [n["text"] for n in json.loads(Path("run/manifest.json").read_text(encoding="utf-8"))["notes"]],
        }


@pytest.mark.parametrize("where", ["audit", "dry run", "run"])
def test_what_labels_count_as_and_rows_without_a_group_are_said(mapped: Any, where: str) -> None:
    ended = mapped[where]
    assert ended.code == 0, ended.stderr
    said = " ".join(ended.stdout.split())
    assert "abels of train count as 1: yes (60); 0: no (60)" in said
    assert "rows of train have no group: each is a group of its own" in said
    if where != "audit":
        assert "labels of benign count as 0: no (120)" in said
        assert "rows of benign have no group" not in said


def test_a_run_notes_them(mapped: Any) -> None:
    assert "labels of train count as 1: yes (60); 0: no (60)" in mapped["notes"]
    assert "rows of train have no group: each is a group of its own" in mapped["notes"]


@pytest.mark.parametrize("other", ["cafe\u0301", "caf\u00e9\u200b", "caf\u00e9\ufe0f", "\u2060CAF\u00c9"])
def test_a_label_that_only_looks_like_a_positive_one_is_no_negative(other: str) -> None:
    """Another Unicode form, or a character of no width: both words were printed alike, and one counted as 0."""
    rows = YES.assign(label=np.where(Y, np.where(np.arange(120) % 4 == 1, other, "caf\u00e9"), "no"))
    with pytest.raises(
        UserError, match=r"would count as 0, and 'caf\u00e9', which differs in what cannot be seen .*both"
    ):
        labels(rows, "f.csv", positive=["caf\u00e9"])
    assert labels(rows, "f.csv", positive=["caf\u00e9", other]) == Y.tolist()


@pytest.mark.parametrize("name", ["f.jsonl", "f.parquet"])
def test_a_list_of_labels_is_no_label(name: str) -> None:
    """Of a row with two labels, `a | b` counted as 0 beside --positive a."""
    rows = table(40).assign(label=[["a", "b"] if y else ["c"] for y in Y[:40]])
    rows.to_json(name, orient="records", lines=True) if name.endswith("jsonl") else rows.to_parquet(name)
    with pytest.raises(UserError, match=r"row 0 of column 'label' .* is an? (list|ndarray), and a label is one value"):
        sources.rows(Source(source="mine", file=name, label="label", positive=["a"]))
    with pytest.raises(UserError, match="a label is one value"):
        own.as_path(rows, Path("cache"))


def test_a_dotted_name_that_two_fields_come_to_is_refused() -> None:
    """The last of them was taken for both."""
    rows = [{"text": f"text {i}", "meta": {"label": i % 2}, "meta.label": 1 - i % 2} for i in range(4)]
    Path("f.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=r"a field 'meta.label' and, inside another, one of the same dotted name"):
        sources.rows(Source(source="mine", file="f.jsonl", label="meta.label"))
