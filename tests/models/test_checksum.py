"""The checksum: the same on every path, and changed by whatever changes bits."""

import numpy as np
import pytest
import torch

from theodolite.models import checksum
from theodolite.models.checksum import CHUNK, sums


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int8, torch.bool])
@pytest.mark.parametrize("n", [0, 1, 7, 4096, 40_001])
def test_the_loop_and_the_tensor_operations_agree(n: int, dtype: torch.dtype) -> None:
    tensor = (torch.randn(n, generator=torch.Generator().manual_seed(n)) * 50).to(dtype)
    bits = tensor.view(torch.uint8)
    words = bits[: len(bits) // 8 * 8]
    device = checksum._on_device(words)
    np.testing.assert_array_equal(device, checksum._on_cpu(words.numpy().view(np.int64)))
    np.testing.assert_array_equal(device, sums(tensor)[: len(device)])


def test_threads_do_not_change_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = torch.randn(11 * CHUNK + 5)
    whole = sums(tensor)
    monkeypatch.setattr(checksum, "_PART", CHUNK)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    np.testing.assert_array_equal(sums(tensor), whole)


def test_every_kind_of_change_is_seen() -> None:
    """Flipped signs, moved numbers, one bit: each of these is invisible to some plain sum or exclusive or."""
    base = torch.randn(3, 4096, generator=torch.Generator().manual_seed(0))
    last_bit = base.clone()
    last_bit.view(torch.int32)[2, 4095] ^= 1
    odd_signs, one_sign, two_signs = base.clone(), base.clone(), base.clone()
    odd_signs[:, 1::2] *= -1
    one_sign[0, 1] *= -1
    two_signs[0, 1] *= -1
    two_signs[0, 3] *= -1
    swapped = base[:, torch.tensor([2, 3, 0, 1, *range(4, 4096)])]
    others = [last_bit, odd_signs, one_sign, two_signs, swapped, base.flip(0), -base, base * 0]
    found = {sums(tensor).tobytes() for tensor in (base, *others)}
    assert len(found) == 1 + len(others)


def test_the_layout_in_memory_does_not_count() -> None:
    base = torch.randn(64, 33)
    np.testing.assert_array_equal(sums(base), sums(base.T.contiguous().T))
    shifted = torch.cat([torch.zeros(1), base.reshape(-1)])[1:]
    np.testing.assert_array_equal(sums(base), sums(shifted))
    np.testing.assert_array_equal(checksum._on_device(shifted.view(torch.uint8)[:8000]), sums(base.view(-1)[:2000]))
