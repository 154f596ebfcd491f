"""Tests never reach the network and never write outside their temporary folders."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from theodolite.core.recipe import Source

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")  # pytest-xdist has the cores; tests of parallel work set their own


@pytest.fixture(scope="session", autouse=True)
def _no_fsync() -> Iterator[None]:
    """Folders of tests need not outlive a power cut: one comparison would wait a hundred times for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A socket to anywhere but this machine is an error; tests that need none of it are unaffected."""
    import socket

    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "local"
        if host not in {"127.0.0.1", "::1", "localhost", "local"}:
            raise AssertionError(f"a test tried to reach {host!r}")
        connect(self, address)  # type: ignore[arg-type]

    if "slow" not in request.keywords:
        monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def write_source(tmp_path: Path) -> Callable[..., Source]:
    """A source over a JSONL file of these texts."""

    def write(name: str, texts: list[str], label: int | list[int], **fields: object) -> Source:
        labels = [label] * len(texts) if isinstance(label, int) else label
        path = tmp_path / f"{name}.jsonl"
        lines = [json.dumps({"text": t, "label": y}) for t, y in zip(texts, labels, strict=True)]
        path.write_text("\n".join(lines), encoding="utf-8")
        return Source(source=name, file=str(path), field="text", label="label", **fields)

    return write
