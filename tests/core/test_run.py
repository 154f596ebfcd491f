"""A Run folder is whole or not a finished run; it never mixes two recipes and never loses a NaN."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from theodolite.core import atomic, run, run_tables
from theodolite.core.errors import UserError
from theodolite.core.run import PROTOCOL, ROW_COLUMNS, SCORE_COLUMNS, Run, differences

RECIPE = {"name": "weather", "question": "Does the text speak of rain?"}
ROW = {"method": "logistic", "task": "matched", "dataset": "drizzle", "metric": "auroc", "value": 0.875, "n": 12}


def filled(folder: Path, digest: str = "a" * 64, value: float = 0.875, seconds: float = 1.0) -> Run:
    made = Run.create(folder, RECIPE, digest)
    made.add_rows(
        [ROW | {"value": value, "seconds": seconds}, ROW | {"method": "lat", "value": math.nan, "n_unscored": 12}]
    )
    made.add_scores(
        pd.DataFrame({"row": ["r0", "r1"], "label": [0, 1], "score": [0.25, math.nan], "method": "logistic"})
    )
    made.finish()
    return made


def test_rows_and_scores_come_back_with_their_types_and_nan(tmp_path: Path) -> None:
    filled(tmp_path)
    back = Run.open(tmp_path)
    assert back.finished
    for found, columns in ((back.rows, ROW_COLUMNS), (back.scores, SCORE_COLUMNS)):
        wanted = {name: pd.Series(dtype=kind).dtype for name, kind in columns.items()}  # pandas 2 makes `str` an object
        assert dict(found.dtypes) == wanted
    assert back.rows["value"].tolist()[0] == 0.875
    assert math.isnan(back.rows["value"][1])
    assert back.rows["n_unscored"].tolist() == [0, 12]
    assert math.isnan(back.scores["score"][1])
    assert set(back.rows["run"]) == {back.id}
    assert pd.read_csv(tmp_path / "rows.csv", na_values="nan")["value"].isna().tolist() == [False, True]


def test_same_digest_reopens_and_adds_nothing(tmp_path: Path) -> None:
    made = filled(tmp_path)
    before = (tmp_path / "manifest.json").read_bytes()
    again = Run.create(tmp_path, RECIPE, "a" * 64)
    assert again.finished
    assert again.id == made.id
    assert (tmp_path / "manifest.json").read_bytes() == before
    with pytest.raises(AssertionError, match="is finished"):
        again.add_rows([ROW])


def test_another_recipe_is_refused_and_changes_no_byte(tmp_path: Path) -> None:
    filled(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    with pytest.raises(UserError, match="another recipe"):
        Run.create(tmp_path, RECIPE, "b" * 64)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


def test_force_replaces_a_run_but_spares_other_files(tmp_path: Path) -> None:
    filled(tmp_path).write_json("card", {"l0": 32})
    (tmp_path / "mine.txt").write_text("mine")
    fresh = Run.create(tmp_path, RECIPE, "b" * 64, force=True)
    fresh.withdraw()
    assert Run.open(tmp_path).finished  # what a bad request would replace is still there
    with pytest.raises(AssertionError, match="begin"):
        fresh.write_json("card", {})
    fresh.begin()
    assert not Run.open(tmp_path).finished
    assert fresh.read_json("card") is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.json", "mine.txt"]


@pytest.mark.parametrize("force", [False, True])
def test_files_that_belong_to_no_run_are_never_overwritten(tmp_path: Path, force: bool) -> None:
    (tmp_path / "rows.csv").write_text("mine")
    with pytest.raises(UserError, match=r"rows\.csv but no run"):
        Run.create(tmp_path, RECIPE, "a" * 64, force=force)
    assert (tmp_path / "rows.csv").read_text() == "mine"


def test_a_resumed_run_is_the_same_run_and_states_its_warnings_again(tmp_path: Path) -> None:
    first = Run.create(tmp_path, RECIPE, "a" * 64)
    first.note("truncated", 3, "texts cut")
    again = Run.create(tmp_path, RECIPE, "a" * 64)
    assert again.id == first.id
    assert again.notes == []


def test_settling_a_recipe_keeps_the_digest_of_what_was_asked_for(tmp_path: Path) -> None:
    made = Run.create(tmp_path, RECIPE, "a" * 64)
    made.settle(RECIPE | {"site": "blocks.17.resid_post"})
    made.finish()
    assert Run.open(tmp_path).recipe["site"] == "blocks.17.resid_post"
    assert Run.create(tmp_path, RECIPE, "a" * 64).finished
    with pytest.raises(AssertionError, match="is finished"):
        made.settle(RECIPE)


@pytest.mark.parametrize("content", [b"{", b"\xff"])
def test_a_broken_document_is_named(tmp_path: Path, content: bytes) -> None:
    made = filled(tmp_path)
    made.write_json("card", {"l0": 32})
    (tmp_path / "artefacts" / "card.json").write_bytes(content)
    with pytest.raises(UserError, match=r"artefacts/card\.json' is damaged \(.+\): restore it"):
        made.read_json("card")


def test_resuming_under_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Run.create(tmp_path, RECIPE, "a" * 64)
    monkeypatch.setattr(run, "versions", lambda: {**Run.open(tmp_path).manifest["versions"], "torch": "0.4.1"})
    with pytest.raises(UserError, match="another torch"):
        Run.create(tmp_path, RECIPE, "a" * 64)


def test_stopping_before_any_step_leaves_no_half_finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    for last in range(1, 200):
        steps, folder = 0, tmp_path / str(last)

        def stop_at_last(last: int = last) -> None:
            nonlocal steps
            steps += 1
            if steps == last:
                raise KeyboardInterrupt

        monkeypatch.setattr(atomic, "_step", stop_at_last)
        try:
            filled(folder)
            break
        except KeyboardInterrupt:
            monkeypatch.setattr(atomic, "_step", lambda: None)
            written = not (folder / "manifest.json").is_file() or not Run.open(folder).finished
            whole = written or len(Run.open(folder).rows) == 2
            assert whole, f"torn after step {last}"
            assert written or len(Run.open(folder).scores) == 2
            again = Run.create(folder, RECIPE, "a" * 64)
            if not again.finished:
                filled(folder)
            assert len(Run.open(folder).rows) == 2
    assert steps > 15, "the fault was injected nowhere"


@pytest.mark.parametrize("name", ["rows.parquet", "scores.parquet"])
def test_a_changed_file_is_named(tmp_path: Path, name: str) -> None:
    filled(tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    data[100] ^= 1
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=name):
        getattr(Run.open(tmp_path), name.removesuffix(".parquet"))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"protocol": 99}', "\x00"])
def test_a_damaged_manifest_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json"):
        Run.open(tmp_path)


def test_a_run_of_another_protocol_is_refused_by_number_and_left_alone(tmp_path: Path) -> None:
    """Names changed from protocol 1 to 2, and sentences became facts in protocol 3 (docs/renames.md)."""
    filled(tmp_path)
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest["protocol"] == PROTOCOL == 3
    path.write_text(json.dumps(manifest | {"protocol": 1}))
    words = r"has protocol 1, and this version reads 3: open it with the version of theodolite that wrote it, or run"
    with pytest.raises(UserError, match=words):
        Run.open(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    with pytest.raises(UserError, match="--force removes nothing"):
        Run.create(tmp_path, RECIPE, "a" * 64, force=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


def test_a_folder_without_manifest_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a Run folder"):
        Run.open(tmp_path)


def test_a_rerun_differs_in_nothing_but_time(tmp_path: Path) -> None:
    one, other = filled(tmp_path / "one"), filled(tmp_path / "other", seconds=9.0)
    assert differences(one, other) == []
    assert differences(one, filled(tmp_path / "third", value=0.875001)) == ["value"]


def test_notes_add_up_and_survive(tmp_path: Path) -> None:
    made = Run.create(tmp_path, RECIPE, "a" * 64)
    made.note("truncated", 2, "texts cut at 256 tokens")
    made.note("truncated", 3, "texts cut at 256 tokens")
    made.note("truncated", 1, "templates cut")
    made.add_rows([ROW])
    made.finish()
    assert [(n["count"], n["text"]) for n in Run.open(tmp_path).notes] == [
        (5, "texts cut at 256 tokens"),
        (1, "templates cut"),
    ]


def test_manifest_is_strict_json_and_names_no_host(tmp_path: Path) -> None:
    made = Run.create(tmp_path, RECIPE, "a" * 64)
    made.record("model", {"parameters": 135, "loss": math.inf})
    made.add_rows([ROW | {"params": {"b": 2, "a": 1}}])
    made.finish()

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    manifest = json.loads((tmp_path / "manifest.json").read_text(), parse_constant=refuse)
    assert manifest["facts"]["model"] == {"parameters": 135, "loss": None}
    assert manifest["versions"]["torch"]
    assert set(manifest["machine"]) == {"system", "processor", "cores", "memory_gib"}
    assert Run.open(tmp_path).rows["params"][0] == '{"a":1,"b":2}'


def test_rows_outside_the_table_are_our_own_bug(tmp_path: Path) -> None:
    made = Run.create(tmp_path, RECIPE, "a" * 64)
    with pytest.raises(AssertionError, match="unknown columns"):
        made.add_rows([ROW | {"accuracy": 1.0}])
    made.add_rows([ROW | {"task": "sites"}])  # no closed set: an analysis declares its own
    made.tasks = frozenset({"matched"})
    with pytest.raises(AssertionError, match="tasks are"):
        made.add_rows([ROW | {"task": "sites"}])


def test_a_run_without_the_later_columns_is_read_as_if_they_were_empty(tmp_path: Path) -> None:
    """Rows of a Run that was written before `strength` and `nats` existed; every other column is as it was written."""
    old = filled(tmp_path)
    written = old.rows.drop(columns=["strength", "nats"])
    content = run_tables.parquet(written)
    atomic.publish(tmp_path / "rows.parquet", content)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["files"]["rows.parquet"] = hashlib.sha256(content).hexdigest()
    del manifest["checksum"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    back = Run.open(tmp_path).rows
    assert list(back) == list(ROW_COLUMNS)
    assert back[["strength", "nats"]].dtypes.unique().tolist() == [np.dtype("float64")]
    assert back[["strength", "nats"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(back[list(written)], written)
    assert differences(filled(tmp_path / "new"), Run.open(tmp_path)) == []
