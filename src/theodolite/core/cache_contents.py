"""Contents of the cache by kind, and their removal. Links are not followed; files that are not ours are left."""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from theodolite.core.errors import UserError, unknown

# Folders below the root of the cache. Any other file or folder there is not ours, and is neither counted nor removed.
KINDS = {
    "answers": "what models answered to multiple-choice rows",
    "corpora": "texts that dictionaries are trained on",
    "dictionaries": "dictionaries that `theodolite train` made: hours of work, removed only by name",
    "fits": "fitted methods and their scores",
    "hashes": "hashes of weights in snapshots of the hub",
    "inputs": "DataFrames that were given to compare; `theodolite read` may need them",
    "models": "unpacked models",
    "selection": "fits of selective prediction",
    "views": "texts and their activations: the largest part",
    "wheels": "downloads",
}
TRAINED = "dictionaries"


@dataclass(frozen=True)
class CachedKind:
    """Files of one kind in the cache; oldest and newest are seconds since a file was last written."""

    kind: str
    files: int
    bytes: int
    oldest: float
    newest: float


def contents(root: Path) -> list[CachedKind]:
    """Return the kinds that have files, the largest first."""
    now, found = time.time(), []
    for kind in KINDS:
        stats = [os.lstat(path) for path in _files(root / kind)]
        if stats:
            ages = [now - stat.st_mtime for stat in stats]
            found.append(CachedKind(kind, len(stats), sum(stat.st_size for stat in stats), max(ages), min(ages)))
    return sorted(found, key=lambda each: -each.bytes)


def chosen(kinds: Sequence[str]) -> list[str]:
    """Return the kinds named; `all` means every kind but trained dictionaries, which no command makes again by itself.

    >>> chosen(["all"]) == sorted(set(KINDS) - {"dictionaries"}), chosen(["dictionaries", "fits"])
    (True, ['dictionaries', 'fits'])
    """
    for kind in kinds:
        if kind not in (*KINDS, "all"):
            raise unknown("kind of cached file", kind, (*KINDS, "all"))
    whole = set(KINDS) - {TRAINED} if "all" in kinds else set()
    return sorted(whole | (set(kinds) - {"all"}))


def clear(root: Path, kinds: Sequence[str]) -> int:
    """Remove these kinds from the cache and return the bytes removed; a folder that is a link raises UserError."""
    for kind in kinds:
        if (root / kind).is_symlink():
            raise UserError(
                f"{str(root / kind)!r} is a link out of the cache, so nothing was removed: remove it yourself"
            )
    freed = sum(each.bytes for each in contents(root) if each.kind in kinds)
    for kind in kinds:
        if (root / kind).is_dir():
            shutil.rmtree(root / kind)  # removes links inside, not their targets
    return freed


def _files(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, and every link as a file of its own."""
    if folder.is_symlink():
        return
    for place, folders, names in os.walk(folder):  # os.walk does not follow links
        here = Path(place)
        yield from (here / name for name in names)
        yield from (here / name for name in folders if (here / name).is_symlink())
