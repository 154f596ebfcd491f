"""Freed memory is kept where the C library can, by the process that asks for it, and nothing happens on import."""

import platform
import subprocess
import sys

import pytest

from theodolite.dictionaries.training import allocator

COUNT = """
import resource, torch
from theodolite.dictionaries.training.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.zeros(2**23).add_(1)  # 32 MB, 8,192 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults(), keep_freed_memory(), faults(), faults())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="sets options of glibc's malloc, and this system has another C library"
)
def test_large_temporaries_are_faulted_in_once() -> None:
    out = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True).stdout.split()
    before, kept, _, after = int(out[0]), out[1], out[2], int(out[3])
    assert kept == "True"
    assert before >= 5 * 16  # 8,192 small pages, or 16 huge ones, five times
    assert after < before / 5


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("touched the C library"))
    assert allocator.keep_freed_memory() is False
