"""Vectors of other programs act where they acted there; what may run code or does not fit is refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from safetensors.numpy import save_file

from theodolite.control.exports.gguf import write_gguf
from theodolite.control.imports.control_vector import open_control_vector
from theodolite.control.imports.steering_vectors import from_steering_vector, open_layers
from theodolite.core.control_file import LARGEST, ControlFile, MadeOn
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

V = np.random.default_rng(1).normal(size=32).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model(), byte_tokenizer())


def written(path: Path, tensors: dict[str, Any], kind: str = "controlvector") -> Path:
    """Write a GGUF file as repeng does: directions as they are, a hint of the model, their number."""
    writer = GGUFWriter(path, kind)
    writer.add_string(f"{kind}.model_hint", "llama")
    writer.add_uint32(f"{kind}.layer_count", len(tensors))
    for name, array in tensors.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def added_by_hidden_states(model: Model, block: int, vector: np.ndarray) -> torch.Tensor:
    """Return logits with the vector on hidden_states[block + 1], where repeng reads and adds it, by a plain hook."""

    def hook(module: Any, inputs: Any, output: Any) -> Any:
        h = (output[0] if isinstance(output, tuple) else output) + torch.tensor(vector)
        return (h, *output[1:]) if isinstance(output, tuple) else h

    tokens = model.tokens("a text", format="raw")
    handle = model.network.blocks[block].register_forward_hook(hook)
    with torch.no_grad():
        logits = model.network.module(tokens.ids).logits
    handle.remove()
    return logits


def test_a_repeng_vector_acts_behind_the_block_of_its_number(model: Model, tmp_path: Path) -> None:
    kept = open_control_vector(written(tmp_path / "joy.gguf", {"direction.1": V}))
    assert (kept.concept, kept.method, kept.made_on.architecture) == ("joy", "gguf", "llama")
    found = model.run(model.tokens("a text", format="raw"), interventions=kept.at(1.5)).logits
    assert found is not None
    assert (found - added_by_hidden_states(model, 1, 1.5 * V)).abs().max() < 1e-5


def test_what_is_exported_is_imported_again(model: Model, tmp_path: Path) -> None:
    unit = V / np.linalg.norm(V)
    changes = tuple(Intervention.add(f"blocks.{b}.resid_post", unit, b).to_json() for b in (1, 2))
    ours = ControlFile("joy", "lat", MadeOn.of(model), changes)
    again = open_control_vector(write_gguf(ours, 3.0, tmp_path / "joy.gguf"))
    tokens = model.tokens("a text")
    logits = [model.run(tokens, interventions=c).logits for c in (ours.at(3.0), again.at(1.0))]
    assert (logits[0] - logits[1]).abs().max() < 1e-5  # type: ignore[operator]


@dataclass
class SteeringVector:
    """The two fields of the package's class."""

    layer_activations: dict[int, Any]
    layer_type: str = "decoder_block"


def test_a_steering_vector_acts_behind_its_block(model: Model, tmp_path: Path) -> None:
    kept = from_steering_vector(SteeringVector({1: torch.tensor(V)}), "joy")
    found = model.run(model.tokens("a text", format="raw"), interventions=kept.at(-0.5)).logits
    assert (found - added_by_hidden_states(model, 1, -0.5 * V)).abs().max() < 1e-5  # type: ignore[operator]
    save_file({"layers.1": V}, tmp_path / "v.safetensors")
    same = open_layers(tmp_path / "v.safetensors", "joy")
    np.testing.assert_array_equal(same.directions["blocks.1.resid_post"], kept.directions["blocks.1.resid_post"])
    assert [str(s) for s in from_steering_vector(SteeringVector({2: V}, "mlp"), "joy").sites] == ["blocks.2.mlp_out"]
    shifted = open_layers(tmp_path / "v.safetensors", "joy", counted="hidden_states")
    assert [str(site) for site in shifted.sites] == ["blocks.0.resid_post"]


