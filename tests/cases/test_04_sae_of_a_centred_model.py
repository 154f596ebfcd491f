"""A dictionary made for centred weights gets rows without their mean over d_model, where the model is equal to that."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from case_kit import Ended, model_folder, table, theodolite
from safetensors.torch import save_file

from theodolite.core.errors import UserError
from theodolite.dictionaries import formats
from theodolite.dictionaries.formats import saelens
from theodolite.dictionaries.opening import open_dictionary
from theodolite.models.model import Model

SITE, D = "blocks.1.resid_post", 32
CENTRED = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
LOWEST = 1e-10  # FVU: all 31 directions that centring leaves are kept


def _shifted(model) -> None:
    """A constant on all coordinates of every block's output, which centring removes."""
    with torch.no_grad():
        for block in model.transformer.h:
            block.mlp.c_proj.bias.add_(0.12)


def _exact_sae(folder: Path, rows: torch.Tensor, **config: object) -> Path:
    """A SAELens folder whose 62 latents reconstruct centred rows exactly, and others not."""
    centred = rows - rows.mean(1, keepdim=True)
    mean = centred.mean(0)
    basis = torch.linalg.svd(centred - mean, full_matrices=False)[2][: D - 1]
    decoder = torch.cat([basis, -basis])
    noise = torch.randn(len(decoder), 1, generator=torch.Generator().manual_seed(0))
    encoder = decoder + 0.12 * noise / D**0.5  # reads the mean over d_model too: not blind to it by construction
    folder.mkdir()
    tensors = {"W_enc": encoder.T.contiguous(), "W_dec": decoder, "b_dec": mean, "b_enc": torch.zeros(len(decoder))}
    save_file(tensors, folder / "sae_weights.safetensors")
    metadata = {"sae_lens_version": "6.0.0", "model_name": "gpt2-small", "hook_name": "blocks.1.hook_resid_post"}
    written = {"architecture": "standard", "d_in": D, "d_sae": len(decoder), "metadata": metadata | CENTRED} | config
    (folder / "cfg.json").write_text(json.dumps(written))
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("centred")
    table(120).to_csv(folder / "plain.csv", index=False)
    model_folder(folder / "gpt2-small", "gpt2", edit=_shifted)
    return folder


@pytest.fixture(scope="module")
def rows(home: Path) -> torch.Tensor:
    model = Model.from_pretrained(str(home / "gpt2-small"))
    site = model.site(SITE)
    return torch.from_numpy(model.read(table(120).text.tolist(), site, pooling=None)[site].rows)


