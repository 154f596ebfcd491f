"""sparsify: what is refused, where it was trained, and what its folder keeps."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from theodolite.core.errors import UserError
from theodolite.dictionaries.formats import read, write

PEER = Path(__file__).parent / "peers" / "sparsify" / "topk" / "layers.3"


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(shutil.copytree(PEER, tmp_path / "layers.3"))


def change(folder: Path, **config: object) -> None:
    path = folder / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))


def tensors(folder: Path, **changes: torch.Tensor | None) -> None:
    found = load_file(folder / "sae.safetensors") | changes
    save_file({name: t for name, t in found.items() if t is not None}, folder / "sae.safetensors")


def test_site_and_model_come_from_the_folder_and_its_run(folder: Path) -> None:
    assert (read(folder).info["site"], read(folder).info["model"]) == ("blocks.3.resid_post", None)
    (folder.parent / "config.json").write_text('{"model": "EleutherAI/pythia-70m", "seed": 1}')
    assert read(folder).info["model"] == "EleutherAI/pythia-70m"
    assert read(folder.rename(folder.parent / "transformer.h.5.mlp")).info["site"] == "blocks.5.mlp_out"


def test_keys_that_change_nothing_are_kept(folder: Path) -> None:
    change(folder, multi_topk=True, note="mine")
    assert read(folder).info["config"] == {"normalize_decoder": True, "multi_topk": True, "note": "mine"}


@pytest.mark.parametrize("case", ["skip_transcoder/layers.3.mlp", "transcoder/layers.3.mlp", "skip/layers.3"])
def test_a_skip_transcoder_is_one_without_saying_so(tmp_path, case: str) -> None:
    """Its affine path and a b_dec left out of the encoder say it; sparsify's `skip` alone subtracts it."""
    d = read(PEER.parents[1] / case)
    silent = replace(d, info={key: said for key, said in d.info.items() if key != "read_site"})
    assert silent.is_transcoder == (d.W_skip is not None)
    written = write(silent, tmp_path / "layers.3", "sparsify")
    assert json.loads((written / "cfg.json").read_text())["transcode"] == (case == "skip_transcoder/layers.3.mlp")
    x = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(read(written).reconstruct(x), d.reconstruct(x))


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda f: change(f, activation="groupmax"), "unknown activation of a sparsify dictionary 'groupmax'"),
        (lambda f: change(f, k=0), "says k=0, not a positive whole number"),
        (lambda f: change(f, d_in=8), r"says \{'d_in': 8\}, its weights have"),
        (lambda f: change(f, num_latents=8), r"says \{'num_latents': 8\}"),
        (lambda f: change(f, skip_connection=True), r"missing \['W_skip'\]"),
        (lambda f: tensors(f, W_skip=torch.zeros(6, 6)), r"unknown \['W_skip'\]"),
        (lambda f: tensors(f, b_dec=None), r"missing \['b_dec'\]"),
        (lambda f: tensors(f, W_dec=torch.full((12, 6), torch.nan)), "W_dec holds NaN or infinity"),
        (lambda f: tensors(f, W_dec=torch.zeros(6, 12)), r"does not fit \{'W_dec': \(6, 12\)\}"),
        (lambda f: (f / "sae.safetensors").write_bytes(b"\x10" * 40), "sae.safetensors is damaged or incomplete"),
        (lambda f: (f / "cfg.json").unlink(), "cannot read .*cfg.json"),
    ],
)
def test_broken_folders_give_one_clear_error(folder: Path, break_it, said: str) -> None:
    break_it(folder)
    with pytest.raises(UserError, match=said):
        read(folder)
