"""Memory arithmetic on small numbers worked by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import GPT2Config, LlamaConfig

from theodolite.core.errors import UserError
from theodolite.models import preflight
from theodolite.models.model import Model
from theodolite.models.preflight import (
    available,
    batch_tokens,
    bytes_per_token,
    check_device_map,
    check_weights,
    read_device_map,
    weights_bytes,
)
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model


def model(dtype: torch.dtype = torch.float32, device: str = "cpu") -> Any:
    config = LlamaConfig(
        vocab_size=100,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
    )
    return SimpleNamespace(config=config, dtype=dtype, device=torch.device(device))


def test_bytes_per_token_by_hand() -> None:
    block, cache, captures, logits = 4 * 64 + 4 * 64 + 4 * 128, 2 * 32, 4 * 8 * 64, 100
    assert bytes_per_token(model(), 1) == 4 * block + 4 * cache * 2 + captures
    assert bytes_per_token(model(), None) == 4 * block + 4 * cache * 4 + captures + 8 * logits
    assert bytes_per_token(model(torch.bfloat16), 1) == 2 * block + 2 * cache * 2 + captures


def test_families_that_name_their_sizes_otherwise_are_understood() -> None:
    config = GPT2Config(n_embd=64, n_head=2, n_layer=4, vocab_size=100)
    other = SimpleNamespace(config=config, dtype=torch.float32, device=torch.device("cpu"))
    assert bytes_per_token(other, 0) == 4 * (4 * 64 + 4 * 64 + 4 * 256) + 4 * 2 * 64 + 4 * 8 * 64


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Says how many bytes every device has left."""
    return lambda n: monkeypatch.setattr(preflight, "available", lambda device: n)


def test_half_of_what_is_free_is_used_and_no_more_than_helps(free: Callable[[int], None]) -> None:
    need, on_gpu = bytes_per_token(model(), 1), model(device="cuda")
    for left, fits in ((2 * 1000 * need, 1000), (2 * 1000 * need + 2 * need - 1, 1000), (10**12, 65536)):
        free(left)
        assert batch_tokens(on_gpu, deepest_block=1) == fits
    assert batch_tokens(model(), deepest_block=1) == 512  # the cache of a CPU


def test_it_refuses_when_one_text_does_not_fit(free: Callable[[int], None]) -> None:
    need = bytes_per_token(model(), None)
    free(2 * 512 * need)
    assert batch_tokens(model(), deepest_block=None) == 512
    free(2 * 512 * need - 1)
    with pytest.raises(UserError, match=r"one text of 512 tokens needs about .* choose dtype='bfloat16'"):
        batch_tokens(model(), deepest_block=None)


def test_weights_must_leave_room_to_run() -> None:
    check_weights("m", 100, 110)
    with pytest.raises(UserError, match=r"model 'm' needs 2.0 GiB for its weights and 2.0 GiB is free"):
        check_weights("m", 2 * 2**30, 2 * 2**30)


def test_weights_are_counted_in_the_dtype_they_will_have(tmp_path: Path) -> None:
    save_file(
        {"a": torch.zeros(3, 5, dtype=torch.bfloat16), "i": torch.zeros(7, dtype=torch.int64)},
        tmp_path / "a.safetensors",
    )
    save_file({"b": torch.zeros(2), "m": torch.zeros(4, dtype=torch.bool)}, tmp_path / "b.safetensors")
    homes = {"a": "a.safetensors", "i": "a.safetensors", "b": "b.safetensors", "m": "b.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": homes}))
    assert weights_bytes(tmp_path, "auto") == 15 * 2 + 7 * 8 + 2 * 4 + 4
    assert weights_bytes(tmp_path, torch.float32) == 15 * 4 + 7 * 8 + 2 * 4 + 4
    save_file({"f": torch.zeros(6, dtype=torch.float8_e4m3fn)}, tmp_path / "c.safetensors")
    homes["f"] = "c.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": homes}))
    assert weights_bytes(tmp_path, "auto") == 15 * 2 + 7 * 8 + 2 * 4 + 4 + 6


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake machine with 8,000 KiB available and no container limit."""
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemFree: 100 kB\nMemAvailable: 8000 kB\n")
    monkeypatch.setattr(preflight, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(preflight, "_CGROUP", tmp_path)
    return tmp_path


def test_without_a_container_the_machine_decides(machine: Path) -> None:
    assert available() == 8000 * 1024
    (machine / "memory.max").write_text("max\n")
    assert available() == 8000 * 1024


def test_a_container_limits_it_and_its_page_cache_counts_as_free(machine: Path) -> None:
    (machine / "memory.max").write_text("1000000\n")
    (machine / "memory.current").write_text("900000\n")
    (machine / "memory.stat").write_text("anon 500000\ninactive_file 300000\n")
    assert available() == 400000


def test_an_old_container_too(machine: Path) -> None:
    (machine / "memory").mkdir()
    (machine / "memory" / "memory.limit_in_bytes").write_text("1000000\n")
    (machine / "memory" / "memory.usage_in_bytes").write_text("900000\n")
    (machine / "memory" / "memory.stat").write_text("cache 0\n")
    assert available() == 100000


def test_elsewhere_half_of_the_installed_memory_is_assumed(machine: Path) -> None:
    (machine / "meminfo").unlink()
    assert 2**26 < available() < 2**50


GIB = 2**30
SIZES = {"model.layers.0.w": 3 * GIB, "model.layers.1.w": 3 * GIB, "lm_head.weight": GIB}


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Says how many GiB each device has left; as many accelerators as there are names."""

    def use(**free: float) -> None:
        left = {name.replace("_", ":"): int(gib * GIB) for name, gib in free.items()}
        monkeypatch.setattr(preflight, "available", lambda device: left[str(device)])
        monkeypatch.setattr(torch.cuda, "device_count", lambda: sum(name != "cpu" for name in left))

    return use


