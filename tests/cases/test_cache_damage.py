"""A cache in which every file is damaged gives the numbers of an empty one, and the Run says that it was damaged."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from case_kit import QUICK, damage, table, theodolite, workplace

from theodolite.core import atomic
from theodolite.core.run import Run, differences

COMMAND = ("compare", "mine.csv", "--model", "m", *QUICK, "--out")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a Run and the cache that it left."""
    with workplace(tmp_path_factory.mktemp("compared")) as folder:
        table(80).to_csv("mine.csv", index=False)
        assert theodolite(*COMMAND, "first").code == 0
        yield folder


@pytest.fixture(autouse=True)
def _copied(compared: Path, tmp_path: Path, _own_cache: None) -> None:
    shutil.copytree(compared, tmp_path, dirs_exist_ok=True)


def test_a_wholly_damaged_cache_is_made_again(tmp_path: Path) -> None:
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert {"views", "fits"} <= {path.relative_to(tmp_path / "cache").parts[0] for path in files}
    for how, out in (("flipped", "second"), ("cut", "third")):
        for path in files:
            damage(path, how)
        ended = theodolite(*COMMAND, out)
        assert ended.code == 0
        assert differences(Run.open("first"), Run.open(out)) == []
        notes = json.loads(Path(out, "manifest.json").read_text())["notes"]
        kinds = {note["text"].rpartition(": ")[2] for note in notes if note["kind"] == "remade"}
        assert kinds == {"views", "fits", "labelled rows", "harvested rows"}
        assert "made again" in ended.stdout.replace("\n", " ")
        reader = Path(out, "artefacts", "readers", "difference_in_means", "model.safetensors")
        assert reader.read_bytes() == Path("first", *reader.parts[1:]).read_bytes()


def test_what_a_killed_write_left_is_swept_and_enters_no_run(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    homes = [path.parent for path in (tmp_path / "cache").rglob("config.json")]  # of readers
    homes.append(next((tmp_path / "cache" / "views").glob("*/harvest")))
    for home in homes:
        (home / f".config.json.{atomic._host()}-{ended.pid}-0123abcd.tmp").write_bytes(b"half")
    assert len(list((tmp_path / "cache").rglob("*.tmp"))) == len(homes) >= 2
    assert theodolite(*COMMAND, "second").code == 0
    assert not list((tmp_path / "cache").rglob("*.tmp")) + list(Path("second").rglob("*.tmp"))
