"""A file appears whole or not at all; crashes at every step are in tests/faults."""

import errno
import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from theodolite.core import atomic
from theodolite.core.atomic import file_sha256, is_temporary, publish, read_json, remove
from theodolite.core.errors import UserError


def test_publish_writes_bytes_into_new_folders_and_replaces_them(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.bin"
    publish(path, b"one")
    publish(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["file.bin"]


def test_who_has_the_old_file_open_keeps_reading_it_whole(tmp_path: Path) -> None:
    publish(tmp_path / "file", b"old" * 100)
    with open(tmp_path / "file", "rb") as reader:
        publish(tmp_path / "file", b"new")
        assert reader.read() == b"old" * 100


def test_publish_hands_a_callable_the_temporary_path(tmp_path: Path) -> None:
    seen = []

    def fill(path: Path) -> None:
        seen.append((path.parent, is_temporary(path)))
        path.write_bytes(b"filled")

    publish(tmp_path / "file", fill)
    assert seen == [(tmp_path, True)]
    assert (tmp_path / "file").read_bytes() == b"filled"


def test_content_larger_than_a_chunk_arrives_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "CHUNK", 7)
    publish(tmp_path / "file", bytes(range(256)))
    assert (tmp_path / "file").read_bytes() == bytes(range(256))


def test_a_symlink_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "real", tmp_path / "link"
    real.write_bytes(b"old")
    link.symlink_to(real)
    publish(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


def test_mode_is_kept_and_a_new_file_follows_the_umask(tmp_path: Path) -> None:
    (tmp_path / "private").write_bytes(b"")
    (tmp_path / "private").chmod(0o600)
    publish(tmp_path / "private", b"x")
    publish(tmp_path / "new", b"x")
    os.umask(umask := os.umask(0))
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o666 & ~umask


def test_a_failing_callable_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    publish(tmp_path / "file", b"old")

    def interrupted(path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path / "file", interrupted)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk full"), (errno.EROFS, "read-only"), (errno.EACCES, "read-only"), (errno.EIO, "cannot write")],
)
def test_what_the_disk_refuses_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    publish(tmp_path / "file", b"old")

    def refuse(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(UserError, match=words) as error:
        publish(tmp_path / "file", b"new")
    assert str(tmp_path / "file") in str(error.value)
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_remove_is_silent_about_a_file_that_is_gone(tmp_path: Path) -> None:
    publish(tmp_path / "file", b"x")
    remove(tmp_path / "file")
    remove(tmp_path / "file")
    assert not os.listdir(tmp_path)


def test_the_crash_point_is_read_from_the_environment(tmp_path: Path) -> None:
    code = f"from theodolite.core.atomic import publish; publish({str(tmp_path / 'file')!r}, b'x')"
    environment = {**os.environ, "THEODOLITE_CRASH_AT": "2"}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 137
    assert [is_temporary(path) for path in tmp_path.iterdir()] == [True]


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    publish(tmp_path / "file", b"abc" * 10**5)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(b"abc" * 10**5).hexdigest()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b'{"a": 1', "damaged or not JSON"), (b"\xff", "damaged or not JSON"), (b"[1]", "a JSON object, not a list")],
)
def test_json_that_cannot_be_used_is_an_error_that_names_the_file(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(UserError, match=r"cannot read .*config\.json"):
        read_json(path)
    publish(path, content)
    with pytest.raises(UserError, match=rf"config\.json.* {words}"):
        read_json(path)
    publish(path, b'{"a": "\xc3\xa9"}')
    assert read_json(path) == {"a": "é"}


def test_a_sweep_takes_what_dead_processes_left_and_nothing_else(tmp_path: Path) -> None:
    seen: list[str] = []
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    publish(tmp_path / "a.bin", lambda path: seen.append(path.name))
    mine = tmp_path / seen[0]
    dead = tmp_path / mine.name.replace(f"-{os.getpid()}-", f"-{ended.pid}-")
    inside = tmp_path / "deeper" / dead.name
    elsewhere = tmp_path / mine.name.replace(atomic._host(), "ffffff")  # of another computer, at work
    (tmp_path / "a.bin").unlink()
    old = tmp_path / ".b.bin.0123abcd.tmp"  # of version 0.1, which named no process
    inside.parent.mkdir()
    for path in (mine, dead, inside, elsewhere, old, tmp_path / "c.tmp", tmp_path / ".theirs.tmp"):
        path.write_bytes(b"")
    os.utime(old, (0, 0))
    os.utime(tmp_path / ".theirs.tmp", (0, 0))
    assert atomic.sweep(tmp_path) == 3
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        mine.name,
        elsewhere.name,
        "c.tmp",
        ".theirs.tmp",
    }
    assert atomic.sweep(tmp_path / "none") == 0


@pytest.mark.skipif(os.name != "posix", reason="checks POSIX file modes, which Windows lacks")
def test_what_lies_in_the_cache_is_private_and_all_else_as_the_umask_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "link"))
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    before = os.umask(0o022)
    try:
        publish(tmp_path / "link" / "views" / "a" / "rows.parquet", b"texts")
        publish(tmp_path / "run" / "artefacts" / "rows.csv", b"numbers")
        publish(tmp_path / "run" / "local.json", b"paths", private=True)
    finally:
        os.umask(before)

    def modes(folder: str) -> set[int]:
        found = [tmp_path / folder, *(tmp_path / folder).rglob("*")]
        return {stat.S_IMODE(path.stat().st_mode) for path in found if path.name != "local.json"}

    assert modes("cache") == {0o700, 0o600}
    assert modes("run") == {0o755, 0o644}
    assert stat.S_IMODE((tmp_path / "run" / "local.json").stat().st_mode) == 0o600