@pytest.fixture(scope="module")
def compared(home: Path, rows: torch.Tensor) -> Iterator[tuple[Ended, dict]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THEODOLITE_CACHE", str(home / "cache"))
        sae = _exact_sae(home / "sae", rows)
        ended = theodolite(
            "compare",
            home / "plain.csv",
            "--model",
            home / "gpt2-small",
            "--sae",
            sae,
            "--method",
            "logistic",
            "logistic@reconstruction",
            "logistic@error",
            "k_sparse@latents",
            "--seeds",
            "2",
            "--sites",
            SITE,
            "--out",
            home / "run",
        )
        assert ended.code == 0, ended.stderr
        yield ended, json.loads((home / "run" / "manifest.json").read_text())


def test_its_rows_are_centred_and_the_run_says_so(compared) -> None:
    _, manifest = compared
    ((by_set),) = manifest["facts"]["fvu"].values()
    assert 0 <= by_set["train"] < LOWEST
    (note,) = [note["text"] for note in manifest["notes"] if note["kind"] == "dictionary"]
    assert "center_writing_weights: the mean over d_model is removed from its rows" in note


def test_the_section_on_the_dictionary_concludes(home: Path, compared) -> None:
    """Two training sets decide nothing, and that is what it says, beside the numbers."""
    found = json.loads((home / "run" / "artefacts" / "dictionary.json").read_text())
    (one,) = found["datasets"]
    assert (one["dataset"], one["conclusion"]) == ("in-distribution", "undecided")
    assert one["fvu"] < LOWEST
    lost = one["contrasts"]["lost"]
    assert (lost["method"], lost["than"]) == ("logistic@reconstruction", "logistic")
    assert abs(lost["value"]) < 0.02  # nothing is lost
    assert one["contrasts"]["missed"]["value"] < -0.2  # the error holds nothing
    page = (home / "run" / "report.html").read_text()
    assert "Undecided on the one data set: in-distribution (FVU .000; reconstruction minus dense" in page


def test_the_mean_is_undone_and_explains_nothing(tmp_path, rows: torch.Tensor) -> None:
    d = formats.read(_exact_sae(tmp_path / "sae", rows))
    centred = rows - rows.mean(1, keepdim=True)
    assert d.fvu(rows, rows) < LOWEST
    assert torch.allclose(d.reconstruct(rows), rows, atol=1e-4)
    assert torch.allclose(d.encode(rows), d.encode(centred), atol=1e-4)
    # the FVU is a share of what the dictionary can explain: a large mean that is passed through does not lower it
    rough = formats.read(_exact_sae(tmp_path / "rough", rows, k=3, architecture="topk"))
    loud = centred + 50 * torch.randn(len(rows), 1, generator=torch.Generator().manual_seed(1))
    assert rough.fvu(loud) == pytest.approx(rough.fvu(centred), rel=1e-3)


def test_a_list_of_releases_may_say_it_beside_the_folder(tmp_path, rows: torch.Tensor) -> None:
    """`config_overrides` of gpt2-small-res-jb stand beside the metadata."""
    metadata = {"model_name": "gpt2-small", "hook_name": "blocks.1.hook_resid_post"}
    folder = _exact_sae(tmp_path / "sae", rows, metadata=metadata)
    assert formats.read(folder).fvu(rows) > 0.01
    assert saelens.read(folder, CENTRED).fvu(rows) < LOWEST


def test_it_survives_a_conversion(tmp_path, rows: torch.Tensor) -> None:
    d = saelens.read(_exact_sae(tmp_path / "sae", rows))
    formats.write(d, tmp_path / "ours", "theodolite")
    formats.write(formats.read(tmp_path / "ours"), tmp_path / "theirs", "saelens")
    for name in ("ours", "theirs"):
        assert formats.read(tmp_path / name).normalise == "centre"
    assert formats.read(tmp_path / "theirs").fvu(rows) < 1e-3  # once in bfloat16


def test_layer_norm_removes_the_mean_anyway_and_a_constant_norm_is_refused(tmp_path, rows: torch.Tensor) -> None:
    ln = formats.read(_exact_sae(tmp_path / "ln", rows, normalize_activations="layer_norm"))
    assert ln.normalise == "layer_norm"
    folder = _exact_sae(tmp_path / "norm", rows, normalize_activations="constant_norm_rescale")
    with pytest.raises(UserError, match="center_writing_weights and its rows have a constant norm"):
        formats.read(folder)
    words = _exact_sae(tmp_path / "text", rows, model_from_pretrained_kwargs={"center_writing_weights": "false"})
    with pytest.raises(UserError, match="center_writing_weights='false', not true or false"):
        formats.read(words)


def test_a_model_with_rms_norm_keeps_its_mean(tmp_path, rows: torch.Tensor) -> None:
    """TransformerLens skips the option there, because the mean is read; the Run says that nothing was centred."""
    from theodolite.dictionaries.origin import remarks

    folder = _exact_sae(tmp_path / "sae", rows)
    llama = Model.from_pretrained(str(model_folder(tmp_path / "llama", "llama")))
    d = open_dictionary(str(folder), llama, SITE)
    assert d.normalise == "none"
    assert any("TransformerLens skips for RMSNorm" in said for said in remarks(d, llama, 256))


def test_other_conventions_in_the_metadata_are_said_or_refused(tmp_path, rows: torch.Tensor) -> None:
    from theodolite.dictionaries.origin import remarks

    metadata = {"model_name": "gpt2-small", "hook_name": "blocks.1.hook_resid_post"}
    model = Model.from_pretrained(str(model_folder(tmp_path / "gpt2-small", "gpt2", edit=_shifted)))
    folder = _exact_sae(
        tmp_path / "sae",
        rows,
        metadata=metadata
        | {
            "prepend_bos": True,
            "context_size": 128,
            "seqpos_slice": [0, 10],
            "model_from_pretrained_kwargs": {"fold_ln": True, "center_unembed": True, "revision": "step1000"},
        },
    )
    said = " | ".join(remarks(open_dictionary(str(folder), model, SITE), model, 256))
    for part in ("BOS token", "contexts of 128 tokens", "some positions", "revision=step1000"):
        assert part in said
    assert "center" not in said  # folded norms and a centred unembedding leave the residual stream as it is
    head = _exact_sae(tmp_path / "head", rows, metadata=metadata | {"hook_head_index": 3})
    with pytest.raises(UserError, match="attention head 3 alone"):
        formats.read(head)
    text = _exact_sae(tmp_path / "text", rows, apply_b_dec_to_input="false")
    with pytest.raises(UserError, match="apply_b_dec_to_input='false', not true or false"):
        formats.read(text)
