"""A user's paths do not stand in what may be passed on, and a Run without `local.json` says which one is missing."""

import json
from pathlib import Path

import pandas as pd
import pytest

from theodolite.core.errors import UserError
from theodolite.core.local_paths import LocalPaths, shared_command, without_folders
from theodolite.core.run import Run

HOME = "/home/me/secret"


def test_only_whole_paths_are_replaced() -> None:
    local = LocalPaths({f"{HOME}/m": "m", f"{HOME}/m/sae": "sae", f"{HOME}/data.csv": "data.csv"})
    for text, shared in {
        f"{HOME}/m": "m",
        f"read {HOME}/m.": "read m.",
        f"read {HOME}/m, twice": "read m, twice",
        f"logistic@latents [{HOME}/m/sae]": "logistic@latents [sae]",
        f"data {HOME}/data.csv": "data data.csv",
        f"{HOME}/model2": f"{HOME}/model2",
        f"{HOME}/m.bak": f"{HOME}/m.bak",
        f"/backup{HOME}/m": f"/backup{HOME}/m",
    }.items():
        assert local.shared(text) == shared
    assert local.shared({f"data {HOME}/m": [f"{HOME}/m", 3, None]}) == {"data m": ["m", 3, None]}


def test_two_paths_of_one_name_keep_different_names() -> None:
    local = LocalPaths({"/a/t.csv": "t.csv", "/b/t.csv": "t.csv", "/c/t-2.csv": "t-2.csv"})
    assert local.names == {"/a/t.csv": "t.csv", "/b/t.csv": "t-2.csv", "/c/t-2.csv": "t-2-2.csv"}


def test_a_command_keeps_words_and_loses_folders() -> None:
    typed = (
        "theodolite compare /a/x.csv --model=/a/m --sae hub:O/R/P ../s --method 'l/my.py:My(k=3)' --text a/b --out ~/r"
    )
    assert shared_command(typed) == (
        "theodolite compare x.csv --model=m --sae hub:O/R/P s --method 'my.py:My(k=3)' --text a/b --out r"
    )


def test_notes_that_quote_an_error_lose_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", "/var/my cache")
    assert without_folders("cannot read '/var/my cache/views/x.json': gone") == "cannot read 'views/x.json': gone"
    assert (
        without_folders("no /data/alice/x.csv; 3/4 of a/b, https://x.org/a/b")
        == "no x.csv; 3/4 of a/b, https://x.org/a/b"
    )


def everything(folder: Path) -> str:
    parts = [path.read_bytes().decode("latin-1") for path in sorted(folder.rglob("*")) if path.is_file()]
    tables = [pd.read_parquet(path).to_string() for path in folder.rglob("*.parquet")]
    return "\n".join([*parts, *tables])


def test_nothing_a_run_writes_holds_the_path_but_local_json(tmp_path: Path) -> None:
    path, method = f"{HOME}/m", "lab/of/alice/mine.py:Mine"
    recipe = {"name": "r", "model": path, "methods": [method], "train": [{"file": f"{HOME}/d.csv"}]}
    made = Run.create(
        tmp_path / "run",
        recipe,
        "a" * 64,
        command=f"theodolite compare {HOME}/d.csv --model {path}",
        paths={path: "m", f"{HOME}/d.csv": "d.csv", "lab/of/alice/mine.py": "mine.py"},
    )
    made.settle(recipe)
    made.record("model", {"name": path, method: 1})
    made.note("unchecked", 1, f"because {HOME}/other/x.json is gone")
    made.write_json("verdict", {"sentence": f"{method} on {path}."})
    made.write_table("selection", pd.DataFrame({"method": [method], "n": [1]}))
    made.add_rows([{"task": "matched", "method": method, "model": path, "dictionary": f"{path}, {path}"}])
    made.add_scores(pd.DataFrame({"row": ["r"], "label": [0], "score": [0.5], "method": method}))
    source = tmp_path / "reader"
    source.mkdir()
    (source / "config.json").write_text(json.dumps({"about": {"method": method}}))
    made.copy_in({"config.json": source / "config.json"}, "artefacts/readers/x")
    made.finish()
    assert json.loads((tmp_path / "run" / "local.json").read_text())["paths"]["m"] == path
    (tmp_path / "run" / "local.json").unlink()
    written = everything(tmp_path / "run")
    assert "secret" not in written
    assert "alice" not in written
    assert "mine.py:Mine" in written
    back = Run.open(tmp_path / "run")
    assert back.rows["method"][0] == "mine.py:Mine"
    with pytest.raises(UserError, match=r"read 'm' from a path of the machine .* give it with --model PATH"):
        back.local_path("m", "give it with --model PATH")
    assert back.local_path("org/model", "") == "org/model"


@pytest.mark.parametrize("content", ["[]", '{"paths": []}', '{"paths": {"m": 3}}', "{", "\xff"])
def test_a_damaged_local_json_is_named(tmp_path: Path, content: str) -> None:
    Run.create(tmp_path, {"name": "r", "model": "/a/m"}, "a" * 64, paths={"/a/m": "m"})
    (tmp_path / "local.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"local\.json"):
        Run.open(tmp_path).local_path("m", "give it with --model PATH")
