"""Cases 03, 22, 25, 26: weights that are not those of the model that its folder names."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from case_kit import QUICK, model_folder, table, theodolite
from safetensors.torch import load_file, save_file

from theodolite.core.errors import UserError
from theodolite.models import load as loading
from theodolite.models import preflight
from theodolite.models.hashing import folder_hash
from theodolite.models.load import load

Tensors = dict[str, torch.Tensor]
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def with_tensors(folder: Path, change: Callable[[Tensors], Tensors], family: str = "llama") -> Path:
    model_folder(folder, family)
    save_file(change(load_file(folder / SINGLE)), folder / SINGLE, metadata={"format": "pt"})
    return folder


def with_config(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    config = {key: value for key, value in json.loads(path.read_text()).items() if key != "layer_types"}
    path.write_text(json.dumps(config | changes))
    return folder


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


@pytest.mark.parametrize(
    ("change", "config", "words"),
    [
        (lambda t: {f"wrapped.{n}": x for n, x in t.items()}, {}, r"lack 30 tensors \(lm_head.weight, .*and hold 30"),
        (without(".layers.1.mlp."), {}, r"lack 3 tensors \(model.layers.1.mlp.down_proj.weight, .*random numbers"),
        (without("model.norm.weight"), {}, r"lack 1 tensor \(model.norm.weight\)"),
        (without("lm_head"), {}, r"lack 1 tensor \(lm_head.weight\)"),
        (lambda t: t, {"num_hidden_layers": 5}, r"lack 18 tensors \(model.layers.3.input_layernorm.weight, "),
        (lambda t: t, {"num_hidden_layers": 2}, r"hold 9 tensors \(model.layers.2.input_layernorm.weight, "),
        (
            lambda t: t,
            {"vocab_size": 300},
            r"have 'lm_head.weight' with shape \(260, 32\) in place of \(300, 32\) \(2 ",
        ),
        (
            lambda t: t | {"model.layers.0.self_attn.q_proj.bias": torch.ones(32)},
            {},
            r"hold 1 tensor \(model.layers.0.self_attn.q_proj.bias\), for which the model has no place",
        ),
    ],
    ids=["renamed", "an MLP missing", "a norm missing", "no head", "too few", "too many", "shape", "biases"],
)
def test_weights_that_do_not_fit_the_config_are_refused_by_name(
    tmp_path: Path, change: Callable[[Tensors], Tensors], config: dict[str, Any], words: str
) -> None:
    folder = with_config(with_tensors(tmp_path / "m", change), **config)
    with pytest.raises(UserError, match=words):
        load(folder)


def test_compare_refuses_such_a_model(tmp_path: Path) -> None:
    folder = with_tensors(tmp_path / "m", without(".layers.1.mlp."))
    table(60).to_csv("plain.csv", index=False)
    ended = theodolite("compare", "plain.csv", "--model", folder, *QUICK, "--out", "run")
    assert ended.code == 2
    assert "model.layers.1.mlp.down_proj.weight" in ended.stderr.replace("\n", "")


def test_a_tied_head_and_old_constants_may_differ(tmp_path: Path) -> None:
    folder = with_config(with_tensors(tmp_path / "tied", without("lm_head")), tie_word_embeddings=True)
    model = load(folder).model
    assert torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)
    old = {"transformer.h.0.attn.masked_bias": torch.ones(1), "transformer.h.0.attn.bias": torch.ones(1, 1, 512, 512)}
    assert load(with_tensors(tmp_path / "old", lambda tensors: tensors | old, "gpt2"))


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_beside_the_weights_is_refused(tmp_path: Path, file: str) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / file).write_text("{}")
    with pytest.raises(UserError, match=rf"adapter \({file}\), which is not applied here: merge it"):
        load(folder)


def test_a_second_layout_in_the_folder_does_not_count(tmp_path: Path) -> None:
    one, two = (model_folder(tmp_path / name) for name in "ab")
    tensors = load_file(two / SINGLE)
    save_file({f"layers.{name}": tensor for name, tensor in tensors.items()}, two / "consolidated.safetensors")
    assert preflight.weights_bytes(one, torch.float32) == preflight.weights_bytes(two, torch.float32)
    assert folder_hash(one) == folder_hash(two) == load(two).hash


def test_shards_are_those_of_the_index(tmp_path: Path) -> None:
    one, two = (model_folder(tmp_path / name) for name in "ab")
    tensors = load_file(two / SINGLE)
    homes = {name: f"shard-{i % 2}.safetensors" for i, name in enumerate(sorted(tensors))}
    for shard in set(homes.values()):
        part = {name: tensors[name] for name, home in homes.items() if home == shard}
        save_file(part, two / shard, metadata={"format": "pt"})
    (two / SINGLE).rename(two / "other.safetensors")
    (two / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": homes}))
    assert load(two).hash == folder_hash(one)
    (two / "shard-1.safetensors").unlink()
    with pytest.raises(UserError, match=r"lacks shard-1.safetensors, one of the 2 files"):
        load(two)
    (two / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(homes, "../a/model.safetensors")}))
    with pytest.raises(UserError, match="no file name"):
        load(two)
    (two / INDEX).write_text("[]")
    with pytest.raises(UserError, match=r"index\.json is damaged"):
        load(two)


def test_the_architecture_is_checked_before_weights_are_hashed(tmp_path: Path, monkeypatch: Any) -> None:
    folder = with_config(model_folder(tmp_path / "m"), model_type="bloom")
    monkeypatch.setattr(loading, "folder_hash", lambda folder: pytest.fail("the weights were hashed"))
    with pytest.raises(UserError, match="unknown model architecture 'bloom'"):
        load(folder)


@pytest.mark.parametrize("bad", ["architecture", "adapter"])
def test_a_hub_id_is_checked_before_its_weights_are_fetched(tmp_path: Path, monkeypatch: Any, bad: str) -> None:
    folder, asked = model_folder(tmp_path / "m"), []
    if bad == "adapter":
        (folder / "adapter_config.json").write_text("{}")
    else:
        with_config(folder, model_type="bloom")

    def fetch(name: str, allow_patterns: list[str], **options: Any) -> str:
        asked.extend(allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    with pytest.raises(UserError, match="unknown model architecture" if bad == "architecture" else "has an adapter"):
        load("org/m")
    assert not any(pattern.endswith("safetensors") for pattern in asked)
