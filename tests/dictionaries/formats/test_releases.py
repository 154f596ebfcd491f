"""`saelens:RELEASE/ID` through the list that lies in the sae-lens package, which is not imported."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from theodolite.core.errors import UserError
from theodolite.dictionaries.convert import convert
from theodolite.dictionaries.formats import releases
from theodolite.dictionaries.opening import open_dictionary
from theodolite.models.families import GPT_2

PEERS = Path(__file__).parent / "peers"
SCALED = PEERS / "saelens" / "checkpoint_input_scale"
LIST = """
my-release:
  conversion_func: null
  repo_id: owner/saes
  model: gpt2-small
  config_overrides: {dataset_path: some/texts}
  saes:
  - {id: blocks.8.hook_resid_post, path: scaled, norm_scaling_factor: 0.4}
  - {id: 7, path: 7}
gemma-scope-2b-pt-res:
  conversion_func: gemma_2
  repo_id: google/gemma-scope-2b-pt-res
  saes:
  - {id: layer_5/width_16k/average_l0_4, path: layer_5/width_16k/average_l0_4}
suite:
  conversion_func: dictionary_learning_1
  repo_id: owner/suite
  saes:
  - {id: one, path: dictionary_learning/BatchTopKSAE}
goodfire:
  conversion_func: goodfire
  repo_id: a/b
  saes:
  - {id: one, path: one.pt}
"""
MODEL = SimpleNamespace(name="gpt2", hash="0", d_model=6, network=SimpleNamespace(family=GPT_2))


@pytest.fixture
def listed(tmp_path, monkeypatch) -> Path:
    package = tmp_path / "sae_lens"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('must not be imported')")
    (package / "pretrained_saes.yaml").write_text(LIST)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "sae_lens", raising=False)
    return tmp_path


def test_a_release_is_fetched_and_its_factor_folded(listed: Path, monkeypatch) -> None:
    home = listed / "snapshot"
    shutil.copytree(SCALED, home / "scaled")
    (home / "scaled" / "activation_scaler.json").unlink()  # the list says it instead
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo, allow_patterns: str(home))
    d = open_dictionary("saelens:my-release/blocks.8.hook_resid_post", MODEL, "blocks.8.resid_post")
    stored = load_file(SCALED / "outputs.safetensors")
    np.testing.assert_allclose(d.encode(stored["x"]).numpy(), stored["latents"].numpy(), atol=1e-5)
    assert d.info["config"]["dataset_path"] == "some/texts"
    assert "sae_lens" not in sys.modules


def test_other_layouts_are_read_by_their_files(listed: Path) -> None:
    name = "gemma-scope-2b-pt-res/layer_5/width_16k/average_l0_4"
    release = releases.find(name)
    assert release.path == f"google/{name}"
    d = release.read(PEERS / "gemma_scope" / name)
    assert d.info["site"] == "blocks.5.resid_post"
    assert isinstance(d.W_enc, torch.Tensor)


def test_a_pickled_release_is_for_convert_only(listed: Path, monkeypatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo, allow_patterns: str(PEERS))
    with pytest.raises(UserError, match=r"ae\.pt is pickled"):
        open_dictionary("saelens:suite/one", MODEL, "blocks.3.resid_post")
    assert convert("saelens:suite/one", listed / "out", to="saelens")[0].startswith("warning: ")


def test_what_is_not_listed_or_not_read_is_refused(listed: Path) -> None:
    assert releases.find("my-release/7").path == "owner/saes/7"
    with pytest.raises(UserError, match="unknown SAELens release 'my-releese': did you mean 'my-release'"):
        releases.find("my-releese/7")
    with pytest.raises(UserError, match="unknown dictionary of the SAELens release my-release '8'"):
        releases.find("my-release/8")
    with pytest.raises(UserError, match="laid out as 'goodfire', which is not read here"):
        releases.find("goodfire/one")


def test_without_the_package_one_sentence_says_what_to_do(monkeypatch) -> None:
    monkeypatch.setattr(releases.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the list of releases in the sae-lens package: pip install sae-lens"):
        open_dictionary("saelens:gpt2-small-res-jb/blocks.8.hook_resid_pre", MODEL, "blocks.8.resid_pre")


def test_the_metadata_is_kept_for_the_way_back(tmp_path) -> None:
    from theodolite.dictionaries import formats

    d = formats.read(PEERS / "saelens" / "matryoshka")
    formats.write(d, tmp_path / "again", "saelens")
    theirs = json.loads((PEERS / "saelens" / "matryoshka" / "cfg.json").read_text())
    assert json.loads((tmp_path / "again" / "cfg.json").read_text())["metadata"] == theirs["metadata"]
