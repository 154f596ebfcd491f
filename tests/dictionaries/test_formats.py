"""Converters preserve the output: each source's own formula, written out here, on random rows."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from theodolite.core.errors import UserError
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.formats import read

D, F, N = 6, 11, 40
rng = np.random.default_rng(0)
X = rng.normal(size=(N, D)) * 2 + 1
W = {
    "W_enc": rng.normal(size=(D, F)),
    "W_dec": rng.normal(size=(F, D)),
    "b_enc": rng.normal(size=F) * 0.3,
    "b_dec": rng.normal(size=D),
    "threshold": np.abs(rng.normal(size=F)),
    "b_gate": rng.normal(size=F) * 0.3,
    "b_mag": rng.normal(size=F) * 0.3,
    "r_mag": rng.normal(size=F) * 0.3,
}


def relu(a: np.ndarray) -> np.ndarray:
    return np.maximum(a, 0)


def top(a: np.ndarray, k: int) -> np.ndarray:
    cut = np.sort(a, axis=1)[:, -k][:, None]
    return relu(np.where(a >= cut, a, 0))


def saelens(folder, kind: str, names: str, **config: object) -> Dictionary:
    save_file({n: torch.tensor(W[n], dtype=torch.float32) for n in names.split()}, folder / "sae_weights.safetensors")
    metadata = {"model_name": "gpt2-small", "hook_name": "blocks.8.hook_resid_post"}
    config = {"architecture": kind, "d_in": D, "d_sae": F, "dtype": "float32", "metadata": metadata} | config
    (folder / "cfg.json").write_text(json.dumps(config))
    return read(folder)


def assert_equal(d: Dictionary, latents: np.ndarray, reconstruction: np.ndarray) -> None:
    x = torch.tensor(X, dtype=torch.float32)
    np.testing.assert_allclose(d.encode(x).numpy(), latents, atol=2e-5)
    np.testing.assert_allclose(d.encode_csr(x).toarray(), latents, atol=2e-5)
    np.testing.assert_allclose(d.reconstruct(x).numpy(), reconstruction, atol=1e-4)
    assert (latents > 0).any()
    assert (latents == 0).any()


PRE = (X - W["b_dec"]) @ W["W_enc"]
BASIC = "W_enc W_dec b_enc b_dec"


def test_saelens_standard(tmp_path) -> None:
    z = relu(PRE + W["b_enc"])
    d = saelens(tmp_path, "standard", BASIC, apply_b_dec_to_input=True, normalize_activations="none")
    assert_equal(d, z, z @ W["W_dec"] + W["b_dec"])
    assert d.info["site"] == "blocks.8.resid_post"
    assert d.info["model"] == "gpt2-small"


def test_saelens_without_the_decoder_bias_in_the_input(tmp_path) -> None:
    z = relu(X @ W["W_enc"] + W["b_enc"])
    assert_equal(saelens(tmp_path, "standard", BASIC, apply_b_dec_to_input=False), z, z @ W["W_dec"] + W["b_dec"])


def test_saelens_topk(tmp_path) -> None:
    z = top(PRE + W["b_enc"], 3)
    assert_equal(saelens(tmp_path, "topk", BASIC, k=3), z, z @ W["W_dec"] + W["b_dec"])


def test_saelens_topk_rescaled_by_decoder_norm(tmp_path) -> None:
    norm = np.linalg.norm(W["W_dec"], axis=1)
    z = top((PRE + W["b_enc"]) * norm, 3)
    d = saelens(tmp_path, "topk", BASIC, k=3, rescale_acts_by_decoder_norm=True)
    assert_equal(d, z, (z / norm) @ W["W_dec"] + W["b_dec"])


def test_saelens_jumprelu_and_exported_batchtopk(tmp_path) -> None:
    pre = PRE + W["b_enc"]
    z = relu(pre) * (pre > W["threshold"])
    assert_equal(saelens(tmp_path, "jumprelu", BASIC + " threshold"), z, z @ W["W_dec"] + W["b_dec"])


def test_saelens_gated(tmp_path) -> None:
    gate = PRE + W["b_gate"] > 0
    z = gate * relu((X - W["b_dec"]) @ (W["W_enc"] * np.exp(W["r_mag"])) + W["b_mag"])
    assert_equal(saelens(tmp_path, "gated", "W_enc W_dec b_dec b_gate b_mag r_mag"), z, z @ W["W_dec"] + W["b_dec"])


def test_saelens_layer_norm(tmp_path) -> None:
    mean, std = X.mean(1, keepdims=True), X.std(1, ddof=1, keepdims=True)
    z = relu(((X - mean) / (std + 1e-5) - W["b_dec"]) @ W["W_enc"] + W["b_enc"])
    d = saelens(tmp_path, "standard", BASIC, normalize_activations="layer_norm")
    assert_equal(d, z, (z @ W["W_dec"] + W["b_dec"]) * std + mean)


def test_saelens_constant_norm(tmp_path) -> None:
    factor = D**0.5 / np.linalg.norm(X, axis=1, keepdims=True)
    z = relu((X * factor - W["b_dec"]) @ W["W_enc"] + W["b_enc"])
    d = saelens(tmp_path, "standard", BASIC, normalize_activations="constant_norm_rescale")
    assert_equal(d, z, (z @ W["W_dec"] + W["b_dec"]) / factor)


def test_saelens_expected_average_needs_its_factor(tmp_path) -> None:
    (tmp_path / "activation_scaler.json").write_text('{"scaling_factor": 0.25}')
    z = relu((X * 0.25 - W["b_dec"]) @ W["W_enc"] + W["b_enc"])
    d = saelens(tmp_path, "standard", BASIC, normalize_activations="expected_average_only_in")
    assert_equal(d, z, (z @ W["W_dec"] + W["b_dec"]) / 0.25)
    (tmp_path / "activation_scaler.json").unlink()
    with pytest.raises(UserError, match="scaled by a factor that is not in the folder"):
        read(tmp_path)
    (tmp_path / "activation_scaler.json").write_text("{}")
    with pytest.raises(UserError, match=r"activation_scaler\.json: scaling_factor must be a positive number, not None"):
        read(tmp_path)


def test_saelens_before_version_6(tmp_path) -> None:
    """topk was an activation function then; a finetuned scale multiplied the latents on their way to the decoder."""
    scale = torch.linspace(0.5, 2, F)
    names = {n: torch.tensor(W[n], dtype=torch.float32) for n in BASIC.split()}
    save_file(names | {"scaling_factor": scale}, tmp_path / "sae_weights.safetensors")
    config = {
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": 3},
        "finetuning_scaling_factor": True,
        "hook_point": "blocks.2.hook_mlp_out",
    }
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    z = top(PRE + W["b_enc"], 3)
    d = read(tmp_path)
    assert_equal(d, z, (z * scale.numpy()) @ W["W_dec"] + W["b_dec"])
    assert d.info["site"] == "blocks.2.mlp_out"


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


def test_transcoders_of_gemma_scope_are_refused(tmp_path) -> None:
    folder = gemma_scope(tmp_path / "gemma-scope-2b-pt-transcoders")
    with pytest.raises(UserError, match="writes another site"):
        read(folder)


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
    with pytest.raises(UserError, match="writes another site"):
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


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (
            lambda f: (f / "sae_weights.safetensors").write_bytes((f / "sae_weights.safetensors").read_bytes()[:-9]),
            "damaged or incomplete",
        ),
        (lambda f: (f / "sae_weights.safetensors").unlink(), "it holds none of"),
        (lambda f: saelens(f, "standard", "W_enc W_dec b_dec"), r"missing \['b_enc'\]"),
        (lambda f: saelens(f, "standard", BASIC + " r_mag"), r"unknown \['r_mag'\]"),
        (lambda f: saelens(f, "crosscoder", BASIC), "unknown SAELens architecture 'crosscoder'"),
        (
            lambda f: saelens(f, "standard", BASIC, normalize_activations="layernorm"),
            "unknown normalize_activations of a SAELens dictionary 'layernorm': did you mean 'layer_norm'",
        ),
        (lambda f: saelens(f, "topk", BASIC), "cfg.json says k=None"),
        (lambda f: saelens(f, "standard", BASIC, activation_fn_str="topk"), "cfg.json says k=None"),
        (lambda f: (f / "cfg.json").write_text('{"architecture": '), "cfg.json is damaged or not JSON"),
        (lambda f: (f / "cfg.json").unlink(), "cannot read .*cfg.json"),
        (lambda f: saelens(f, "standard", BASIC, reshape_activations="hook_z"), "attention heads"),
    ],
)
def test_broken_folders_give_one_clear_error(tmp_path, break_it, message: str) -> None:
    saelens(tmp_path, "standard", BASIC)

    def opened() -> None:
        break_it(tmp_path)
        read(tmp_path)

    with pytest.raises(UserError, match=message):
        opened()


def test_matrices_that_do_not_fit_each_other_are_refused(tmp_path) -> None:
    saelens(tmp_path, "standard", BASIC)
    tensors = {n: torch.tensor(W[n], dtype=torch.float32) for n in BASIC.split()}
    save_file(tensors | {"W_dec": tensors["W_dec"].T.contiguous()}, tmp_path / "sae_weights.safetensors")
    with pytest.raises(UserError, match=r"does not fit \{'W_dec': \(6, 11\)\}"):
        read(tmp_path)
