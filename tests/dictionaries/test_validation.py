"""A configuration with a value of another type or size, and weights that are no numbers, in every format there is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from theodolite.core.atomic import file_sha256
from theodolite.core.errors import UserError
from theodolite.dictionaries import convert, native
from theodolite.dictionaries.activations import AbsTopKRule, FistaRule, GatedRule, JumpReluRule, ReluRule, TopKRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.seeded import seeded_rows

D, F = 6, 9
DRAWS = torch.Generator().manual_seed(0)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=DRAWS)


def made(rule: Any, **how: Any) -> Dictionary:
    return Dictionary(drawn(F, D), drawn(F), drawn(F, D), drawn(D), rule, **how)


def edited(folder: Path, change: Callable[[dict], dict]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_in": True}, "d_in=True, not a whole number from 1"),
        ({"d_in": 6.0}, r"d_in=6\.0, not a whole number"),
        ({"d_in": "6"}, "d_in='6', not a whole number"),
        ({"d_in": 7}, r"other sizes: W_enc \(9, 6\) instead of \(9, 7\)"),
        ({"d_out": 5}, r"W_dec \(9, 6\) instead of \(9, 5\)"),
        ({"width": 0}, "width=0, not a whole number from 1"),
        ({"width": -9}, "width=-9, not a whole number from 1"),
        ({"width": 10}, r"W_enc \(9, 6\) instead of \(10, 6\)"),
        ({"width": 10**18}, "width=1000000000000000000, not a whole number"),
        ({"subtract_b_dec": "false"}, "subtract_b_dec='false', not true or false"),
        ({"refit": 0}, "refit=0, not true or false"),
        ({"normalise": "layernorm"}, "unknown normalise of dictionary .*'layernorm': did you mean 'layer_norm'"),
        ({"normalise": None}, "unknown normalise"),
        ({"kind": 3}, "kind=3, not text"),
        ({"info": []}, r"info=\[\], not an object"),
        ({"rule": 3}, "rule=3, not an object"),
        ({"rule": {"k": True}}, r"rule\.k=True, not a finite number"),
        ({"rule": {"k": "3"}}, r"rule\.k='3', not a finite number"),
        ({"rule": {"k": -3}}, "k=-3, not a whole number from 1 on"),
        ({"rule": {"k": 0}}, "k=0, not a whole number from 1 on"),
        ({"rule": {"k": 2.5}}, r"k=2\.5, not a whole number"),
        ({"rule": {"k": 10}}, "k=10 latents cannot be active, it has 9"),
        ({"rule": {"k": 3, "l": 1}}, r"rule 'topk' has \['k'\], the folder \['k', 'l'\]"),
        ({"encoder": {"seed": -1, "sha256": "0"}}, 'encoder=.*not "stored" or its seed'),
        ({"encoder": {"seed": 1}}, 'encoder=.*not "stored" or its seed'),
        ({"encoder": None}, 'encoder=None, not "stored"'),
        ({"weights_sha256": None}, "weights_sha256=None, not text"),
        ({"info": {"site": "layer 5"}}, "'layer 5' is not a site"),
        ({"info": {"model_hash": 5}}, r"info\.model_hash=5, not text"),
        ({"info": {"l0": "32"}}, r"info\.l0='32', not a positive number"),
        ({"info": {"k": True}}, r"info\.k=True, not a whole number"),
        ({"info": {"training": {"corpus": 3}}}, r"info\.training=.*its corpus in text"),
    ],
    ids=str,
)
def test_a_native_configuration_is_checked(tmp_path, change: dict, message: str) -> None:
    native.save(made(TopKRule(3)), tmp_path)
    edited(tmp_path, lambda config: config | change)
    with pytest.raises(UserError, match=message):
        native.load(tmp_path)


def test_a_number_that_json_may_hold_and_nobody_can_compute_with_is_refused(tmp_path) -> None:
    native.save(made(FistaRule(lam=0.1)), tmp_path)
    text = (tmp_path / "config.json").read_text()
    for value, message in (("NaN", "lam=nan, not a finite"), ("-0.5", r"lam=-0\.5 and steps=100 must be >= 0")):
        (tmp_path / "config.json").write_text(text.replace('"lam": 0.1', f'"lam": {value}'))
        with pytest.raises(UserError, match=message):
            native.load(tmp_path)


def test_a_wide_control_is_refused_before_its_encoder_is_drawn(tmp_path) -> None:
    """The seed of a control's encoder would fill any memory: its width is that of the decoder that is there."""
    info = {"frozen_encoder": True, "seed": 7}
    d = Dictionary(seeded_rows(F, D, 7), drawn(F), drawn(F, D), drawn(D), TopKRule(2), info=info)
    native.save(d, tmp_path)
    edited(tmp_path, lambda config: config | {"width": 2**27})
    with pytest.raises(UserError, match="configuration says width=134217728, W_dec another"):
        native.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W_dec": torch.zeros(F, D, dtype=torch.int64)}, "W_dec holds no floating-point numbers"),
        ({"b_dec": torch.zeros(D, 1)}, r"b_dec \(6, 1\) instead of \(6,\)"),
        ({"W_enc": torch.zeros(F)}, r"W_enc \(9,\) instead of \(9, 6\)"),
        ({"W_more": torch.zeros(F)}, r"tensors unknown \['W_more'\]"),
        ({"rule.threshold": torch.zeros(F + 1)}, r"threshold \(10,\) instead of \(9,\)"),
        ({"rule.threshold": torch.full((F,), torch.nan)}, "threshold holds NaN or infinity"),
        ({"b_enc": torch.full((F,), torch.inf)}, "b_enc holds NaN or infinity, as after a training that diverged"),
    ],
    ids=lambda value: str(list(value)) if isinstance(value, dict) else "",
)
def test_native_tensors_are_checked(tmp_path, change: dict, message: str) -> None:
    native.save(made(JumpReluRule(torch.zeros(F))), tmp_path)
    weights = tmp_path / native.WEIGHTS
    save_file(load_file(weights) | change, weights)
    edited(tmp_path, lambda config: config | {"weights_sha256": file_sha256(weights)})
    with pytest.raises(UserError, match=message):
        native.load(tmp_path)


