"""Where files that can be fetched or made again are kept."""

import os
from pathlib import Path


def cache_root() -> Path:
    """Where fetched and derived files live: `THEODOLITE_CACHE`, or `~/.cache/theodolite`."""
    return Path(os.environ.get("THEODOLITE_CACHE") or Path.home() / ".cache" / "theodolite")