@pytest.mark.parametrize(
    ("tensors", "kind", "message"),
    [
        ({"direction.1": V}, "llama", "of kind 'llama', not a control vector"),
        ({"direction.0": V}, "controlvector", "a direction of layer 0"),
        ({"direction.1": np.full(32, np.nan, np.float32)}, "controlvector", "NaN"),
        ({"direction.1": V * 0}, "controlvector", "nothing but zeros"),
        ({"direction.1": V, "token_embd.weight": V}, "controlvector", "is no direction.N in F32"),
        ({"direction.1": V, "direction.2": V[:8]}, "controlvector", r"vectors have \[8, 32\] numbers"),
        ({"direction.1": V.astype(np.float16)}, "controlvector", "is no direction.N in F32"),
        ({"direction.1": V.reshape(2, 16)}, "controlvector", r"has shape \(2, 16\)"),
    ],
)
def test_gguf_files_that_do_not_fit_are_refused(tmp_path: Path, tensors: Any, kind: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_control_vector(written(tmp_path / "x.gguf", tensors, kind))


def test_damaged_large_and_pickled_files_are_refused(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.gguf", {"direction.1": V}).read_bytes()
    cut = tmp_path / "cut.gguf"
    for n in (0, 3, 10, 40, len(whole) // 2):
        cut.write_bytes(whole[:n])
        with pytest.raises(UserError, match="GGUF file"):
            open_control_vector(cut)
    with cut.open("wb") as handle:
        handle.truncate(LARGEST + 1)
    with pytest.raises(UserError, match="no control vector has more than"):
        open_control_vector(cut)
    for name in ("v.pt", "v.pkl"):
        (tmp_path / name).write_bytes(b"\x80\x04.")
        with pytest.raises(UserError, match=r"is pickled, and opening it may run code .*save_file"):
            open_layers(tmp_path / name, "joy")


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (SteeringVector({1: V}, "input_layernorm"), "layer type 'input_layernorm' has no site"),
        (SteeringVector({-1: V}), "-1 is no number of a layer"),
        (SteeringVector({}), "there is no vector"),
        (3, "int has no layer_activations"),
    ],
)
def test_vectors_without_a_site_are_refused(vector: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_steering_vector(vector, "joy")


WHY = "{} is not installed: `make beside` runs this test with it"


def test_a_file_that_repeng_writes_gives_the_logits_that_repeng_gives(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "float_", np.float64, raising=False)  # repeng 0.4.0 names what NumPy 2 has dropped
    repeng = pytest.importorskip("repeng", reason=WHY.format("repeng"))
    theirs = repeng.ControlVector(model_type="llama", directions={1: V, 2: V[::-1].copy()})
    theirs.export_gguf(tmp_path / "theirs.gguf")
    tokens, own = model.tokens("a text", format="raw"), tiny_model()
    controlled = repeng.ControlModel(own, [1, 2])
    controlled.set_control(theirs, 1.5)
    with torch.no_grad():
        wanted = controlled(tokens.ids).logits
    ours = open_control_vector(tmp_path / "theirs.gguf")
    found = model.run(tokens, interventions=ours.at(1.5)).logits
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_a_vector_of_steering_vectors_gives_the_logits_that_it_gives_there(model: Model) -> None:
    package = pytest.importorskip("steering_vectors", reason=WHY.format("steering-vectors"))
    layers = {1: torch.from_numpy(V), 2: torch.from_numpy(V[::-1].copy())}
    theirs = package.SteeringVector(layer_activations=layers, layer_type="decoder_block")
    tokens, own = model.tokens("a text", format="raw"), tiny_model()
    with torch.no_grad(), theirs.apply(own, multiplier=1.5):
        wanted = own(tokens.ids).logits
    found = model.run(tokens, interventions=from_steering_vector(theirs, "joy").at(1.5)).logits
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
