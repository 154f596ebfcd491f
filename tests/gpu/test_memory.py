"""Coding in tiles, checksums, spread models and running out of memory on CUDA (make gpu)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from theodolite.dictionaries.activations import Activation, JumpReluRule, TopKRule
from theodolite.dictionaries.dictionary import Dictionary, to_csr
from theodolite.dictionaries.ops import tiles
from theodolite.dictionaries.pooled import pooled_latents
from theodolite.models import checksum, offload
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="needs a CUDA device: run `make gpu` on a machine that has one"
    ),
]
DEVICE = "cuda:0"
F, D, N = 300, 8, 70


def whole_numbers(*shape: int, seed: int) -> torch.Tensor:
    return torch.randint(-99, 100, shape, generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("rule", [TopKRule(5), JumpReluRule(torch.full((F,), 5000.0))], ids=lambda rule: rule.name)
def test_tiles_on_the_device_are_the_whole_on_the_cpu(rule: Activation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of whole numbers are exact in float32 in any order, so both agree bit for bit."""
    W, b = whole_numbers(F, D, seed=0), whole_numbers(F, seed=1)
    d, x = Dictionary(W, b, W, torch.zeros(D), rule), whole_numbers(N, D, seed=2)
    expected = to_csr(*d.encode_sparse(x), F).toarray()
    monkeypatch.setattr(tiles, "CELLS", 700)
    monkeypatch.setattr(tiles, "ROWS", 16)
    found = to_csr(*d.to(DEVICE).encode_sparse(x.to(DEVICE)), F).toarray()
    np.testing.assert_array_equal(found, expected)
    rows = [(np.arange(N) // 10, np.ones(N, bool), x)]
    pooled = [pooled_latents(d, rows, N // 10, "mean", device=where) for where in ("cpu", DEVICE)]
    np.testing.assert_array_equal(pooled[0].latents.toarray(), pooled[1].latents.toarray())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_checksum_is_that_of_the_cpu(dtype: torch.dtype) -> None:
    tensor = torch.randn(100_001, generator=torch.Generator().manual_seed(0)).to(dtype)
    np.testing.assert_array_equal(checksum.sums(tensor.to(DEVICE)), checksum.sums(tensor))


def test_a_model_spread_over_device_and_memory(tmp_path: Path) -> None:
    """Half of its blocks are fetched at every pass: its hash is that of its files, and a changed number is found."""
    tiny_model().save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    plain = Model.from_pretrained(tmp_path, device="cpu")
    spread = {"": 0, "model.layers.1": "cpu"}
    model = Model.from_pretrained(tmp_path, device_map=spread, dtype="float32")
    assert model.hash == plain.hash
    assert offload.places(model.network.module)["offloaded"] > 0
    site = "blocks.2.resid_post"
    rows = [m.read(["hello", "b"], site)[site].rows for m in (plain, model)]
    np.testing.assert_allclose(rows[1], rows[0], rtol=1e-3, atol=1e-3)
    offload.fetched(model.network.module, "model.layers.1.mlp.up_proj.weight").flatten()[0] += 1
    assert model.hash != plain.hash


def test_a_batch_that_is_too_large_is_halved() -> None:
    """A real error of the allocator: torch is given a fraction of the device's memory."""
    model = Model.from_pretrained(tiny_model(), tokenizer=byte_tokenizer(), device=DEVICE)
    texts = ["a long text that is read again and again " * 8] * 512
    expected = model.read(texts[:1], "final_norm")["final_norm"].rows
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(64 * 2**20 / total)
    try:
        with pytest.warns(UserWarning, match="halvings of tokens per batch"):
            found = model.read(texts, "final_norm", batch_tokens=10**6)["final_norm"].rows
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    np.testing.assert_allclose(found, expected.repeat(len(texts), 0), rtol=1e-3, atol=1e-3)
