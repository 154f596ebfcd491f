"""Installed distributions, read anew where a folder of `sys.path` changed: a comparison asks a thousand times."""

import os
import sys
from functools import cache
from importlib import metadata


def version(distribution: str) -> str:
    """Version of a distribution; PackageNotFoundError where it is not installed.

    >>> version("numpy").count(".")
    2
    """
    return _version(distribution, _folders())


def entry_points(group: str) -> tuple[metadata.EntryPoint, ...]:
    """Every entry point of a group."""
    return _entry_points(group, _folders())


def _folders() -> tuple[tuple[str, int], ...]:
    """Folders that hold distributions, each with the time of its last change: an installer adds or renames a folder."""
    places = map(os.path.abspath, sys.path)
    return tuple((place, os.stat(place).st_mtime_ns) for place in places if os.path.exists(place))


@cache
def _version(distribution: str, folders: tuple[tuple[str, int], ...]) -> str:
    return metadata.version(distribution)


@cache
def _entry_points(group: str, folders: tuple[tuple[str, int], ...]) -> tuple[metadata.EntryPoint, ...]:
    return tuple(metadata.entry_points(group=group))
