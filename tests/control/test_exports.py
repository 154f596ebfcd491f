"""Exported controls do what ours do; what a format cannot hold is refused by name."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader

from theodolite.control.exports.gguf import write_gguf
from theodolite.control.exports.nnsight_snippet import SNIPPET, write_snippet
from theodolite.control.exports.transformers_hook import HOOK, write_hook
from theodolite.core.basis import Direction
from theodolite.core.condition import Condition
from theodolite.core.control_file import ControlFile, MadeOn
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.models.model import Model
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model

SITE = "blocks.1.resid_post"
DRAW = np.random.default_rng(3)
U, V = ((v / np.linalg.norm(v)).astype(np.float32) for v in DRAW.normal(size=(2, 32)))


def control(model: Model, *changes: Intervention) -> ControlFile:
    return ControlFile("joy", "difference_in_means", MadeOn.of(model), tuple(change.to_json() for change in changes))


def imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("family", FAMILIES)
def test_the_hook_gives_our_logits(family: str, tmp_path: Path) -> None:
    model = Model(tiny_model(family), byte_tokenizer())
    ours = control(model, Intervention.add(SITE, U), Intervention.add("blocks.2.mlp_out", V, 0.5))
    hook = imported(write_hook(ours, 3.0, model, tmp_path / "joy.py"))
    tokens, module = model.tokens("a text", format="raw"), model.network.module
    wanted, plain = model.run(tokens, interventions=ours.at(3.0)).logits, model.run(tokens).logits
    handles = hook.steer(module)
    with torch.no_grad():
        found = module(tokens.ids).logits
    for handle in handles:
        handle.remove()
    assert wanted is not None
    assert plain is not None
    assert (found - wanted).abs().max() < 1e-5
    assert (wanted - plain).abs().max() > 1e-2
    assert torch.equal(model.run(tokens).logits, plain)  # type: ignore[arg-type]


def test_the_texts_are_short_and_need_no_theodolite() -> None:
    lines = [line for line in HOOK.splitlines() if line.strip() and not line.startswith('"""')]
    assert len(lines) <= 15
    for text in (HOOK, SNIPPET):
        compile(text, "text", "exec")
        assert "theodolite" not in text


def test_the_snippet_holds_the_vectors_of_the_hook(tmp_path: Path) -> None:
    model = Model(tiny_model("gpt2"), byte_tokenizer(), name="a/b")
    ours = control(model, Intervention.add(SITE, U))
    write_hook(ours, -2.0, model, tmp_path / "hook.py")
    path = write_snippet(ours, -2.0, model, tmp_path / "nnsight.py")
    assert path.with_suffix(".safetensors").read_bytes() == (tmp_path / "hook.safetensors").read_bytes()
    assert 'LanguageModel("a/b")' in path.read_text()


@pytest.mark.filterwarnings("ignore:LanguageModel is deprecated")  # its successor came with nnsight 0.8
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_snippet_gives_our_logits(family: str, tmp_path: Path) -> None:
    nnsight = pytest.importorskip("nnsight", reason="nnsight is not installed: `make beside` runs this test with it")
    module, tokenizer = tiny_model(family), byte_tokenizer()
    model = Model(module, tokenizer)
    ours = control(model, Intervention.add(SITE, U), Intervention.add("blocks.2.resid_post", V, 0.5))
    snippet = imported(write_snippet(ours, 3.0, model, tmp_path / "snippet.py"))
    wanted = model.run(model.tokens("a text", format="raw"), interventions=ours.at(3.0)).logits
    found = snippet.steered_logits(nnsight.LanguageModel(module, tokenizer=tokenizer), "a text")
    assert wanted is not None
    assert (found.detach() - wanted).abs().max() < 1e-5


def test_gguf_holds_the_vectors_by_block(tmp_path: Path) -> None:
    model = Model(tiny_model(), byte_tokenizer())
    ours = control(model, Intervention.add(SITE, U), Intervention.add("blocks.2.resid_post", V, 0.5))
    reader = GGUFReader(write_gguf(ours, -2.0, tmp_path / "joy.gguf"))
    held = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    assert sorted(held) == ["direction.1", "direction.2"]
    np.testing.assert_array_equal(held["direction.1"], -2.0 * U)
    np.testing.assert_array_equal(held["direction.2"], np.float32(-1.0) * V)
    values = [
        reader.get_field(name).contents()  # type: ignore[union-attr]
        for name in ("general.architecture", "controlvector.model_hint", "controlvector.layer_count")
    ]
    assert values == ["controlvector", "llama", 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Intervention.add("blocks.0.resid_post", U), "acts at blocks.N.resid_post with N >= 1"),
        (Intervention.add("blocks.1.mlp_out", U), "acts at blocks.N.resid_post with N >= 1"),
        (Intervention.add(SITE, U, positions="last+generated"), r"cannot hold positions 'last\+generated'"),
        (Intervention.clamp(SITE, U, 1.0), "cannot hold the rule 'clamp'"),
        (Intervention.add(SITE, U, keep_norm=True), "cannot hold keep_norm"),
        (Intervention.add(SITE, U, when=Condition(Direction(U), above=0.0)), "cannot hold a condition"),
    ],
)
def test_gguf_refuses_by_name(tmp_path: Path, change: Intervention, message: str) -> None:
    ours = control(Model(tiny_model(), byte_tokenizer()), change)
    with pytest.raises(UserError, match=message):
        write_gguf(ours, 1.0, tmp_path / "joy.gguf")
    assert not list(tmp_path.iterdir())


def test_what_changes_nothing_and_wrong_names_are_refused(tmp_path: Path) -> None:
    model = Model(tiny_model(), byte_tokenizer())
    ours = control(model, Intervention.add(SITE, U))
    with pytest.raises(UserError, match="strength 0 changes nothing"):
        write_gguf(ours, 0.0, tmp_path / "joy.gguf")
    with pytest.raises(UserError, match=r"end it in \.gguf"):
        write_gguf(ours, 1.0, tmp_path / "joy.bin")
    with pytest.raises(UserError, match="which is no module's output"):
        write_hook(control(model, Intervention.add("blocks.1.resid_mid", U)), 1.0, model, tmp_path / "joy.py")
    with pytest.raises(UserError, match=r"end it in \.py"):
        write_hook(ours, 1.0, model, tmp_path / "joy.txt")
    with pytest.raises(UserError, match="is no finite number"):
        write_hook(ours, float("nan"), model, tmp_path / "joy.py")
    assert not list(tmp_path.iterdir())
