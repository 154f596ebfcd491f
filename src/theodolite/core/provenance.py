"""Versions and the machine: all that a number may depend on beside its recipe."""

import hashlib
import os
import platform
import re
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

VERSIONED = ["theodolite", "torch", "transformers", "numpy", "scipy", "scikit-learn", "pandas"]


def versions() -> dict[str, str]:
    """Versions of what can change a number, read without importing any of it."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in VERSIONED}


@cache
def code() -> str:
    """sha256 over the source files of this package: what an edit, or another commit of one version, changes."""
    home, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(home.rglob("*.py")):
        digest.update(f"{path.relative_to(home).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def made_with(manifest: Mapping[str, Any]) -> str:
    """Sentence on what a finished run was made with that has changed since; "" where its numbers would be the same.

    Runs of versions before name no code, and only the versions are compared there.

    >>> made_with({"versions": versions() | {"torch": "1.0"}}).partition(";")[0]
    'This run was made with torch 1.0'
    >>> made_with({"versions": versions(), "code": code()})
    ''
    """
    then, now = manifest["versions"], versions()
    changed = [name for name in now if then.get(name) != now[name]]
    old = [f"{name} {then.get(name, 'unknown')}" for name in changed]
    new = [f"{name} {now[name]}" for name in changed]
    if manifest.get("code", code()) != code():
        old, new = [*old, "other code of theodolite"], [*new, "changed code"]
    if not old:
        return ""
    return f"This run was made with {', '.join(old)}; this is {', '.join(new)}: --force runs it again."


def machine() -> dict[str, Any]:
    """The computer in words, without host or user name."""
    pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(pages * os.sysconf("SC_PAGE_SIZE") / 2**30, 1) if pages else None,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")  # platform.processor() is empty on Linux
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.is_file() else None
    return found[1].strip() if found else platform.processor() or platform.machine()
