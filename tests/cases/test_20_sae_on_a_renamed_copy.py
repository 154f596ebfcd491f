"""A dictionary on a copy under another name, and every way in which SAELens and TransformerLens name a hook."""

import json
from pathlib import Path

import pytest
import torch
from case_kit import model_folder, table, theodolite
from safetensors.torch import save_file

from theodolite.core.errors import UserError
from theodolite.dictionaries.opening import open_dictionary
from theodolite.models.model import Model

SITE, D = "blocks.1.resid_post", 32


def _sae(folder: Path, hook: str, model: str, scale: float = 1.0) -> Path:
    """A SAELens folder that reconstructs every row exactly, or `scale` times it."""
    folder.mkdir(parents=True)
    turn = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(0)))[0]
    decoder = torch.cat([turn, -turn])
    tensors = {"W_enc": decoder.T.contiguous(), "W_dec": scale * decoder}
    tensors |= {"b_dec": torch.zeros(D), "b_enc": torch.zeros(2 * D)}
    save_file(tensors, folder / "sae_weights.safetensors")
    metadata = {"sae_lens_version": "6.0.0", "model_name": model, "hook_name": hook}
    config = {"architecture": "standard", "d_in": D, "d_sae": 2 * D, "metadata": metadata}
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    home = tmp_path_factory.mktemp("models")
    families = ("llama", "gpt2", "gpt_neox", "gemma2")
    return {name: Model.from_pretrained(str(model_folder(home / name, name))) for name in families}


def test_a_copy_of_another_name_is_compared_and_the_run_says_so(tmp_path) -> None:
    table(120).to_csv("plain.csv", index=False)
    copy = model_folder(tmp_path / "0a1b2c3d", "llama")
    sae = _sae(tmp_path / "sae", "blocks.1.hook_out", "org/tiny-llama")
    how = ("--method", "k_sparse@latents", "--seeds", "2", "--sites", SITE, "--model", copy)
    ended = theodolite("compare", "plain.csv", "--sae", sae, "--out", "run", *how)
    assert ended.code == 0, ended.stderr
    notes = json.loads(Path("run/manifest.json").read_text())["notes"]
    assert any("was trained on org/tiny-llama, not on 0a1b2c3d" in note["text"] for note in notes)
    stranger = _sae(tmp_path / "other", "blocks.1.hook_out", "org/tiny-llama", scale=0.2)  # FVU about .64
    ended = theodolite("compare", "plain.csv", "--sae", stranger, "--out", "run2", *how)
    assert ended.code == 2
    assert "trained on org/tiny-llama, not on 0a1b2c3d, and does not fit" in ended.stderr


@pytest.mark.parametrize(
    ("family", "hook", "site"),
    [
        ("llama", "blocks.1.hook_resid_post", "blocks.1.resid_post"),
        ("llama", "blocks.1.hook_out", "blocks.1.resid_post"),
        ("llama", "blocks.1.hook_in", "blocks.1.resid_pre"),
        ("llama", "blocks.1.ln2.hook_in", "blocks.1.resid_mid"),
        ("llama", "blocks.1.mlp.hook_out", "blocks.1.mlp_out"),
        ("llama", "blocks.1.attn.hook_out", "blocks.1.attn_out"),
        ("llama", "model.layers.1", "blocks.1.resid_post"),
        ("llama", "model.layers.1.output", "blocks.1.resid_post"),
        ("llama", "model.layers.1.input", "blocks.1.resid_pre"),
        ("llama", "model.language_model.layers.1", "blocks.1.resid_post"),
        ("llama", "model.layers.1.self_attn", "blocks.1.attn_out"),
        ("llama", "embed.hook_out", "embed"),
        ("llama", "model.embed_tokens", "embed"),
        ("gpt2", "transformer.h.1", "blocks.1.resid_post"),
        ("gpt2", "transformer.h.1.mlp", "blocks.1.mlp_out"),
        ("gpt2", "transformer.h.1.attn", "blocks.1.attn_out"),
        ("gpt_neox", "gpt_neox.layers.1", "blocks.1.resid_post"),
        ("gpt_neox", "gpt_neox.layers.1.mlp", "blocks.1.mlp_out"),
        ("gemma2", "blocks.1.ln2_post.hook_out", "blocks.1.mlp_out"),
        ("gemma2", "model.layers.1.post_feedforward_layernorm", "blocks.1.mlp_out"),
        ("gemma2", "blocks.1.hook_mlp_out", "blocks.1.mlp_out"),
    ],
)
def test_every_spelling_of_a_hook_is_its_site(tmp_path, models, family: str, hook: str, site: str) -> None:
    assert open_dictionary(str(_sae(tmp_path / "d", hook, family)), models[family], site).width == 2 * D


@pytest.mark.parametrize(
    ("family", "hook"),
    [
        ("gemma2", "blocks.1.mlp.hook_out"),  # before the norm behind the MLP
        ("gemma2", "model.layers.1.mlp"),
        ("gpt_neox", "blocks.1.hook_resid_mid"),  # attention and MLP in parallel
        ("llama", "transformer.h.1"),
        ("llama", "model.vision_tower.encoder.layers.1"),
        ("llama", "blocks.1.mlp.hook_post"),
    ],
)
def test_a_hook_that_is_no_site_of_this_model_is_refused(tmp_path, models, family: str, hook: str) -> None:
    folder = _sae(tmp_path / "d", hook, family)
    with pytest.raises(UserError, match=f"trained at {hook}, which is no site here"):
        open_dictionary(str(folder), models[family], "blocks.1.mlp_out")


def test_a_module_path_of_sparsify_is_read_with_the_model(tmp_path, models) -> None:
    """`layers.1.mlp` is what the stream receives in Llama, and lies before a norm in Gemma 2."""
    folder = tmp_path / "layers.1.mlp"
    folder.mkdir()
    turn = torch.eye(D)
    tensors = {"encoder.weight": turn, "encoder.bias": torch.zeros(D), "W_dec": turn.clone(), "b_dec": torch.zeros(D)}
    save_file(tensors, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"d_in": D, "k": 3, "num_latents": D}))
    assert open_dictionary(str(folder), models["llama"], "blocks.1.mlp_out").width == D
    with pytest.raises(UserError, match="no site here"):
        open_dictionary(str(folder), models["gemma2"], "blocks.1.mlp_out")
