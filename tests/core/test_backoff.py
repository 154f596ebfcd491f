"""Parts are halved where memory runs out, and only there; the smallest part is the last that is tried."""

import numpy as np
import pytest
import torch

from theodolite.core.backoff import Backoff, is_out_of_memory
from theodolite.core.errors import UserError


def failing_above(most: int, tried: list[int], error: Exception | None = None):
    def work(size: int) -> int:
        tried.append(size)
        if size > most:
            raise error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return size

    return work


def test_it_halves_remembers_and_counts() -> None:
    notes, tried = [], []
    batches = Backoff(64, "tokens per batch", "x", lambda *note: notes.append(note))
    assert [batches(failing_above(20, tried)) for _ in range(3)] == [16, 16, 16]
    assert tried == [64, 32, 16, 16, 16]
    assert [(kind, count) for kind, count, _ in notes] == [("memory", 1)] * 2


def test_the_smallest_part_is_tried_once_and_then_it_is_said_what_to_do() -> None:
    tried: list[int] = []
    with pytest.raises(UserError, match=r"out of memory at 10 tokens per batch.*Tried to allocate 2 GiB.*: buy more"):
        Backoff(64, "tokens per batch", "buy more")(failing_above(0, tried), least=10)
    assert tried == [64, 32, 16, 10]


@pytest.mark.parametrize("error", [RuntimeError("shapes"), ValueError("out of memory"), KeyError("a")])
def test_another_error_passes_at_once(error: Exception) -> None:
    tried: list[int] = []
    with pytest.raises(type(error)):
        Backoff(64, "rows", "x")(failing_above(0, tried, error))
    assert tried == [64]


def test_errors_of_the_libraries_are_known() -> None:
    said = (
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    )
    assert is_out_of_memory(RuntimeError(said))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"))
    assert is_out_of_memory(torch.OutOfMemoryError("MPS backend out of memory"))
    for too_much in (lambda: np.empty(2**60, np.uint8), lambda: torch.empty(2**60, dtype=torch.uint8)):
        with pytest.raises((MemoryError, RuntimeError)) as real:
            too_much()
        assert is_out_of_memory(real.value)


def test_nothing_of_the_failed_try_is_held_at_the_next() -> None:
    """The error's frames hold the tensors of the pass: with them alive the second try would have less memory."""
    import weakref

    seen: list[weakref.ref] = []

    def work(size: int) -> int:
        assert all(ref() is None for ref in seen)
        big = torch.zeros(size)
        seen.append(weakref.ref(big))
        if size > 4:
            raise RuntimeError("out of memory")
        return size

    assert Backoff(32, "rows", "x")(work) == 4