def test_a_device_map_is_checked_device_by_device(devices: Callable[..., None]) -> None:
    devices(cpu=1, cuda_0=4, cuda_1=4.5)
    spread = {"model.layers.0": 0, "model": 1, "lm_head": 1}
    check_device_map("m", SIZES, spread)
    check_device_map("m", SIZES, {"": "disk", "lm_head": 0})
    with pytest.raises(UserError, match=r"puts 6.0 GiB of model 'm' on cuda:1, where 4.5 GiB is free: move parts"):
        check_device_map("m", SIZES, {"": 0, "model": 1})
    with pytest.raises(UserError, match=r"puts 1.0 GiB of model 'm' on cpu, where 1.0 GiB is free"):  # a tenth to run
        check_device_map("m", SIZES, {"": 0, "model.layers.1": 1, "lm_head": "cpu"})
    with pytest.raises(UserError, match=r"names no place for 'lm_head.weight'"):
        check_device_map("m", SIZES, {"model": 0})


def test_a_map_that_accelerate_makes_has_all_memory_of_all_devices(devices: Callable[..., None]) -> None:
    devices(cpu=2, cuda_0=3, cuda_1=3)
    check_device_map("m", SIZES, "auto")
    devices(cpu=1, cuda_0=3, cuda_1=3)
    with pytest.raises(
        UserError, match=r"7.0 GiB for its weights, and free are 1.0 GiB on cpu, 3.0 GiB on cuda:0, 3.0"
    ):
        check_device_map("m", SIZES, "auto")


def test_a_batch_fits_where_least_is_free(devices: Callable[..., None]) -> None:
    """A network with parts on two devices, one of them only pretended to: what the fuller one has left decides."""
    network = tiny_model()
    need = bytes_per_token(network, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preflight, "_computing", lambda model: {"cuda:0", "cuda:1"})
        patch.setitem(preflight.MOST, "cpu", 10**9)
        devices(cuda_0=1, cuda_1=0.5)
        assert batch_tokens(network, deepest_block=None) == GIB // 2 // (2 * need)


def test_where_states_of_an_offloaded_model_lie() -> None:
    network = tiny_model()
    accelerate.cpu_offload(network, execution_device="cpu")
    assert preflight._computing(network) == {torch.device("cpu")}


def test_a_device_map_in_words_and_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "map.json"
    file.write_text('{"": "cpu", "lm_head": "disk"}')
    assert read_device_map(str(file)) == {"": "cpu", "lm_head": "disk"}
    assert read_device_map("cpu") == {"": "cpu"}
    assert [read_device_map(word) for word in preflight.MAPS] == list(preflight.MAPS)
    for bad in ("[1]", '{"a": null}'):
        file.write_text(bad)
        with pytest.raises(UserError, match=r"no device map in|must hold a JSON object"):
            read_device_map(str(file))
    with pytest.raises(UserError, match="unknown device map 'atuo': did you mean 'auto'"):
        read_device_map("atuo")


def test_a_model_loads_under_a_device_map_and_keeps_its_hash(tmp_path: Path) -> None:
    """All of it on the CPU, under three spellings: untested on CUDA."""
    tiny_model().save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    plain = Model.from_pretrained(tmp_path)
    (tmp_path / "map.json").write_text('{"": "cpu"}')
    for device_map in ("cpu", "auto", str(tmp_path / "map.json")):
        mapped = Model.from_pretrained(tmp_path, device_map=device_map, dtype="float32")
        assert mapped.identity == plain.identity
        found, expected = (model.read("hello", "final_norm")["final_norm"].rows for model in (mapped, plain))
        np.testing.assert_array_equal(found, expected)
