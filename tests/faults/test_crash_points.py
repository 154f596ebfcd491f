"""Die before every write, flush, rename and removal in turn: what is read is whole, and a restart completes."""

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from theodolite.core import atomic
from theodolite.core.atomic import is_temporary, publish
from theodolite.store import Store

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process, and Windows has no fork")
FIELDS = {"model": "tiny", "unit": 2}
N_UNITS = 2


@pytest.fixture(autouse=True)
def _several_writes_per_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard of some 300 bytes takes three writes, so that some deaths leave a torn temporary file."""
    monkeypatch.setattr(atomic, "CHUNK", 128)


def rows(unit: int) -> dict[str, np.ndarray]:
    return {"x": np.full((4, 3), unit, np.float32), "doc": np.arange(4)}


def harvest(folder: Path) -> None:
    store = Store.open(folder, FIELDS)
    for unit in store.missing(N_UNITS):
        store.write(unit, rows(unit))


def dies(step: int, work: Callable[[], object]) -> bool:
    """Run `work` in a forked process that dies at its `step`-th step; whether it did."""
    child = os.fork()
    if child == 0:
        atomic._steps, atomic._crash_at = itertools.count(1), step
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 137)
    return code == 137


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def torn(folder: Path) -> list[str]:
    """What a reader would be misled by: a finished unit whose rows are not the right ones."""
    if not (folder / "manifest.json").exists():
        return []
    store = Store.open(folder, FIELDS)
    wrong = [problem.text for problem in store.verify(deep=True) if "never committed" not in problem.text]
    different = [u for u in store.units() if not np.array_equal(store.read(u, framework="np")["x"], rows(u)["x"])]
    return wrong + [f"unit {unit}" for unit in different]


def test_harvest_survives_death_at_every_step(tmp_path: Path) -> None:
    harvest(tmp_path / "whole")
    whole = content(tmp_path / "whole")
    points = 0
    for step in itertools.count(1):
        folder = tmp_path / f"at-{step}"
        if not dies(step, lambda folder=folder: harvest(folder)):
            break
        points += 1
        assert torn(folder) == []
        harvest(folder)
        Store.open(folder, FIELDS).repair()
        assert content(folder) == whole
    assert points > 20
    assert content(tmp_path / f"at-{step}") == whole


def test_repair_survives_death_at_every_step(tmp_path: Path) -> None:
    harvest(tmp_path / "whole")
    whole = content(tmp_path / "whole")
    for step in itertools.count(1):
        folder = tmp_path / f"at-{step}"
        harvest(folder)
        shard = next((folder / "shards").glob("000001-*"))
        shard.write_bytes(shard.read_bytes()[:-1] + b"!")
        died = dies(step, lambda folder=folder: Store.open(folder, FIELDS).repair())
        Store.open(folder, FIELDS).repair()
        assert torn(folder) == []
        harvest(folder)
        assert content(folder) == whole
        if not died:
            break
    assert step > 4


def test_the_same_deaths_tear_a_writer_that_writes_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness has teeth: without the temporary file many deaths leave what reads as finished, or breaks."""
    monkeypatch.setattr(atomic, "_temporary", lambda target, mode: target)
    monkeypatch.setattr(os, "replace", lambda source, target: None)
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: None)
    bad = 0
    for step in itertools.count(1):
        folder = tmp_path / f"at-{step}"
        if not dies(step, lambda folder=folder: harvest(folder)):
            break
        try:
            bad += torn(folder) != []
        except ValueError:
            bad += 1
    assert bad >= 4


def test_publish_shows_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    old, new = b"o" * 300, b"n" * 300
    seen = set()
    for step in itertools.count(1):
        path = tmp_path / f"at-{step}" / "file"
        publish(path, old)
        died = dies(step, lambda path=path: publish(path, new))
        seen.add(path.read_bytes())
        assert path.read_bytes() in (old, new)
        assert all(is_temporary(other) for other in path.parent.iterdir() if other != path)
        if not died:
            break
    assert seen == {old, new}
