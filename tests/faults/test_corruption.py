"""Damage to a finished store: found, named, repaired by redoing one unit, nothing else lost."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from theodolite.core.errors import UserError
from theodolite.store import Store

FIELDS = {"model": "tiny"}


def rows(unit: int) -> dict[str, np.ndarray]:
    return {"x": np.full((5, 3), unit, np.float32)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = Store.open(tmp_path / "store", FIELDS)
    for unit in range(3):
        store.write(unit, rows(unit))
    return tmp_path / "store"


def shard(folder: Path, unit: int) -> Path:
    return next((folder / "shards").glob(f"{unit:06d}-*"))


def assert_only_unit_1_is_lost(folder: Path) -> None:
    """The error names what to do, `repair` makes the unit missing, redoing it restores the store."""
    store = Store.open(folder, FIELDS)
    with pytest.raises(UserError, match="run the same command again"):
        store.read(1, framework="np")
    for unit in (0, 2):
        np.testing.assert_array_equal(store.read(unit, framework="np")["x"], rows(unit)["x"])
    store.repair()
    assert store.missing(3) == [1]
    store.write(1, rows(1))
    assert store.verify(deep=True) == []
    np.testing.assert_array_equal(store.read(1, framework="np")["x"], rows(1)["x"])


def test_every_flipped_byte_of_a_shard_is_found(folder: Path) -> None:
    path = shard(folder, 1)
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(UserError, match=f"damaged.*: delete {folder} and run the same command again"):
            Store.open(folder, FIELDS).read(1, framework="np")
    assert_only_unit_1_is_lost(folder)


@pytest.mark.parametrize("keep", [0, 1, 8, 60, -1])
def test_a_truncated_shard_is_found_without_hashing(folder: Path, keep: int) -> None:
    path = shard(folder, 1)
    path.write_bytes(path.read_bytes()[:keep])
    assert len(Store.open(folder, FIELDS).verify()) == 1
    assert_only_unit_1_is_lost(folder)


def test_a_missing_shard(folder: Path) -> None:
    shard(folder, 1).unlink()
    assert_only_unit_1_is_lost(folder)


def test_two_swapped_shards_are_both_found(folder: Path) -> None:
    one, two = shard(folder, 1), shard(folder, 2)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    store = Store.open(folder, FIELDS)
    assert store.verify() == []
    assert len(store.verify(deep=True)) == 2
    store.repair()
    assert store.missing(3) == [1, 2]


def test_a_deleted_commit_makes_its_unit_missing_and_its_shard_stray(folder: Path) -> None:
    (folder / "commits" / "000001.json").unlink()
    store = Store.open(folder, FIELDS)
    assert store.missing(3) == [1]
    assert ["never committed" in problem.text for problem in store.verify()] == [True]
    assert_only_unit_1_is_lost(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"unit": 1}', b"\xff\xfe"])
def test_a_damaged_commit(folder: Path, content: bytes) -> None:
    (folder / "commits" / "000001.json").write_bytes(content)
    assert_only_unit_1_is_lost(folder)


def test_a_commit_cannot_point_out_of_the_store(folder: Path, tmp_path: Path) -> None:
    """Repair removes what a commit names, so a name with a path in it is damage, not an instruction."""
    (tmp_path / "precious").write_bytes(b"keep me")
    commit = folder / "commits" / "000001.json"
    commit.write_text(commit.read_text().replace(shard(folder, 1).name, "../../precious"))
    Store.open(folder, FIELDS).repair()
    assert (tmp_path / "precious").read_bytes() == b"keep me"


def test_a_stray_temporary_file_is_ignored_and_repaired_away(folder: Path) -> None:
    stray = folder / "shards" / ".000001.safetensors.ab12cd34.tmp"
    stray.write_bytes(b"half a shard")
    store = Store.open(folder, FIELDS)
    assert store.missing(3) == []
    assert [problem.files for problem in store.repair()] == [(stray,)]
    assert store.verify(deep=True) == []


@pytest.mark.parametrize("content", [b"", b"{}", b'{"fields": {"model": "tiny"}, "protocol": 1, "key": "0"}', b"\xff"])
def test_a_damaged_manifest_is_refused(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        Store.open(folder, FIELDS)


def test_a_lost_manifest_is_refused(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(UserError, match="no manifest"):
        Store.open(folder, FIELDS)


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "disk full"), (errno.EROFS, "read-only")])
def test_a_full_or_read_only_disk_loses_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    store = Store.open(folder, FIELDS)

    def refuse(path: object, *more: object, **options: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError, match=words):
        store.write(3, rows(3))
    monkeypatch.undo()
    assert store.missing(4) == [3]
    assert store.verify(deep=True) == []
    store.write(3, rows(3))
    assert store.missing(4) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="a read-only folder does not stop root: run the tests as another user")
def test_a_folder_without_write_permission(folder: Path) -> None:
    (folder / "shards").chmod(0o555)
    with pytest.raises(UserError, match="read-only"):
        Store.open(folder, FIELDS).write(3, rows(3))
    (folder / "shards").chmod(0o755)


def test_writing_stops_in_the_middle_of_a_file_when_the_limit_is_reached(folder: Path) -> None:
    """A real partial write: the kernel takes some bytes and refuses the rest."""
    resource = pytest.importorskip("resource", reason="needs the limits and counts of POSIX, which Windows lacks")
    store = Store.open(folder, FIELDS)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(UserError, match="cannot write"):
            store.write(3, {"x": np.ones((50, 3), np.float32)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.missing(4) == [3]
    assert store.verify(deep=True) == []
