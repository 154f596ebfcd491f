"""Entries of a cache: files that count once a record names their hashes, and only while they still have them.

The record is a JSON file that is published after the files it names. It holds the key of the entry, the sha256 of its
files, facts about it, and the sha256 of these three, so that a flipped bit of the record itself is found too. Readers
give the key that they expect: a whole entry that was moved to the place of another one counts as damaged.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from theodolite.core.atomic import file_sha256, publish
from theodolite.core.errors import Damaged

Note = Callable[[str, int, str], None]  # kind, count and text of a warning of the Run


def no_note(kind: str, count: int, text: str) -> None:
    """Nobody is told: the default where no Run is written."""


def seal(record: Path, key: str, files: Iterable[Path] = (), facts: Any = "whole") -> None:
    """Publish the record of files that lie in its folder or below, with facts in JSON; call it when they are written.

    key: all that the entry depends on, as 64 hexadecimal digits; the name of a folder holds only the first of them.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     seal(Path(folder) / "entry.json", "0" * 64, facts={"fvu": 0.25})
    ...     unseal(Path(folder) / "entry.json", "0" * 64)
    {'fvu': 0.25}
    """
    hashes = {path.relative_to(record.parent).as_posix(): file_sha256(path) for path in files}
    body = json.loads(json.dumps({"key": key, "facts": facts, "files": hashes}))  # as it will be read: keys are words
    publish(record, json.dumps({**body, "sha256": _digest(body)}, sort_keys=True).encode())


def unseal(record: Path, key: str) -> Any:
    """The facts of the entry of this key, every file of which has its hash; `Damaged` names what has not."""
    body = _body(record, key)
    for name, digest in body["files"].items():
        path = record.parent / name
        if not path.is_file() or file_sha256(path) != digest:
            raise damaged(path)
    return body["facts"]


def damaged(path: Path) -> Damaged:
    """The error for a file of the cache that is not what was written there."""
    return Damaged(f"{path} is missing or damaged: run the same command again, which makes it again")


def files_of(record: Path, key: str, inside: str) -> dict[str, Path]:
    """Files of an entry that lie in its folder `inside`, by their place there: never what a killed write left."""
    home = record.parent / inside
    paths = [record.parent / name for name in _body(record, key)["files"]]
    return {path.relative_to(home).as_posix(): path for path in paths if path.is_relative_to(home)}


def facts_of(record: Path, key: str) -> Any:
    """The facts of an entry; its files are not read."""
    return _body(record, key)["facts"]


def entry(record: Path, key: str, kind: str, note: Note = no_note) -> Any:
    """The facts of a whole entry; None where it is yet to be made, or to be made again, which is counted in a note."""
    if not record.is_file():
        return None
    try:
        return unseal(record, key)
    except Damaged:
        note("remade", 1, f"damaged entries of the cache were made again: {kind}")
        return None


def _body(record: Path, key: str) -> dict[str, Any]:
    try:
        found = json.loads(record.read_bytes())
        body = {name: found[name] for name in ("key", "facts", "files")}
        intact = found["sha256"] == _digest(body) and body["key"] == key
    except (OSError, ValueError, TypeError, KeyError):
        intact = False
    if not intact:
        raise damaged(record)
    return body


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
