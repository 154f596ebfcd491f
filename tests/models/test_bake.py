"""A baked model acts by itself as the model with its interventions; what weights cannot express is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from theodolite.core.atomic import file_sha256
from theodolite.core.basis import Direction
from theodolite.core.block_order import BlockOrder
from theodolite.core.condition import Condition
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.models.bake import bake
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

V, W = np.random.default_rng(0).normal(size=(2, 32)).astype(np.float32)
TEXTS = ["hello there", "how are you, all of you?"]


def make(family: str) -> Model:
    return Model(tiny_model(family), byte_tokenizer())


def removal(model: Model, **options: Any) -> list[Intervention]:
    """The removal of V at every write; GPT-2 adds its positions behind `embed`."""
    first = "blocks.0.resid_pre" if model.network.module.config.model_type == "gpt2" else "embed"
    writes = [f"blocks.{n}.{part}" for n in range(3) for part in ("attn_out", "mlp_out")]
    return [Intervention.project_out(site, V, **options) for site in (first, *writes)]


def check(model: Model, changes: Any, folder: Path) -> Model:
    tokens = model.tokens(TEXTS)
    plain, hooked = (model.run(tokens, interventions=i).logits[tokens.mask] for i in ((), changes))
    before = model.hash
    baked = Model.from_pretrained(bake(model, changes, folder, concept="sentiment"))
    torch.testing.assert_close(baked.run(tokens).logits[tokens.mask], hooked, atol=2e-4, rtol=1e-4)
    assert (plain - hooked).abs().max() > 1e-2
    record = json.loads((folder / "theodolite.json").read_text())
    assert (model.hash, record["from"]["weights"], record["weights"]) == (before, before, baked.hash)
    assert record["files"] == {p.name: file_sha256(p) for p in folder.iterdir() if p.name != "theodolite.json"}
    assert len(record["interventions"]) == (len(changes) if isinstance(changes, list) else 1)
    return baked


@pytest.mark.parametrize(
    "family",
    ["llama", "mistral", "smollm3", "qwen2", "qwen3", "gemma", "gpt2", "gpt_neox", "gpt_neox_sequential"],
)
def test_removal_at_every_write_is_orthogonalised_weights(family: str, tmp_path: Path) -> None:
    model = make(family)
    baked = check(model, removal(model), tmp_path / "new")
    stream = baked.run(baked.tokens(TEXTS), "blocks.2.resid_post")["blocks.2.resid_post"]
    assert (stream @ torch.from_numpy(V)).abs().max() < 1e-3
    own, v = model.network.module, torch.from_numpy(V / np.linalg.norm(V))
    path = model.network.family.inner["mlp_act"][0]
    old, new = (
        m.get_submodule(f"{model.network.family.root}.{model.network.family.blocks}.1.{path}").weight
        for m in (own, baked.network.module)
    )
    old, new = (w.T if family == "gpt2" else w for w in (old, new))
    torch.testing.assert_close(new, old - torch.outer(v, v @ old), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("family", "site"),
    [
        ("llama", "blocks.1.resid_post"),
        ("llama", "blocks.2.attn_out"),
        ("gpt2", "blocks.2.resid_pre"),
        ("gpt2", "embed"),
        ("gpt_neox", "blocks.1.resid_post"),
        ("gpt_neox_sequential", "blocks.1.resid_mid"),
        ("gemma3_text", "embed"),
        ("qwen3", "blocks.0.attn_out"),
    ],
)
def test_a_constant_vector_is_a_bias(family: str, site: str, tmp_path: Path) -> None:
    check(make(family), [Intervention.add(site, V, 1.5), Intervention.add(site, W, -0.5)], tmp_path / "new")


def test_an_affine_removal_and_a_scale_are_written_too(tmp_path: Path) -> None:
    changes = [Intervention.ablate("blocks.1.mlp_out", [V, W], V + 2), Intervention.scale("blocks.0.attn_out", W, 3.0)]
    check(make("gpt2"), changes, tmp_path / "new")


WHEN = Condition(Direction(V), above=0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Intervention.project_out("blocks.1.resid_post", V), "give it at every write"),
        (Intervention.add("blocks.1.mlp_out", V, positions="content"), "acts on content"),
        (Intervention.add("blocks.1.mlp_out", V, when=WHEN), "has a condition"),
        (Intervention.add("blocks.1.mlp_out", V, keep_norm=True), "keeps the norm"),
        (Intervention.piecewise("blocks.1.mlp_out", V), "Piecewise is no affine map"),
        (Intervention.rotate("blocks.1.mlp_out", V, 1.0), "Rotate is no affine map"),
        (Intervention.add("blocks.1.mlp_out", V, [1.0, 2.0]), "a strength for each text"),
        (Intervention.add("final_norm", V), "no weight makes the state at 'final_norm'"),
        (Intervention.add("blocks.1.mlp_out", V[:5]), "vectors of 5 numbers"),
        (BlockOrder.skip(1), "no intervention on states"),
    ],
)
def test_what_no_weight_expresses_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        bake(make("llama"), change, tmp_path / "new", concept="sentiment")
    assert not (tmp_path / "new").exists()


def test_architectures_without_the_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a norm lies behind"):
        bake(make("gemma2"), Intervention.project_out("blocks.1.mlp_out", V), tmp_path / "new", concept="joy")
    with pytest.raises(UserError, match="which this architecture has not"):
        bake(make("mistral"), Intervention.add("blocks.1.mlp_out", V), tmp_path / "new", concept="joy")


@pytest.mark.parametrize(
    "concept", ["refusal", "Harmful-Intent", "harm", "unrefusing", "jailbreak_v2", "HARMLESS", "compliance"]
)
def test_nothing_that_lowers_refusal_is_written(concept: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="would refuse less"):
        bake(make("llama"), Intervention.project_out("embed", V), tmp_path / "new", concept=concept)


def test_a_folder_in_use_and_a_change_without_a_name_are_refused(tmp_path: Path) -> None:
    model, change = make("llama"), Intervention.project_out("embed", V)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is not empty"):
        bake(model, change, tmp_path, concept="charm")
    with pytest.raises(UserError, match="say what the vectors stand for"):
        bake(model, change, tmp_path / "new", concept=" ")
