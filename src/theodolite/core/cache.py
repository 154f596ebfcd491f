"""The folder for files that can be fetched or made again."""

import os
from pathlib import Path


def cache_root() -> Path:
    """Folder of fetched and derived files: `THEODOLITE_CACHE`, or `~/.cache/theodolite`."""
    return Path(os.environ.get("THEODOLITE_CACHE") or Path.home() / ".cache" / "theodolite")
