"""The folder of a Run: which files in it a Run wrote, that nobody else is at work in it, and that no link leads out."""

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from theodolite.core.atomic import read_json, unfinished
from theodolite.core.errors import UserError

MANIFEST = "manifest.json"
TOP = ("report.html", "scores.parquet", "rows.csv", "rows.parquet", "local.json", MANIFEST)
FOLDERS = ("exports/figures", "exports", "artefacts/readers", "artefacts/selection_rules", "artefacts")
# What a Run writes below its folder. A file of any other name is somebody else's, wherever it lies.
PATTERNS = (
    "exports/figures/*.svg",
    "exports/report.tex",
    "exports/report.csv",
    "exports/overlay.html",
    "exports/overlay.tex",
    "exports/overlay.svg",
    "exports/overlay.csv",
    "artefacts/readers/*/config.json",
    "artefacts/readers/*/model.safetensors",
    "artefacts/selection_rules/*/config.json",
    "artefacts/selection_rules/*/rule.safetensors",
    "artefacts/audit.json",
    "artefacts/card.json",
    "artefacts/verdict.json",
    "artefacts/selection.json",
    "artefacts/selection.parquet",
)
_LISTED = ("artefacts/*.json", "artefacts/*.parquet")  # of these only what the manifest lists


def taken(folder: Path) -> list[str]:
    """Names in a folder that a Run would write over."""
    return [name for name in (*(f for f in FOLDERS if "/" not in f), *TOP) if os.path.lexists(folder / name)]


def is_run(manifest: Any, protocol: int) -> bool:
    """Return whether a manifest is ours: protocol, a sha256 as digest, and an id of recipe name and digest."""
    try:
        digest, name = manifest["digest"], manifest["recipe"]["name"]
        ours = manifest["protocol"] == protocol and re.fullmatch("[0-9a-f]{64}", digest) is not None
        return ours and str(manifest["id"]).startswith(f"{name}-{digest[:8]}-")
    except (KeyError, TypeError):
        return False


def inside(folder: Path, name: str) -> Path:
    """The path of one file of a Run; a symbolic link on the way to it, or in its place, is refused.

    A Run made by somebody else may hold a link to any file of the user's, and writing follows links.
    """
    path = folder
    for part in PurePosixPath(name).parts:
        assert part not in ("..", "/"), f"{name!r} leaves the Run folder"
        path = path / part
        if path.is_symlink():
            raise UserError(
                f"{str(path)!r} is a symbolic link, and a Run holds none: remove it, or choose another --out"
            )
    return path


def refuse_to_replace(path: Path) -> None:
    """Refuse to write an export in the place of a file that a Run was made of; its pages may be written anew."""
    path = path.absolute()
    for folder in path.parents:
        if (folder / MANIFEST).is_file():
            name = path.relative_to(folder)
            if path.exists() and _is_of_a_run(name) and name.parts[0] != "exports" and name.name != "report.html":
                raise UserError(f"{str(path)!r} is a file of the run in {str(folder)!r}: choose another --out")


def refuse_links(folder: Path) -> None:
    """Refuse a folder in which something that a Run writes is a symbolic link, before anything is computed."""
    for name in (*TOP, *FOLDERS):
        inside(folder, name)


def clear(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Remove what a Run wrote and nothing else; folders leave when they are empty, and no link is followed.

    The manifest goes last: until then the folder is a Run that `--force` may replace.
    """
    listed = manifest.get("files")
    for path in _written(folder, listed if isinstance(listed, dict) else {}):
        path.unlink()
    sweep(folder)
    for name in FOLDERS:
        home = folder / name
        if home.is_symlink() or not home.is_dir():
            continue
        for path in (*(p for p in home.iterdir() if p.is_dir() and not p.is_symlink()), home):
            if not any(path.iterdir()):
                path.rmdir()
    for name in TOP:
        (folder / name).unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what writes of a Run's files that died left behind; no writer may be at work.

    A temporary file of any other name is somebody else's, and it stays.
    """
    places = [folder, *(folder / name for name in FOLDERS), *_under(folder, "artefacts/readers/*")]
    for place in (*places, *_under(folder, "artefacts/selection_rules/*")):
        if place.is_dir() and not _linked(folder, place):
            for path in place.iterdir():
                if (name := unfinished(path)) and _is_of_a_run(path.with_name(name).relative_to(folder)):
                    path.unlink(missing_ok=True)


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Hold a folder against other processes, which get an error; False where its file system has no locks.

    The lock lies on the folder itself, so it leaves no file behind, and a process that is killed gives it up.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield False
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        raise UserError(f"another process has removed the folder {str(folder)!r}: run the same command again") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise UserError(
                    f"another process is writing the run in {str(folder)!r}: wait for it, or choose another --out"
                ) from None
            yield False
            return
        yield True
    finally:
        os.close(handle)


def refuse_finished(folder: Path, *, known: bool) -> None:
    """Refuse a run that was finished after it was opened here: written again and stopped, it would be half done.

    known: it was finished when it was opened, or is to be replaced.
    """
    if not known and read_json(folder / MANIFEST).get("finished") is not None:
        raise UserError(
            f"another process has finished the run in {str(folder)!r}: run the same command again, which opens it"
        )


def _written(folder: Path, listed: Mapping[str, Any]) -> Iterator[Path]:
    """Files of a Run below its folder: those of known names, and further documents that its manifest lists."""
    for pattern in PATTERNS:
        yield from _under(folder, pattern)
    for pattern in _LISTED:
        yield from (path for path in _under(folder, pattern) if path.relative_to(folder).as_posix() in listed)


def _is_of_a_run(path: PurePath) -> bool:
    """Return whether a Run writes a file of this path, relative to its folder."""
    places = [PurePath(pattern) for pattern in (*TOP, *PATTERNS, *_LISTED)]
    return any(len(p.parts) == len(path.parts) and path.match(str(p)) for p in places)


def _under(folder: Path, pattern: str) -> list[Path]:
    """Return the paths that match a pattern, without following links; a link in a file's place is that file."""
    found = [path for path in folder.glob(pattern) if not _linked(folder, path.parent)]
    return sorted(path for path in found if path.is_symlink() or not path.is_dir() or pattern.endswith("/*"))


def _linked(folder: Path, path: Path) -> bool:
    """Return whether a folder of a Run is reached through a link."""
    return any(p.is_symlink() for p in (path, *path.parents) if p != folder and p.is_relative_to(folder))
