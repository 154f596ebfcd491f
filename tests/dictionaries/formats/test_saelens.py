"""SAELens, all versions: what the formula says, what is refused, and what the metadata keeps."""

import json

import numpy as np
import pytest
import torch
from numpy_weights import BASIC, PRE, D, F, W, X, assert_equal, relu, saelens, top
from safetensors.torch import save_file

from theodolite.core.errors import UserError
from theodolite.dictionaries.formats import read


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
        (lambda f: saelens(f, "topk", BASIC), "configuration says k=None"),
        (lambda f: saelens(f, "standard", BASIC, activation_fn_str="topk"), "configuration says k=None"),
        (lambda f: (f / "cfg.json").write_text('{"architecture": '), "cfg.json is damaged or not JSON"),
        (lambda f: (f / "cfg.json").unlink(), "cannot read .*cfg.json"),
        (lambda f: saelens(f, "standard", BASIC, reshape_activations="hook_z"), "attention heads"),
        (
            lambda f: saelens(f, "standard", BASIC, metadata={"hook_name": "blocks.1.attn.hook_z"}),
            r"attention heads \(blocks\.1\.attn\.hook_z\)",
        ),
        (lambda f: saelens(f, "topk", BASIC, k=2.5), "configuration says k=2.5"),
        (lambda f: saelens(f, "topk", BASIC, k=F + 1), r"k=12 latents cannot be active, it has 11"),
        (lambda f: saelens(f, "standard", BASIC, d_in=7), r"says \{'d_in': 7\}, its weights have"),
        (lambda f: saelens(f, "standard", BASIC, activation_fn="tanh-relu"), "unknown activation function"),
        (lambda f: saelens(f, "temporal", BASIC), "unknown SAELens architecture 'temporal'"),
        (lambda f: saelens(f, "matching_pursuit", "W_dec b_dec", max_iterations=3), "stops early"),
        (
            lambda f: saelens(f, "standard", BASIC, normalize_activations="covariance_whitening"),
            "whitened by a matrix that is not in the folder",
        ),
        (lambda f: saelens(f, "skip_transcoder", BASIC, d_out=D), r"missing \['W_skip'\]"),
        (
            lambda f: saelens(f, "transcoder", BASIC, d_out=D, normalize_activations="layer_norm"),
            "a transcoder whose rows are normalised",
        ),
    ],
)
def test_broken_folders_give_one_clear_error(tmp_path, break_it, message: str) -> None:
    saelens(tmp_path, "standard", BASIC)

    def opened() -> None:
        break_it(tmp_path)
        read(tmp_path)

    with pytest.raises(UserError, match=message):
        opened()


@pytest.mark.parametrize(("name", "value"), [("W_enc", np.nan), ("b_dec", np.inf), ("threshold", np.nan)])
def test_weights_that_are_no_numbers_are_refused(tmp_path, monkeypatch, name: str, value: float) -> None:
    spoilt = W[name].copy()
    spoilt.flat[1] = value
    monkeypatch.setitem(W, name, spoilt)
    with pytest.raises(UserError, match=f"{name} holds NaN or infinity"):
        saelens(tmp_path, "jumprelu", BASIC + " threshold")


def test_an_infinite_threshold_switches_a_latent_off(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(W, "threshold", np.full(F, np.inf))
    d = saelens(tmp_path, "jumprelu", BASIC + " threshold")
    assert not d.encode(torch.tensor(X, dtype=torch.float32)).any()


def test_keys_that_change_nothing_are_kept(tmp_path) -> None:
    d = saelens(tmp_path, "standard", BASIC, lr=3e-4, wandb_project="x")
    assert {key: d.info["config"][key] for key in ("lr", "wandb_project")} == {"lr": 3e-4, "wandb_project": "x"}


def test_a_finetuned_scale_that_nobody_asks_for_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(W, "scaling_factor", np.ones(F))
    saelens(tmp_path, "standard", BASIC + " scaling_factor")
    monkeypatch.setitem(W, "scaling_factor", np.full(F, 2.0))
    with pytest.raises(UserError, match="holds a scaling_factor and says that none is used"):
        saelens(tmp_path, "standard", BASIC + " scaling_factor")


def test_the_oldest_configurations_say_yes_or_no_to_a_scale(tmp_path) -> None:
    z = relu(PRE + W["b_enc"])
    assert_equal(saelens(tmp_path, "standard", BASIC, normalize_activations=False), z, z @ W["W_dec"] + W["b_dec"])
    with pytest.raises(UserError, match="scaled by a factor that is not in the folder"):
        saelens(tmp_path, "standard", BASIC, normalize_activations=True)


def test_matrices_that_do_not_fit_each_other_are_refused(tmp_path) -> None:
    saelens(tmp_path, "standard", BASIC)
    tensors = {n: torch.tensor(W[n], dtype=torch.float32) for n in BASIC.split()}
    save_file(tensors | {"W_dec": tensors["W_dec"].T.contiguous()}, tmp_path / "sae_weights.safetensors")
    with pytest.raises(UserError, match=r"does not fit \{'W_dec': \(6, 11\)\}"):
        read(tmp_path)
