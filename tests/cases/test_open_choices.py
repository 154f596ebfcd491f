"""`--pooling auto` and `--positions auto`, alone and together, by command line and in Python, dry run included."""

import json
from pathlib import Path
from typing import Any

import pytest
from case_kit import QUICK, model_folder, table, theodolite

import theodolite as package


@pytest.mark.parametrize(
    "asked",
    [("--pooling", "auto"), ("--positions", "auto"), ("--pooling", "auto", "--positions", "auto")],
    ids=["pooling", "positions", "both"],
)
def test_what_is_left_open_is_chosen(asked: tuple[str, ...], tmp_path: Path) -> None:
    table(120).to_csv("mine.csv", index=False)
    table(60, 5).to_csv("other.csv", index=False)
    words = ["compare", "mine.csv", "--shift", "other.csv", "--model", model_folder(tmp_path / "m"), *QUICK, *asked]
    assert theodolite(*words, "--dry-run").code == 0
    ended = theodolite(*words, "--out", "run")
    assert ended.code == 0, ended.stderr
    manifest = json.loads(Path("run/manifest.json").read_text(encoding="utf-8"))
    chosen: dict[str, Any] = manifest["facts"]["pooling"]["chosen"]
    assert "auto" not in chosen.values()
    assert chosen == {name: manifest["recipe"][name] for name in chosen}


def test_python_takes_open_positions(tmp_path: Path) -> None:
    run = package.compare(
        table(120),
        positions="auto",
        model=str(model_folder(tmp_path / "m")),
        methods=["difference_in_means"],
        sae="none",
        seeds=2,
        out="run",
    )
    assert run.run.recipe["positions"] != "auto"