@pytest.mark.parametrize("to", convert.NAMES)
def test_weights_that_are_no_numbers_are_refused_in_every_format(tmp_path, to: str) -> None:
    rule = {"sparsify": TopKRule(3), "openai": ReluRule()}.get(to, JumpReluRule(torch.zeros(F)))
    good = made(rule, subtract_b_dec=not to.startswith("gemma"), info={"model": "m"})
    convert.write(good, tmp_path / "good", to=to)
    assert convert.read(tmp_path / "good").width == F
    for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
        spoilt = getattr(good, name).clone()
        spoilt.view(-1)[1] = np.nan
        folder = tmp_path / name
        convert.write(Dictionary(**{**vars(good), name: spoilt}), folder, to=to)
        with pytest.raises(UserError, match=rf"\b{name}\b.* holds NaN or infinity"):
            convert.read(folder)


def test_a_gate_whose_scale_overflows_is_refused(tmp_path) -> None:
    rule = GatedRule(torch.ones(F), torch.zeros(F))
    convert.write(made(rule), tmp_path, to="saelens")
    weights = tmp_path / "sae_weights.safetensors"
    save_file(load_file(weights) | {"r_mag": torch.full((F,), 100.0)}, weights)  # exp(100) is infinite in float32
    with pytest.raises(UserError, match="scale, shift holds NaN or infinity"):
        convert.read(tmp_path)


@pytest.mark.parametrize(
    ("to", "change", "message"),
    [
        ("saelens", {"apply_b_dec_to_input": "false"}, "apply_b_dec_to_input='false', not true or false"),
        ("saelens", {"d_in": "6"}, "its configuration says {'d_in': '6'}"),
        ("saelens", {"metadata": "none"}, "metadata='none', not an object"),
        ("saelens", {"k": -3}, "k=-3, not a positive whole number"),
        ("saelens", {"k": True}, "k=True, not a positive whole number"),
        ("sparsify", {"transcode": "no"}, "transcode='no', not true or false"),
        ("sparsify", {"k": 10}, "k=10 latents cannot be active, it has 9"),
    ],
)
def test_foreign_configurations_are_checked(tmp_path, to: str, change: dict, message: str) -> None:
    convert.write(made(TopKRule(3)), tmp_path, to=to)
    path = tmp_path / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        convert.read(tmp_path)


def test_k_of_every_rule_is_held_against_the_width(tmp_path) -> None:
    native.save(made(AbsTopKRule(3)), tmp_path)
    edited(tmp_path, lambda config: config | {"rule": {"k": 99}})
    with pytest.raises(UserError, match="k=99 latents cannot be active, it has 9"):
        native.load(tmp_path)


@pytest.mark.parametrize("to", ["saelens", "sparsify", "gemma_scope_2"])
def test_a_matrix_without_two_dimensions_is_one_clear_error(tmp_path, to: str) -> None:
    rule = TopKRule(3) if to == "sparsify" else JumpReluRule(torch.zeros(F))
    convert.write(made(rule, subtract_b_dec=not to.startswith("gemma")), tmp_path, to=to)
    (weights,) = tmp_path.glob("*.safetensors")
    tensors = load_file(weights)
    decoder = "w_dec" if "w_dec" in tensors else "W_dec"
    save_file(tensors | {decoder: torch.zeros(F)}, weights)
    with pytest.raises(UserError, match="not that of a matrix"):
        convert.read(tmp_path)
