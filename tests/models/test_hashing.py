"""One hash for one set of weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from theodolite.core.errors import UserError
from theodolite.models.hashing import folder_hash, model_hash


def tensors() -> dict[str, torch.Tensor]:
    return {name: torch.arange(6.0).reshape(2, 3) + i for i, name in enumerate("abcd")}


def test_the_hash_is_over_weights_not_over_files(tmp_path: Path) -> None:
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    for folder in (one, two, other):
        folder.mkdir()
    parts = tensors()
    save_file(parts, one / "model.safetensors")
    save_file({n: parts[n] for n in "db"}, two / "first.safetensors", metadata={"made": "elsewhere"})
    save_file({n: parts[n] for n in "ca"}, two / "second.safetensors")
    homes = dict.fromkeys("db", "first.safetensors") | dict.fromkeys("ca", "second.safetensors")
    (two / "model.safetensors.index.json").write_text(json.dumps({"weight_map": homes}))
    parts["c"][1, 2] += 1e-6
    save_file(parts, other / "model.safetensors")
    assert folder_hash(one) == folder_hash(two) != folder_hash(other)


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts | {"a": parts["a"].reshape(3, 2)},
        lambda parts: parts | {"a": parts["a"].view(torch.int32)},
        lambda parts: {"e" if name == "a" else name: tensor for name, tensor in parts.items()},
        lambda parts: {name: tensor for name, tensor in parts.items() if name != "a"},
    ],
    ids=["shape", "dtype", "name", "absence"],
)
def test_the_hash_knows_more_than_bytes(tmp_path: Path, change: object) -> None:
    save_file(tensors(), tmp_path / "model.safetensors")
    before = folder_hash(tmp_path)
    save_file(change(tensors()), tmp_path / "model.safetensors")  # type: ignore[operator]
    assert folder_hash(tmp_path) != before


def test_a_model_in_memory_hashes_like_its_file_with_tied_weights_once(tmp_path: Path) -> None:
    model = torch.nn.Module()
    model.first, model.second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3, bias=False)
    model.second.weight = model.first.weight
    kept = {"first.weight": model.first.weight.detach(), "first.bias": model.first.bias.detach()}
    save_file(kept, tmp_path / "model.safetensors")
    assert model_hash(model) == folder_hash(tmp_path)
    with torch.no_grad():
        model.first.bias[0] += 1
    assert model_hash(model) != folder_hash(tmp_path)


def test_a_file_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(UserError, match="damaged or no safetensors file"):
        folder_hash(tmp_path)


def test_an_offloaded_model_is_refused() -> None:
    with pytest.raises(UserError, match="offloaded"):
        model_hash(torch.nn.Linear(2, 2, device="meta"))
