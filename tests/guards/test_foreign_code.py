"""No file of a Run, dictionary or model names code that is run: folders made by somebody else are data."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from case_kit import QUICK, Ended, model_folder, table, theodolite, workplace

from theodolite.core.run import Run

EVIL = """
from pathlib import Path
Path({marker!r}).touch()
from theodolite.readers.difference_in_means import DifferenceInMeans
class Evil(DifferenceInMeans):
    pass
class Config:
    pass
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a finished Run, its model, and a file that leaves a mark when it is imported."""
    with workplace(tmp_path_factory.mktemp("foreign")) as folder:
        table().to_csv("mine.csv", index=False)
        (folder / "evil.py").write_text(EVIL.format(marker=str(folder / "ran")))
        done = theodolite("compare", "mine.csv", "--model", "m", *QUICK, "--out", "run")
        assert done.code == 0, done.stderr
        yield folder


@pytest.fixture
def run(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THEODOLITE_CACHE", str(place / "cache"))
    monkeypatch.chdir(place)
    (place / "ran").unlink(missing_ok=True)
    for name in [name for name in sys.modules if name.startswith("evil")]:  # or a second import would leave no mark
        del sys.modules[name]
    return Path(shutil.copytree(place / "run", tmp_path / "run"))


def forged(run: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit the manifest as an attacker does: with every hash in it made right again."""
    manifest = json.loads((run / "manifest.json").read_text())
    edit(manifest)
    manifest.pop("checksum", None)
    files = {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in manifest["files"]}
    (run / "manifest.json").write_text(json.dumps(manifest | {"files": files}))


def edited(path: Path, **changes: Any) -> None:
    config = json.loads(path.read_text())
    about = config["about"] | changes.pop("about", {})
    path.write_text(json.dumps(config | changes | {"about": about}))


def every_command(run: Path) -> list[Ended]:
    """All commands that open a Run, one after the other."""
    commands = [
        ("read", "old mill", "--run", run),
        ("read", "old mill", "--run", run, "--method", "difference_in_means"),
        ("read", "--in", "mine.csv", "--run", run, "--show-text"),
        ("report", run),
        ("report", run, run, "--format", "csv"),
        ("compare", "mine.csv", "--model", "m", *QUICK, "--out", run),
    ]
    return [theodolite(*words) for words in commands]


@pytest.mark.parametrize("spec", ["{place}/evil.py:Evil", "evil.py:Evil", "evil.py"])
def test_a_reader_that_names_a_file_is_not_imported(place: Path, run: Path, spec: str) -> None:
    spec = spec.format(place=place)
    origin = f"sha256:{hashlib.sha256((place / 'evil.py').read_bytes()).hexdigest()}"
    for config in run.glob("artefacts/readers/*/config.json"):
        edited(config, method="evil", origin=origin, about={"method": spec})

    def edit(manifest: dict[str, Any]) -> None:
        manifest["recipe"]["methods"] = [spec]
        manifest["recipe"]["contrasts"] = [{"method": spec, "than": spec}]

    forged(run, edit)
    first, *_ = every_command(run)
    assert not (place / "ran").exists()
    assert first.code == 2
    named = spec.partition(":")[2] or "Class"
    assert f"theodolite read --run {run} --method evil.py:{named}" in first.stderr
    given = theodolite("read", "old mill", "--run", run, "--method", "evil.py:Evil")  # the user's own word
    assert given.code == 0, given.stderr
    assert (place / "ran").exists()


def test_a_file_is_hashed_before_it_is_imported(place: Path, run: Path, tmp_path: Path) -> None:
    for config in run.glob("artefacts/readers/*/config.json"):
        edited(config, method="evil", origin="sha256:" + "0" * 64, about={"method": "evil.py:Evil"})
    forged(run, lambda manifest: None)
    given = theodolite("read", "old mill", "--run", run, "--method", "evil.py:Evil")
    assert given.code == 2
    assert "give that file" in given.stderr
    assert not (place / "ran").exists()


