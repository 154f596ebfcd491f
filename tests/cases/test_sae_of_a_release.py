"""`--sae saelens:RELEASE/ID` in a compare: found in the list, fetched, read; without a network a way out is named."""

import json
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from case_kit import table, theodolite, workplace
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

SITE, D = "blocks.1.resid_post", 32
LIST = f"""
tiny-res:
  repo_id: owner/saes
  model: tiny
  saes:
  - {{id: {SITE.replace("resid", "hook_resid")}, path: layer_1}}
"""
HOW = ("--method", "k_sparse@latents", "--seeds", "2", "--sites", SITE, "--model", "m")


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A list of one release, and its folder as the hub would give it: every row is reconstructed exactly."""
    (tmp_path / "sae_lens").mkdir()
    (tmp_path / "sae_lens" / "__init__.py").write_text("")
    (tmp_path / "sae_lens" / "pretrained_saes.yaml").write_text(LIST)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "sae_lens", raising=False)
    folder = tmp_path / "fetched" / "layer_1"
    folder.mkdir(parents=True)
    W = torch.cat([torch.eye(D), -torch.eye(D)])
    tensors = {"W_enc": W.T.contiguous(), "W_dec": W, "b_dec": torch.zeros(D), "b_enc": torch.zeros(2 * D)}
    save_file(tensors, folder / "sae_weights.safetensors")
    about = {"sae_lens_version": "6.0.0", "hook_name": SITE.replace("resid", "hook_resid")}
    (folder / "cfg.json").write_text(
        json.dumps({"architecture": "standard", "d_in": D, "d_sae": 2 * D, "metadata": about})
    )
    return folder


def test_a_compare_reads_a_release(listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo, allow_patterns: str(listed.parent))
    with workplace(tmp_path):
        table(80).to_csv("t.csv", index=False)
        spec = "saelens:tiny-res/blocks.1.hook_resid_post"
        ended = theodolite("compare", "t.csv", "--sae", spec, "--out", "run", *HOW)
        assert ended.code == 0, ended.stderr
        assert "k_sparse@latents" in Path("run/rows.csv").read_text()


def test_without_a_network_the_folder_is_the_way_out(
    listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(repo: str, allow_patterns: object) -> str:
        raise LocalEntryNotFoundError("no connection and nothing in the cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with workplace(tmp_path):
        table(80).to_csv("t.csv", index=False)
        spec = "saelens:tiny-res/blocks.1.hook_resid_post"
        ended = theodolite("compare", "t.csv", "--sae", spec, "--out", "run", *HOW)
        assert ended.code == 2
        assert "hub:owner/saes/layer_1 cannot be fetched" in ended.stderr
        assert "give the path of its folder" in ended.stderr.replace("\n", " ")
        assert theodolite("compare", "t.csv", "--sae", listed, "--out", "run", *HOW).code == 0
