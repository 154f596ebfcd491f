"""A cache in which every file is damaged gives the numbers of an empty one, and the Run says that it was damaged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from case_kit import QUICK, model_folder, table, theodolite

from theodolite.core.run import Run, differences


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if how == "flipped" else content[: len(content) // 2])


@pytest.fixture
def command(tmp_path: Path) -> tuple[object, ...]:
    table(80).to_csv(tmp_path / "mine.csv", index=False)
    return ("compare", tmp_path / "mine.csv", "--model", model_folder(tmp_path / "model"), *QUICK, "--out")


def test_a_wholly_damaged_cache_is_made_again(tmp_path: Path, command: tuple[object, ...]) -> None:
    assert theodolite(*command, "first").code == 0
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert {"views", "fits"} <= {path.relative_to(tmp_path / "cache").parts[0] for path in files}
    for how, out in (("flipped", "second"), ("cut", "third")):
        for path in files:
            damage(path, how)
        ended = theodolite(*command, out)
        assert ended.code == 0
        assert differences(Run.open("first"), Run.open(out)) == []
        notes = json.loads(Path(out, "manifest.json").read_text())["notes"]
        kinds = {note["text"].rpartition(": ")[2] for note in notes if note["kind"] == "remade"}
        assert kinds == {"views", "fits", "labelled rows", "harvested rows"}
        assert "made again" in ended.stdout.replace("\n", " ")
        reader = Path(out, "artefacts", "readers", "difference_in_means", "model.safetensors")
        assert reader.read_bytes() == Path("first", *reader.parts[1:]).read_bytes()


def test_what_a_killed_write_left_is_swept_and_enters_no_run(tmp_path: Path, command: tuple[object, ...]) -> None:
    assert theodolite(*command, "first").code == 0
    killed = (
        "import os; from theodolite.core import atomic; from pathlib import Path; import sys\n"
        "for path in sys.argv[1:]: atomic._temporary(Path(path)).write_bytes(b'half')"
    )
    homes = [path.parent / "x" for path in (tmp_path / "cache").rglob("config.json")]  # of readers
    homes.append(next((tmp_path / "cache" / "views").glob("*/harvest")) / "x")
    subprocess.run([sys.executable, "-c", killed, *map(str, homes)], check=True, env=os.environ)
    assert len(list((tmp_path / "cache").rglob("*.tmp"))) == len(homes) >= 2
    assert theodolite(*command, "second").code == 0
    assert not list((tmp_path / "cache").rglob("*.tmp")) + list(Path("second").rglob("*.tmp"))
