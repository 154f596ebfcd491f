"""Small dictionaries that other libraries built and saved, with what their own forward pass gave on random rows.

`benchmarks/peer_formats.py` makes the folders of `peers/` and repeats the comparison with the libraries themselves.
What we write is compared with the peer's file here, byte for byte where nothing had to be folded.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from theodolite.core.errors import UserError
from theodolite.dictionaries import convert, native
from theodolite.dictionaries.dictionary import Dictionary

PEERS = Path(__file__).parent / "peers"
CASES = sorted(str(path.parent.relative_to(PEERS)) for path in PEERS.rglob("outputs.safetensors"))
# What is folded into the weights, or stored in another precision, cannot come out as the same bytes.
FOLDED = {
    "saelens/checkpoint_input_scale",
    "saelens/checkpoint_whitening",
    "saelens/topk_rescaled",
    "saelens/abstopk_rescaled",
    "saelens/standard_float16",
    "saelens/gated",  # exp and log
    "sparsify/bfloat16/layers.3",
    "dictionary_learning/GatedAutoEncoder",
}
LEAST = {"saelens": 20, "sparsify": 5, "dictionary_learning": 7, "openai": 2, "gemma_scope": 2, "gemma_scope_2": 3}


def outputs(case: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    stored = load_file(PEERS / case / "outputs.safetensors")
    return stored["x"], stored["latents"], stored["reconstruction"]


def assert_same(d: Dictionary, case: str) -> None:
    x, latents, reconstruction = outputs(case)
    for got, wanted in ((d.encode(x), latents), (d.reconstruct(x), reconstruction)):
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), atol=1e-5 * max(1.0, float(wanted.abs().max())))
    np.testing.assert_array_equal(d.encode(x).numpy() != 0, latents.numpy() != 0)


def test_every_library_is_here() -> None:
    there = {library: sum(case.startswith(library + "/") for case in CASES) for library in LEAST}
    assert all(there[library] >= least for library, least in LEAST.items()), there


@pytest.mark.parametrize("case", CASES)
def test_reading_gives_what_the_peer_computes(case: str) -> None:
    assert_same(convert.read(PEERS / case), case)


@pytest.mark.parametrize("case", CASES)
def test_rows_are_neither_all_active_nor_all_idle(case: str) -> None:
    """Latents that are all on, or a threshold that decides nothing, would hide the traps these cases are for."""
    _, latents, _ = outputs(case)
    active = (latents != 0).float().mean()
    assert 0.05 < active < 0.95


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_is_what_the_peer_would_have_written(tmp_path, case: str) -> None:
    library = case.split("/")[0]
    written = convert.write(convert.read(PEERS / case), tmp_path / case, to=library)
    assert_same(convert.read(written), case)
    for ours in sorted(written.iterdir()):
        theirs = PEERS / case / ours.name
        if ours.suffix == ".json":
            assert json.loads(ours.read_text()).keys() == json.loads(theirs.read_text()).keys()
        elif ours.suffix == ".pt":
            assert_same_state(torch.load(ours, weights_only=True), torch.load(theirs, weights_only=True), case)
        elif ours.suffix == ".npz" or case not in FOLDED:
            assert ours.read_bytes() == theirs.read_bytes()
        else:
            a, b = load_file(ours), load_file(theirs)
            assert {n: t.shape for n, t in a.items()} == {n: t.shape for n, t in b.items()}


def assert_same_state(ours: dict, theirs: dict, case: str) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        if isinstance(value, torch.Tensor):
            assert (ours[name].shape, ours[name].dtype) == (value.shape, value.dtype), name
            unused = case.endswith("TopK") and name == "threshold"
            assert case in FOLDED or unused or torch.equal(ours[name], value), name
        else:
            assert ours[name] == value


@pytest.mark.parametrize("case", CASES)
def test_our_own_format_holds_every_one(tmp_path, case: str) -> None:
    """Matrices are bfloat16 there; what is read back is `as_stored`, bit for bit."""
    d = convert.read(PEERS / case)
    again = native.load(native.save(d, tmp_path / "d"))
    assert again.fingerprint() == native.as_stored(d).fingerprint()
    assert again.info == d.info
    x, _, _ = outputs(case)
    assert torch.equal(again.reconstruct(x), native.as_stored(d).reconstruct(x))


@pytest.mark.parametrize("case", [case for case in CASES if "transcoder" in case])
def test_transcoders_say_that_they_are(case: str) -> None:
    assert "read_site" in convert.read(PEERS / case).info


def test_k_and_groups_outlive_the_threshold() -> None:
    for case in ("saelens/matryoshka", "dictionary_learning/MatryoshkaBatchTopKSAE"):
        info = convert.read(PEERS / case).info
        assert (info["variant"], info["k"], info["l0"], info["groups"]) == ("matryoshka_batchtopk", 3, 3.0, [4, 8, 12])


@pytest.mark.parametrize(
    ("source", "to"),
    [
        ("saelens/standard_without_b_dec", "dictionary_learning"),
        ("saelens/standard_layer_norm", "theodolite"),
        ("saelens/jumprelu", "gemma_scope"),
        ("saelens/jumprelu", "dictionary_learning"),
        ("saelens/gated", "dictionary_learning"),
        ("saelens/topk_rescaled", "sparsify"),
        ("saelens/matryoshka", "dictionary_learning"),
        ("saelens/jumprelu_skip_transcoder", "gemma_scope_2"),
        ("sparsify/topk/layers.3", "saelens"),
        ("dictionary_learning/MatryoshkaBatchTopKSAE", "saelens"),
        ("dictionary_learning/AutoEncoderNew", "openai"),
        ("openai/topk", "saelens"),
        ("gemma_scope/gemma-scope-2b-pt-res/layer_5/width_16k/average_l0_4", "gemma_scope_2"),
        ("gemma_scope_2/resid_post/layer_5_width_16k_l0_small", "saelens"),
    ],
)
def test_from_one_library_to_another(tmp_path, source: str, to: str) -> None:
    """b_dec moves between the biases where the two differ in whether the input loses it."""
    d = convert.read(PEERS / source)
    again = convert.read(convert.write(d, tmp_path / "d", to=to))
    if to != "theodolite":
        assert_same(again, source)
    assert again.info.get("groups") == d.info.get("groups")


@pytest.mark.parametrize(
    ("source", "to"),
    [
        ("saelens/jumprelu", "sparsify"),
        ("saelens/transcoder", "sparsify"),
        ("saelens/topk", "openai"),
        ("saelens/topk", "gemma_scope"),
        ("saelens/standard_layer_norm", "dictionary_learning"),
        ("saelens/skip_transcoder", "openai"),
        ("saelens/jumprelu_skip_transcoder", "gemma_scope"),
        ("sparsify/skip/layers.3", "saelens"),
        ("saelens/matching_pursuit", "dictionary_learning"),
    ],
)
def test_what_a_format_has_no_words_for_is_refused(tmp_path, source: str, to: str) -> None:
    with pytest.raises(UserError, match="has no form for"):
        convert.write(convert.read(PEERS / source), tmp_path / "d", to=to)
    assert not (tmp_path / "d").exists()
