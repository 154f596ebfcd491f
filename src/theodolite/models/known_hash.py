"""Hashes of weights that the hub's cache already knows by their files, confirmed by a checksum of what was loaded."""

import json
from pathlib import Path
from typing import Any

import torch

from theodolite.core.atomic import publish
from theodolite.core.cache import cache_root
from theodolite.models import checksum, hashing, offload


def loaded_hash(folder: Path, module: torch.nn.Module) -> str:
    """The hash of a folder's weights, which `module` was just loaded from; sha256 over all bytes at most once.

    A snapshot of the hub names the sha256 of its files. A record of an earlier load says which hash these have and
    which checksum the tensors then had in memory; a file damaged since gives another checksum, and is hashed anew.
    Without such names the bytes are hashed.
    """
    blobs = hashing.blobs(folder)
    if not blobs:
        return hashing.folder_hash(folder)
    now = checksum.digest(offload.values(module))
    record = cache_root() / "hashes" / f"{blobs}.json"
    known = _read(record)
    if known.get(now) is None:
        known[now] = hashing.folder_hash(folder)
        publish(record, json.dumps(known, indent=1).encode())
    return known[now]


def _read(record: Path) -> dict[str, str]:
    """Hash by checksum, one for each dtype that the weights were loaded in; a damaged record is as good as none."""
    try:
        found: Any = json.loads(record.read_bytes())
    except (OSError, ValueError):
        return {}
    valid = isinstance(found, dict) and all(isinstance(value, str) for value in found.values())
    return dict(found) if valid else {}
