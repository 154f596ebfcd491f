"""Versions and entry points are read once, and again where an installer changed a folder."""

import os
import shutil
from importlib import metadata
from pathlib import Path

import pytest

from theodolite.core import installed


def install(folder: Path, version: str, when: int) -> None:
    """Put a distribution into a folder as an installer does: the one before it goes; `when` is the folder's time."""
    for old in folder.glob("mine-*.dist-info"):
        shutil.rmtree(old)
    home = folder / f"mine-{version}.dist-info"
    home.mkdir()
    (home / "METADATA").write_text(f"Metadata-Version: 2.1\nName: mine\nVersion: {version}\n")
    (home / "entry_points.txt").write_text(f"[mine.group]\nthing = mine:v{version[0]}\n")
    os.utime(folder, ns=(when, when))


def said() -> tuple[str, list[str]]:
    return installed.version("mine"), [entry.value for entry in installed.entry_points("mine.group")]


def test_an_installation_in_a_running_session_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(metadata.PackageNotFoundError):
        installed.version("mine")
    assert installed.entry_points("mine.group") == ()
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "1.0", when=10**9)
    assert said() == ("1.0", ["mine:v1"])
    install(tmp_path, "2.0", when=2 * 10**9)
    assert said() == ("2.0", ["mine:v2"])
    shutil.rmtree(tmp_path / "mine-2.0.dist-info")
    with pytest.raises(metadata.PackageNotFoundError):
        installed.version("mine")


def test_without_an_installation_the_disk_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed.version("numpy") == metadata.version("numpy")
    known = installed.entry_points("console_scripts")
    assert {"pytest", "theodolite"} <= {entry.name for entry in known}
    for name in ("version", "entry_points"):
        monkeypatch.setattr(metadata, name, None)
    assert installed.version("numpy")
    assert installed.entry_points("console_scripts") == known
