"""`--force` removes what a Run wrote and nothing else; one process writes a Run; no link leads out of it."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from theodolite.core import run_folder
from theodolite.core.documents import wrong_manifest
from theodolite.core.errors import UserError
from theodolite.core.run import PROTOCOL, Run

RECIPE = {"name": "weather"}
ROW = {"method": "logistic", "task": "matched", "dataset": "drizzle", "metric": "auroc", "value": 0.875}


def finished(folder: Path) -> Run:
    run = Run.create(folder, RECIPE, "a" * 64)
    run.add_rows([ROW])
    run.add_scores(pd.DataFrame({"row": ["r"], "label": [0], "score": [0.5], "method": "logistic"}))
    run.write_json("audit", {"n": 1})
    run.write_json("further", {"n": 1})
    run.write_table("selection", pd.DataFrame({"x": [1]}))
    source = folder.parent / "reader"
    source.mkdir(exist_ok=True)
    (source / "config.json").write_text("{}")
    (source / "model.safetensors").write_bytes(b"x")
    (source / ".config.json.ab12cd34.tmp").write_bytes(b"half")
    run.copy_in({name: source / name for name in ("config.json", "model.safetensors")}, "artefacts/readers/logistic")
    run.write_page("report.html", b"<html>")
    run.write_page("exports/report.csv", b"a")
    run.write_page("exports/figures/forest.svg", b"<svg>")
    run.finish()
    return run


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_force_removes_every_file_of_a_run_and_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    finished(folder)
    others = {
        "notes.txt",
        "artefacts/mine.json",
        "artefacts/readers/logistic/why.md",
        "exports/figures/a.png",
        "x/y.csv",
    }
    for name in others:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text("mine")
    (folder / "artefacts" / "readers" / "logistic" / ".config.json.00ff00ff.tmp").write_text("half")
    fresh = Run.create(folder, RECIPE, "b" * 64, force=True)
    fresh.begin()
    assert files(folder) == others | {"manifest.json"}
    assert not (folder / "artefacts" / "selection_rules").exists()


def test_force_leaves_no_empty_folder(tmp_path: Path) -> None:
    finished(tmp_path / "run")
    Run.create(tmp_path / "run", RECIPE, "b" * 64, force=True).begin()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    "manifest",
    [
        "{}",
        "[]",
        "not json",
        '{"protocol": 3}',
        '{"protocol": 3, "digest": "' + "a" * 64 + '"}',
        '{"name": "an app", "manifest_version": 3, "version": "1.0"}',
        '{"protocol": 3, "digest": "x", "id": "weather-x-", "recipe": {"name": "weather"}, "finished": null}',
    ],
)
def test_force_spares_a_folder_with_the_manifest_of_another_program(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    (tmp_path / "rows.csv").write_text("mine")
    (tmp_path / "artefacts").mkdir()
    (tmp_path / "artefacts" / "audit.json").write_text("mine")
    before = {name: (tmp_path / name).read_text() for name in files(tmp_path)}
    with pytest.raises(UserError, match="--force removes nothing"):
        Run.create(tmp_path, RECIPE, "b" * 64, force=True)
    assert {name: (tmp_path / name).read_text() for name in files(tmp_path)} == before


def test_a_manifest_cannot_name_a_file_outside_for_removal(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    finished(folder)
    precious = tmp_path / "precious.json"
    precious.write_text("mine")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest.pop("checksum")
    manifest["files"] |= {"../precious.json": "0", "artefacts/../../precious.json": "0", str(precious): "0"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    Run.create(folder, RECIPE, "b" * 64, force=True).begin()
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("link", ["artefacts/readers/mine", "artefacts/mine.json", "exports/figures/mine.svg"])
def test_a_link_below_is_not_followed(tmp_path: Path, link: str) -> None:
    folder, precious = tmp_path / "run", tmp_path / "precious"
    finished(folder)
    precious.mkdir()
    for name in ("config.json", "model.safetensors", ".config.json.00ff00ff.tmp"):
        (precious / name).write_text("mine")
    os.symlink(precious, folder / link)
    Run.create(folder, RECIPE, "b" * 64, force=True).begin()
    assert sorted(path.name for path in precious.iterdir()) == [
        ".config.json.00ff00ff.tmp",
        "config.json",
        "model.safetensors",
    ]


def test_temporary_files_never_enter_a_run(tmp_path: Path) -> None:
    finished(tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.tmp"))
    left = tmp_path / "run" / ".rows.csv.0123abcd.tmp"
    left.write_text("half")
    with Run.open(tmp_path / "run").alone():
        assert not left.exists()


def test_only_the_unfinished_files_of_a_run_are_swept(tmp_path: Path) -> None:
    """Other programs write `.X.tmp` too, and our own writes make files that are no part of a Run."""
    finished(tmp_path)
    ours = {
        ".rows.csv.0a1b2c-77-0123abcd.tmp",
        "artefacts/.further.json.0a1b2c-77-0123abcd.tmp",
        "artefacts/readers/logistic/.config.json.0a1b2c-77-0123abcd.tmp",
        "exports/.report.csv.0a1b2c-77-0123abcd.tmp",
    }
    others = {
        ".rows.csv.tmp",
        ".notes.txt.tmp",
        "artefacts/.mine.tmp",
        "exports/figures/.a.svg.swp.tmp",
        ".notes.txt.0a1b2c-77-0123abcd.tmp",
        "artefacts/.rows.csv.0a1b2c-77-0123abcd.tmp",
    }
    before = files(tmp_path)
    for name in ours | others:
        (tmp_path / name).write_text("half")
    with Run.open(tmp_path).alone():
        assert files(tmp_path) == before | others


def test_a_second_process_is_refused_while_one_writes(tmp_path: Path) -> None:
    code = f"from theodolite.core.run import Run\nwith Run.open({str(tmp_path)!r}).alone(): pass"
    run = Run.create(tmp_path, RECIPE, "a" * 64)

    def other() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    with run.alone():
        assert "another process is writing the run" in other().stderr
    assert other().returncode == 0


def test_files_to_share_are_readable_and_those_of_this_machine_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o022)
    try:
        run = Run.create(tmp_path / "run", RECIPE | {"model": "/a/m"}, "a" * 64, paths={"/a/m": "m"})
        run.finish()
    finally:
        os.umask(before)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "run").iterdir()}
    assert modes == dict.fromkeys(("manifest.json", "rows.csv", "rows.parquet", "scores.parquet"), 0o644) | {
        "local.json": 0o600
    }


@pytest.mark.parametrize(
    "change", [{"digest": "x"}, {"protocol": PROTOCOL - 1}, {"id": "other-aaaaaaaa-1"}, {"recipe": {"name": "x"}}]
)
def test_a_manifest_is_one_of_ours_by_protocol_digest_and_id(tmp_path: Path, change: dict[str, Any]) -> None:
    manifest = Run.create(tmp_path, RECIPE, "a" * 64).manifest
    assert run_folder.is_run(manifest, PROTOCOL)
    assert not run_folder.is_run(manifest | change, PROTOCOL)


SHAPES: list[tuple[str, Any]] = [
    ("id", 3),
    ("recipe", []),
    ("recipe", {}),
    ("facts", None),
    ("notes", [3]),
    ("notes", [{"kind": "x"}]),
    ("facts", {"model": 3}),
    ("facts", {"protocol": []}),
    ("facts", {"fvu": "x"}),
    ("facts", {"labels": "x"}),
    ("stages", {}),
    ("files", {"rows.parquet": 3}),
    ("command", None),
    ("machine", "x"),
    ("versions", 1),
    ("finished", 5),
    ("machine", {}),
    ("versions", {}),
    ("notes", [{"kind": "x", "count": "3", "text": "y"}]),
    ("stages", [{"stage": "x", "seconds": "1", "peak_mb": 1.0}]),
]


@pytest.mark.parametrize(("name", "value"), SHAPES)
def test_a_manifest_of_another_shape_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    finished(tmp_path / "run")
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text())
    assert wrong_manifest(manifest) is None
    del manifest["checksum"]
    path.write_text(json.dumps(manifest | {name: value}))
    with pytest.raises(UserError, match=r"manifest\.json' is not what this run wrote"):
        Run.open(tmp_path / "run")


def test_a_changed_number_in_a_manifest_is_found(tmp_path: Path) -> None:
    finished(tmp_path / "run")
    path = tmp_path / "run" / "manifest.json"
    text = path.read_text()
    assert '"cores": ' in text
    path.write_text(text.replace('"cores": ', '"cores": 1'))
    with pytest.raises(UserError, match="is not what this run wrote"):
        Run.open(tmp_path / "run")


def test_an_export_does_not_replace_a_file_that_a_run_is_made_of(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    for name in ("manifest.json", "rows.csv", "scores.parquet"):
        with pytest.raises(UserError, match=f"{name}' is a file of the run in .*: choose another --out"):
            run_folder.refuse_to_replace(run.folder / name)
    for place in ("report.html", "exports/report.csv", "mine.csv", "../rows.csv"):
        run_folder.refuse_to_replace(run.folder / place)


def test_a_manifest_as_deep_as_the_stack_is_one_line(tmp_path: Path) -> None:
    """It could be read, and its checksum could not be made."""
    path = tmp_path / "manifest.json"
    for depth in range(500, 1000, 10):
        path.write_text(f'{{"protocol": 3, "deep": {"[" * depth}{"]" * depth}}}')
        with pytest.raises(UserError, match=r"manifest\.json' is (damaged|not what this run wrote)"):
            Run.open(tmp_path)