@pytest.mark.parametrize("name", ["evil", "evil.py", "os", "theodolite.readers.ridge", "../../evil"])
def test_a_reader_finds_only_installed_methods(place: Path, run: Path, name: str) -> None:
    for config in run.glob("artefacts/readers/*/config.json"):
        edited(config, method=name)
    forged(run, lambda manifest: None)
    ended = theodolite("read", "old mill", "--run", run)
    assert ended.code == 2
    assert "unknown method" in ended.stderr
    assert not (place / "ran").exists()


AGAIN = ("compare", "mine.csv", "--model", "m", *QUICK[:-1], "3", "--force", "--out")


@pytest.mark.parametrize(
    ("name", "folder", "command"),
    [
        ("report.html", False, ("report",)),
        ("exports", True, ("report", "--format", "csv", "--runs")),
        ("rows.csv", False, AGAIN),
        ("manifest.json", False, AGAIN),
        ("artefacts", True, AGAIN),
        ("artefacts/readers", True, AGAIN),
    ],
)
def test_a_link_in_a_run_is_neither_written_through_nor_followed(
    run: Path, tmp_path: Path, name: str, folder: bool, command: tuple[str, ...]
) -> None:
    precious = tmp_path / "precious"
    file = precious / "report.csv" if folder else precious
    file.parent.mkdir(exist_ok=True)
    content = (run / name).read_text() if name == "manifest.json" else "mine"
    file.write_text(content)
    shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink(missing_ok=True)
    os.symlink(precious, run / name)
    ended = theodolite(*command, run)
    assert ended.code == 2
    assert "is a symbolic link" in ended.stderr
    assert file.read_text() == content


def test_texts_come_from_the_cache_only(run: Path, tmp_path: Path) -> None:
    table().assign(id="x").to_parquet(tmp_path / "secret.parquet")
    for place in (str(tmp_path), "../../..", "views/../.."):
        forged(run, lambda manifest, place=place: manifest["facts"].update(read_from=[place]))
        with pytest.raises(ValueError, match="which is not in the cache"):
            Run.open(run).texts()


def test_a_model_folder_with_code_is_refused(place: Path, run: Path, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "coded")
    shutil.copy(place / "evil.py", folder / "evil.py")
    config = json.loads((folder / "config.json").read_text())
    coded = {"auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Evil"}, "model_type": "evil"}
    (folder / "config.json").write_text(json.dumps(config | coded))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps(tokenizer | {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}})
    )
    ended = theodolite("compare", "mine.csv", "--model", folder, *QUICK, "--out", tmp_path / "out")
    assert ended.code == 2, ended.stderr
    assert not (place / "ran").exists()
    (folder / "config.json").write_text(json.dumps(config))  # the tokenizer alone
    theodolite("compare", "mine.csv", "--model", folder, *QUICK, "--out", tmp_path / "out")
    assert not (place / "ran").exists()


def test_pickled_weights_beside_another_safetensors_are_not_opened(place: Path, run: Path, tmp_path: Path) -> None:
    import torch

    folder = model_folder(tmp_path / "pickled")
    weights = folder / "model.safetensors"
    weights.rename(folder / "other.safetensors")
    torch.save({}, folder / "pytorch_model.bin")
    ended = theodolite("compare", "mine.csv", "--model", folder, *QUICK, "--out", tmp_path / "out")
    assert ended.code == 2
    assert "safetensors" in ended.stderr


def test_a_dictionary_that_names_a_file_is_not_imported(place: Path, run: Path, tmp_path: Path) -> None:
    import torch

    from theodolite.dictionaries import native
    from theodolite.dictionaries.variants.topk import TopK

    trained = TopK(32, width=64, k=4, seed=0).fit([torch.randn(64, 32)]).dictionary()
    folder = native.save(trained, tmp_path / "sae")
    info = json.loads((folder / "config.json").read_text())
    for key in ("variant", "class", "file", "label", "activation"):
        changed = info | {key: f"{place}/evil.py:Evil"}
        (folder / "config.json").write_text(json.dumps(changed))
        theodolite(
            "compare", "mine.csv", "--model", "m", *QUICK, "--sae", folder, "--out", tmp_path / "out", "--dry-run"
        )
        assert not (place / "ran").exists()
