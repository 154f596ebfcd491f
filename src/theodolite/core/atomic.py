"""Files that appear whole or not at all, and are checked when they are read back.

A file is written under a temporary name in its own folder, flushed to the disk, renamed over the target, and the
folder is flushed. A reader sees the old file or the new one, never a part; a process that dies leaves at most a
temporary file, which no reader opens (`is_temporary`). Every write, flush, rename and removal is a step at which
the fault tests kill the process (`THEODOLITE_CRASH_AT`). Rename is atomic on local file systems; on NFS and on
object stores it is not.
"""

import errno
import hashlib
import itertools
import json
import math
import os
import platform
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from theodolite.core.cache import cache_root
from theodolite.core.errors import UserError

CHUNK = 1 << 22
_SUFFIX = ".tmp"
# Version 0.1 named no process
_OURS = re.compile(r"\.(?P<name>.+?)\.((?P<host>[0-9a-f]{6})-(?P<pid>\d+)-)?[0-9a-f]{8}\.tmp")
_DAY = 86_400  # seconds
_steps = itertools.count(1)
_crash_at = int(os.environ.get("THEODOLITE_CRASH_AT", "0"))


def publish(path: str | Path, content: bytes | Callable[[Path], object], *, private: bool = False) -> None:
    """Write `content` to `path` atomically; a callable is handed the temporary path and fills it.

    Missing folders are made. A symlink stays a link and its target is replaced; the mode of a file that exists is
    kept. A new file of the cache, which holds texts, and any `private` one is readable by its owner only; others are
    readable as the umask says. If anything fails the old file is untouched and the temporary one is gone.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     publish(Path(folder) / "a" / "b.txt", b"whole")
    ...     (Path(folder) / "a" / "b.txt").read_bytes(), os.listdir(Path(folder) / "a")
    (b'whole', ['b.txt'])
    """
    target = Path(os.path.realpath(path))
    with _explained(target):
        in_cache = target.is_relative_to(os.path.realpath(cache_root()))
        make_folder(target.parent, 0o700 if in_cache else 0o777)
        temporary = _temporary(target, 0o600 if in_cache or private else 0o666)
        try:
            _fill(temporary, content)
            _step()
            os.replace(temporary, target)
            _flush_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


def make_folder(folder: Path, mode: int) -> None:
    """Make a folder and those above it that are missing, all with this mode (less the umask)."""
    if not folder.is_dir():
        make_folder(folder.parent, mode)
        folder.mkdir(mode, exist_ok=True)


def remove(path: Path) -> None:
    """Delete one file and flush its folder; a file that is already gone is no error."""
    with _explained(path):
        _step()
        path.unlink(missing_ok=True)
        _flush_folder(path.parent)


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, read piece by piece."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def read_json(path: Path, *, finite: bool = False) -> dict[str, Any]:
    """The object in a JSON file; a file that is missing, cut or holds something else is an error that names it.

    finite: NaN and infinities, which JSON lacks and Python reads, are such an error too.
    """
    number = _finite if finite else None
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=number, parse_float=number)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged or not JSON ({error}): delete it and make or fetch it again") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} must hold a JSON object, not a {type(found).__name__}")
    return found


def _finite(written: str) -> float:
    if not math.isfinite(value := float(written)):
        raise ValueError(f"{written} is not a finite number")
    return value


def contents(folder: Path) -> list[str]:
    """Names in a folder, without hidden ones (what a `publish` that died left is hidden); [] where there is none.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     publish(Path(folder) / "b.txt", b"")
    ...     publish(Path(folder) / ".a", b"")
    ...     contents(Path(folder)), contents(Path(folder) / "none")
    (['b.txt'], [])
    """
    if not folder.is_dir():
        return []
    with _explained(folder):
        return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def unfinished(path: Path) -> str | None:
    """The name of the file that a `publish` which died (or still runs) was to make; None for any other file.

    Other programs write files named `.X.tmp` too, so a name counts only with the marks that `publish` gives it.

    >>> unfinished(Path(".rows.csv.0a1b2c-77-0123abcd.tmp")), unfinished(Path(".rows.csv.tmp"))
    ('rows.csv', None)
    """
    found = _OURS.fullmatch(path.name)
    return found["name"] if found else None


def is_temporary(path: Path) -> bool:
    """Return whether this is the unfinished file of a `publish` that died (or still runs)."""
    return unfinished(path) is not None


def sweep(folder: Path) -> int:
    """Remove what killed writes left in a folder and below; returns how many files.

    A temporary file names the computer and process that writes it: one of this computer goes when that process is
    gone, any other when it is a day old.
    """
    dead = [path for path in folder.rglob(f".*{_SUFFIX}") if _is_abandoned(path)]
    for path in dead:
        path.unlink(missing_ok=True)
    return len(dead)


def _is_abandoned(path: Path) -> bool:
    written_by = _OURS.fullmatch(path.name)
    if written_by is None:
        return False
    if os.name == "posix" and written_by["host"] == _host():
        try:
            os.kill(int(written_by["pid"]), 0)  # asks, and sends nothing
        except ProcessLookupError:
            return True
        except OSError:  # it runs, as another user's
            return False
    try:
        return time.time() - path.stat().st_mtime > _DAY
    except OSError:  # renamed or removed meanwhile
        return False


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def _temporary(target: Path, mode: int) -> Path:
    """A new empty file beside `target`, with the mode the finished file will have."""
    path = target.with_name(f".{target.name}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}")
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    if target.exists():
        path.chmod(stat.S_IMODE(target.stat().st_mode))
    return path


def _fill(temporary: Path, content: bytes | Callable[[Path], object]) -> None:
    if callable(content):
        _step()
        content(temporary)
        content = b""
    with open(temporary, "ab") as handle:
        for start in range(0, len(content), CHUNK):
            _step()
            handle.write(content[start : start + CHUNK])
            handle.flush()
        _step()
        os.fsync(handle.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the rename itself durable; Windows cannot open folders and needs none of it."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        _step()
        os.fsync(handle)
    finally:
        os.close(handle)


def _step() -> None:
    """Die here if the fault test asked for it: as abruptly as a SIGKILL, with no handler run."""
    if next(_steps) == _crash_at:
        os._exit(137)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what a disk refuses into a sentence; the old file is untouched in each case."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"disk full while writing {path}: free some space and run again, what was finished is kept"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(f"cannot write {path}: its folder is read-only, choose another one") from error
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
