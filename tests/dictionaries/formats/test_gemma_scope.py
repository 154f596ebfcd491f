"""Gemma Scope, both generations: the formula, the path that says where it was trained, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy_weights import BASIC, W, X, assert_equal, relu
from safetensors.torch import save_file

from theodolite.core.errors import UserError
from theodolite.dictionaries.formats import read


@pytest.mark.parametrize("lower", [False, True])
def test_gemma_scope_npz(tmp_path, lower: bool) -> None:
    folder = gemma_scope(tmp_path / "gemma-scope-2b-pt-res", lower=lower)
    pre = X @ W["W_enc"] + W["b_enc"]
    z = relu(pre) * (pre > W["threshold"])
    d = read(folder)
    assert_equal(d, z, z @ W["W_dec"] + W["b_dec"])
    assert (d.info["site"], d.info["l0"]) == ("blocks.12.resid_post", 82)


@pytest.mark.parametrize(
    ("repository", "site"),
    [
        ("models--google--gemma-scope-2b-pt-res/snapshots/0a1b", "blocks.12.resid_post"),
        ("gemma-scope-9b-pt-mlp", "blocks.12.mlp_out"),
        ("gemma-scope-9b-pt-att", None),
        ("somewhere", None),
    ],
)
def test_the_site_of_gemma_scope_follows_from_the_repository(tmp_path, repository: str, site: str | None) -> None:
    assert read(gemma_scope(tmp_path / repository)).info["site"] == site


def test_the_repository_names_the_model(tmp_path) -> None:
    assert read(gemma_scope(tmp_path / "gemma-scope-9b-it-res")).info["model"] == "google/gemma-2-9b-it"
    assert read(gemma_scope(tmp_path / "gemma-scope-2b-pt-mlp")).info["model"] == "google/gemma-2-2b"


def test_heads_and_transcoders_are_marked_and_embeddings_refused(tmp_path) -> None:
    assert read(gemma_scope(tmp_path / "gemma-scope-2b-pt-transcoders")).info["read_site"] is None
    assert read(gemma_scope(tmp_path / "gemma-scope-2b-pt-att")).info["hook"] == "gemma-scope-2b-pt-att"
    with pytest.raises(UserError, match="reads embeddings on a scale"):
        read(gemma_scope(tmp_path / "gemma-scope-2b-pt-res" / "embedding"))


def gemma_scope(repository: Path, *, lower: bool = False) -> Path:
    folder = repository / "layer_12" / "width_16k" / "average_l0_82"
    folder.mkdir(parents=True)
    names = {n: W[n].astype(np.float32) for n in [*BASIC.split(), "threshold"]}
    np.savez(folder / "params.npz", **{n.replace("W_", "w_") if lower else n: a for n, a in names.items()})
    return folder


def test_gemma_scope_2(tmp_path) -> None:
    names = {n.replace("W_", "w_"): torch.tensor(W[n], dtype=torch.float32) for n in [*BASIC.split(), "threshold"]}
    save_file(names, tmp_path / "params.safetensors")
    config = {
        "architecture": "jump_relu",
        "hf_hook_point_in": "model.layers.9.output",
        "model_name": "google/gemma-3-1b-pt",
        "l0": 20,
        "type": "sae",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    pre = X @ W["W_enc"] + W["b_enc"]
    z = relu(pre) * (pre > W["threshold"])
    d = read(tmp_path)
    assert_equal(d, z, z @ W["W_dec"] + W["b_dec"])
    assert (d.info["site"], d.info["model"]) == ("blocks.9.resid_post", "google/gemma-3-1b-pt")
    assert (d.info["l0"], "card" in d.info) == (20, False)  # a card is our own format's: domains, training, curve
    (tmp_path / "config.json").write_text(json.dumps(config | {"affine_connection": True, "type": "transcoder"}))
    with pytest.raises(UserError, match=r"missing \['affine_skip_connection'\]"):
        read(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"architecture": "topk"}))
    with pytest.raises(UserError, match="architecture 'topk' is not Gemma Scope's"):
        read(tmp_path)


def test_configurations_that_are_no_json_are_named(tmp_path) -> None:
    for marker in ("params.safetensors", "model.safetensors"):
        (tmp_path / marker).mkdir(parents=True)
        save_file({"w_enc": torch.zeros(1)}, tmp_path / marker / marker)
        (tmp_path / marker / "config.json").write_text("{")
        with pytest.raises(UserError, match=r"config\.json is damaged or not JSON"):
            read(tmp_path / marker)


def test_npz_with_objects_is_refused(tmp_path) -> None:
    """An object array is a pickle: it must not be opened."""
    np.savez(tmp_path / "params.npz", W_enc=np.array([print], dtype=object))
    with pytest.raises(UserError, match="holds objects"):
        read(tmp_path)
