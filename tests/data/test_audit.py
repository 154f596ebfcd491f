import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from toy_rows import recipe_of, sentences

from theodolite.core.errors import UserError
from theodolite.core.recipe import Shift, Source
from theodolite.data import concept
from theodolite.data.audit import audit, audit_file
from theodolite.data.verify import verify

LABELS = [1, 0] * 40


def table(n: int = 80, **columns: object) -> pd.DataFrame:
    return pd.DataFrame({"text": sentences(n, 0), "label": (LABELS * 2)[:n], **columns})


def test_a_file_is_audited_without_a_model(tmp_path: Path) -> None:
    rows = table()
    rows.loc[len(rows)] = [rows["text"][0], 1]
    rows.loc[len(rows)] = [rows["text"][3], 1]
    rows.loc[rows["label"] == 1, "text"] += " indeed"
    rows.to_csv(tmp_path / "mine.csv", index=False)
    found = audit_file(tmp_path / "mine.csv")
    (overview,) = found.overviews
    assert (overview.n, overview.n_positive, overview.sources) == (81, 41, {"mine": (40, 41)})
    assert [(count.cause, count.n) for count in overview.lost] == [("duplicate", 1)]
    assert found.shortcuts.shortcuts[0].name == "indeed"
    assert {b.feature for b in found.baselines} == {"length", "surface", "words", "characters"}


def test_the_audit_is_json(tmp_path: Path, write_source: Callable[..., Source]) -> None:
    train, shift = (write_source(name, sentences(80, seed), LABELS) for seed, name in enumerate(("a", "b")))
    found = concept.load(recipe_of([train], shifts={"later": Shift(rows=[shift], note="a note")}))
    plain = audit(found.train, found.shifts, n_permutations=50).to_json()
    assert json.loads(json.dumps(plain))["overviews"][1]["note"] == "a note"
    assert plain["shortcuts"]["n_permutations"] == 50
    assert {b["scored_on"] for b in plain["baselines"]} == {"train", "later"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (table(80).assign(label=1), "0 usable rows of label 0"),
        (table(30), "15 usable rows of label 0"),
        (table(80).assign(label="yes"), "labels must be 0 or 1"),
        (table(80).assign(label=[None, *LABELS[1:]]), "1 labels in column 'label' are missing"),
        (table(80).drop(columns="label"), "unknown column of source 'mine' 'label'"),
        (table(80).assign(text=" "), "0 usable rows of label 0.*rows left out: no text: 80"),
    ],
    ids=["one class", "too few", "words as labels", "missing label", "no column", "no text"],
)
def test_bad_files_give_one_clear_error(tmp_path: Path, content: pd.DataFrame, problem: str) -> None:
    content.to_csv(tmp_path / "mine.csv", index=False)
    with pytest.raises(UserError, match=problem):
        audit_file(tmp_path / "mine.csv")


def test_a_group_column_keeps_rows_together(tmp_path: Path) -> None:
    table(80, user=[f"u{i // 4}" for i in range(80)]).to_csv(tmp_path / "mine.csv", index=False)
    assert audit_file(tmp_path / "mine.csv", group="user").overviews[0].n_clusters == 20
    with pytest.raises(UserError, match="no column 'writer'"):
        audit_file(tmp_path / "mine.csv", group="writer")


def test_verify_names_every_source_that_cannot_be_read(write_source: Callable[..., Source]) -> None:
    good = write_source("good", sentences(40, 0), LABELS[:40])
    gone = good.model_copy(update={"source": "gone", "file": "/nowhere/gone.jsonl"})
    first, second = verify(recipe_of([good], shifts={"later": Shift(rows=[gone])}))
    assert (first.n, first.labels, first.problem) == (40, {"0": 20, "1": 20}, "")
    assert (second.dataset, second.n) == ("later", 0)
    assert "no file '/nowhere/gone.jsonl'" in second.problem
