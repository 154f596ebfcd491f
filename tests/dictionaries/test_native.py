"""Our own format holds every rule there is, refuses what is damaged, and reads the folders that the first one wrote."""

import json
from dataclasses import fields
from importlib import resources
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from theodolite.core.atomic import file_sha256
from theodolite.core.errors import UserError
from theodolite.dictionaries import native
from theodolite.dictionaries.activations import Activation, JumpReluRule, ReluRule, TopKRule
from theodolite.dictionaries.dictionary import Dictionary

D, F = 6, 9
DRAWS = torch.Generator().manual_seed(0)
X = torch.randn(20, D, generator=DRAWS)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=DRAWS)


def made(rule: Activation, **how: object) -> Dictionary:
    return Dictionary(drawn(F, D), drawn(F), drawn(F, D), drawn(D), rule, **how)


def example(kind: type[Activation]) -> Activation:
    """Tensors over latents, and numbers that are not the defaults."""
    values = {"Tensor": drawn(F).abs(), "int": 3, "float": 0.25, "bool": True}
    return kind(**{f.name: values[f.type if isinstance(f.type, str) else f.type.__name__] for f in fields(kind)})


@pytest.mark.parametrize("name", sorted(native.RULES))
def test_every_rule_is_held(tmp_path, name: str) -> None:
    rule = example(native.RULES[name])
    d = made(rule)
    again = native.load(native.save(d, tmp_path))
    assert type(again.activation) is type(rule)
    assert again.activation.numbers() == rule.numbers()
    assert all(torch.equal(t, rule.tensors()[n]) for n, t in again.activation.tensors().items())
    assert torch.equal(again.encode(X), native.as_stored(d).encode(X))
    assert again.fingerprint() == native.as_stored(d).fingerprint()


@pytest.mark.parametrize(
    "how",
    [
        {"subtract_b_dec": False},
        {"normalise": "layer_norm"},
        {"normalise": "constant_norm"},
        {"refit": True},
        {"W_skip": drawn(D, D), "subtract_b_dec": False, "info": {"read_site": None}},
    ],
    ids=lambda how: next(iter(how)),
)
def test_everything_else_is_held_too(tmp_path, how: dict) -> None:
    d = made(TopKRule(3), **how)
    again = native.load(native.save(d, tmp_path))
    assert again.info == d.info
    assert again.fingerprint() == native.as_stored(d).fingerprint()
    assert torch.equal(again.reconstruct(X), native.as_stored(d).reconstruct(X))


def test_a_transcoder_into_another_width(tmp_path) -> None:
    how = {"W_skip": drawn(4, D), "subtract_b_dec": False, "info": {"read_site": "blocks.1.resid_mid"}}
    d = Dictionary(drawn(F, D), drawn(F), drawn(F, 4), drawn(4), ReluRule(), **how)
    again = native.load(native.save(d, tmp_path))
    assert (again.d_in, again.d_out) == (D, 4)
    assert torch.equal(again.reconstruct(X), native.as_stored(d).reconstruct(X))


def test_thresholds_are_never_rounded(tmp_path) -> None:
    threshold = torch.full((F,), 1 + 2**-20)
    native.save(made(JumpReluRule(threshold)), tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert {name: t.dtype for name, t in stored.items()} == {
        "W_enc": torch.bfloat16,
        "W_dec": torch.bfloat16,
        "b_enc": torch.float32,
        "b_dec": torch.float32,
        "rule.threshold": torch.float32,
    }
    assert torch.equal(native.load(tmp_path).activation.tensors()["threshold"], threshold)


def test_the_first_format_is_still_read(tmp_path) -> None:
    """The dictionaries that ship were written by it."""
    d = made(TopKRule(3), info={"site": "blocks.0.resid_post"})
    native.save(d, tmp_path)
    path = tmp_path / "config.json"
    now = json.loads(path.read_text())
    first = {key: now[key] for key in ("kind", "d_in", "width", "encoder", "weights_sha256", "info")}
    path.write_text(json.dumps({"format": "theodolite-dictionary/1", "k": 3} | first))
    assert native.load(tmp_path).fingerprint() == native.as_stored(d).fingerprint()
    shipped = Path(str(resources.files("theodolite.dictionaries"))) / "shipped"
    configs = [native.read_config(path.parent) for path in shipped.rglob("config.json")]
    assert configs
    assert all(config["rule"] == {"k": 32} for config in configs)


def test_another_version_and_an_unknown_rule_are_refused(tmp_path) -> None:
    native.save(made(ReluRule()), tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"format": "theodolite-dictionary/3"}))
    with pytest.raises(UserError, match="format 'theodolite-dictionary/3' is not 'theodolite-dictionary/2'"):
        native.load(tmp_path)
    path.write_text(json.dumps(config | {"kind": "jumprely"}))
    with pytest.raises(UserError, match=r"unknown rule of dictionary .*'jumprely': did you mean 'jumprelu'"):
        native.load(tmp_path)
    path.write_text(json.dumps(config | {"kind": "topk"}))
    with pytest.raises(UserError, match=r"rule 'topk' has \['k'\], the folder \[\]"):
        native.load(tmp_path)
    path.write_text(json.dumps({key: value for key, value in config.items() if key != "width"} | {"widht": 9}))
    with pytest.raises(UserError, match=r"config\.json lacks \['width'\] and holds unknown \['widht'\]"):
        native.load(tmp_path)


def test_damage_is_found_by_its_hash_and_missing_tensors_by_name(tmp_path) -> None:
    native.save(made(JumpReluRule(torch.zeros(F))), tmp_path)
    weights, path = tmp_path / "model.safetensors", tmp_path / "config.json"
    tensors = load_file(weights)
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(UserError, match="missing or damaged"):
        native.load(tmp_path)
    for left, said in (("b_enc", r"missing \['b_enc'\]"), ("rule.threshold", r"has \['threshold'\], the folder \[\]")):
        save_file({name: t for name, t in tensors.items() if name != left}, weights)
        config = json.loads(path.read_text()) | {"weights_sha256": file_sha256(weights)}
        path.write_text(json.dumps(config))
        with pytest.raises(UserError, match=said):
            native.load(tmp_path)


def test_a_control_keeps_its_seed_and_not_its_encoder(tmp_path) -> None:
    from theodolite.dictionaries.seeded import seeded_rows

    info = {"frozen_encoder": True, "seed": 7}
    d = Dictionary(seeded_rows(F, D, 7), drawn(F), drawn(F, D), drawn(D), TopKRule(2), info=info)
    native.save(d, tmp_path)
    assert "W_enc" not in load_file(tmp_path / "model.safetensors")
    assert torch.equal(native.load(tmp_path).W_enc, d.W_enc)
