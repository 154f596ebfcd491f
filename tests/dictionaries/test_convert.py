"""`theodolite convert`: what it says, what it refuses, and that a pickled file cannot run anything."""

import json
import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from theodolite import cli
from theodolite.core.errors import UserError
from theodolite.dictionaries import convert as converting
from theodolite.dictionaries import formats, native
from theodolite.dictionaries.convert import convert
from theodolite.dictionaries.variants.topk import TopK

PEERS = Path(__file__).parent / "formats" / "peers"
TOPK = PEERS / "dictionary_learning" / "AutoEncoderTopK"


def test_a_pickled_file_becomes_one_of_ours_with_a_warning(tmp_path) -> None:
    out = tmp_path / "ours"
    warning, what, wrote = convert(str(TOPK), out)
    assert warning == f"warning: {TOPK / 'ae.pt'} is pickled; it was opened weights-only, which builds no objects"
    assert what.endswith(
        "topk, 12 latents of 6 dimensions, blocks.3.resid_post of EleutherAI/pythia-70m (dictionary_learning)"
    )
    assert wrote.startswith(f"wrote {out} as theodolite; on 256 random rows the reconstruction differs by ")
    assert float(wrote.split(" by ")[1].split()[0]) < 0.03  # bfloat16, and now and then another latent among the k
    assert formats.read(out).activation.numbers() == {"k": 3}


def test_what_is_not_pickled_needs_no_warning_and_loses_nothing(tmp_path) -> None:
    what, wrote = convert(str(PEERS / "saelens" / "jumprelu"), tmp_path / "out", to="gemma_scope")
    assert "warning" not in what
    assert float(wrote.split(" by ")[1].split()[0]) < 1e-6


def test_what_another_format_has_no_place_for_is_said(tmp_path) -> None:
    control = TopK(6, width=12, k=3, frozen="encoder", lr=1e-2).fit([torch.eye(6)]).dictionary()
    native.save(replace(control, info=control.info | {"card": {"domains": {}}}), tmp_path / "control")
    _, note, warning, _ = convert(str(tmp_path / "control"), tmp_path / "out", to="saelens")
    assert note.startswith("note: saelens has no place for the card")
    assert warning == f"warning: {tmp_path / 'control'} is a control with a frozen part, which saelens cannot record"
    assert len(convert(str(tmp_path / "control"), tmp_path / "ours")) == 2


def test_a_folder_of_dictionaries_is_not_taken_for_one(tmp_path) -> None:
    convert(str(PEERS / "saelens" / "jumprelu"), tmp_path / "run" / "site")
    with pytest.raises(
        UserError, match=rf"is no dictionary but a folder of 1: name one of {tmp_path / 'run' / 'site'}"
    ):
        formats.read(tmp_path / "run")


def test_a_file_by_its_name(tmp_path) -> None:
    file = PEERS / "openai" / "relu" / "autoencoder.pt"
    assert convert(str(file), tmp_path / "out", to="dictionary_learning")[0].startswith("warning")


def test_reading_without_converting_is_refused() -> None:
    with pytest.raises(UserError, match=r"ae\.pt is pickled.*convert it first: theodolite convert "):
        formats.read(TOPK)


@pytest.mark.parametrize("content", [{"W": os.system}, {"pre_bias": torch.zeros(2), "hook": os.system}])
def test_a_file_that_holds_more_than_weights_runs_nothing(tmp_path, content: dict) -> None:
    class Attack:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "ran"),)

    for name, attack in (("plain.pt", True), ("zip.pt", False)):
        if attack:
            (tmp_path / name).write_bytes(pickle.dumps(content | {"attack": Attack()}))
        else:
            torch.save(content | {"attack": Attack()}, tmp_path / name)
        with pytest.raises(UserError, match=f"{name} cannot be opened weights-only"):
            convert(str(tmp_path / name), tmp_path / "out")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


def state(**changes: object) -> dict:
    return torch.load(TOPK / "ae.pt", weights_only=True) | changes


@pytest.mark.parametrize(
    ("stored", "config", "said"),
    [
        ([1, 2], {}, "holds a list, not weights by name"),
        ({"a": 1}, {}, "holds a dict, not weights by name"),
        (state(), {}, "must say which class it is .* fit AutoEncoderTopK and BatchTopKSAE"),
        (state(), {"dict_class": "BatchTopK"}, "unknown dict_class .* did you mean 'BatchTopKSAE'"),
        (state(), {"dict_class": "GatedAutoEncoder"}, r"tensors missing \['decoder_bias'"),
        (state(), {"dict_class": "AutoEncoderTopK", "dict_size": 13}, r"says \{'dict_size': 13\}, its weights have"),
        (state(k=torch.tensor(0)), {"dict_class": "AutoEncoderTopK"}, "says k=0.0, not a positive whole number"),
        (state(k=torch.tensor(99)), {"dict_class": "AutoEncoderTopK"}, "k=99 latents cannot be active, it has 12"),
        (state(b_dec=torch.full((6,), torch.nan)), {"dict_class": "AutoEncoderTopK"}, "b_dec holds NaN or infinity"),
        (state(b_dec=torch.zeros(7)), {"dict_class": "AutoEncoderTopK"}, r"does not fit \{'b_dec': \(7,\)\}"),
        (state(extra=torch.zeros(1)), {"dict_class": "AutoEncoderTopK"}, r"unknown \['extra'\]"),
    ],
)
def test_bad_pickled_folders_give_one_clear_error(tmp_path, stored: object, config: dict, said: str) -> None:
    torch.save(stored, tmp_path / "ae.pt")
    (tmp_path / "config.json").write_text(json.dumps({"trainer": config}))
    with pytest.raises(UserError, match=said):
        convert(str(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"activation": "Gelu"}, "unknown activation of an OpenAI dictionary 'Gelu'"),
        ({"activation_state_dict": {"k": 3, "postact_fn": "Identity"}}, "a TopK without ReLU"),
        ({"activation_state_dict": {"postact_fn": "ReLU"}}, "says k=None"),
        ({"latent_bias": torch.full((12,), torch.inf)}, "b_enc holds NaN or infinity"),
    ],
)
def test_bad_files_of_openai_give_one_clear_error(tmp_path, changes: dict, said: str) -> None:
    stored = torch.load(PEERS / "openai" / "topk" / "autoencoder.pt", weights_only=True)
    torch.save(stored | changes, tmp_path / "autoencoder.pt")
    with pytest.raises(UserError, match=said):
        converting.read(tmp_path)


@pytest.mark.parametrize("cut", [10, 2000])
def test_a_truncated_file_is_named(tmp_path, cut: int) -> None:
    (tmp_path / "ae.pt").write_bytes((TOPK / "ae.pt").read_bytes()[:-cut])
    with pytest.raises(UserError, match=r"ae\.pt cannot be opened weights-only, it is damaged"):
        convert(str(tmp_path), tmp_path / "out")


def test_nothing_is_overwritten(tmp_path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="exists: nothing was overwritten"):
        convert(str(TOPK), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_sources_that_are_not_there_and_formats_that_do_not_exist(tmp_path) -> None:
    with pytest.raises(UserError, match="unknown dictionary format 'sae-lens': did you mean 'saelens'"):
        convert(str(TOPK), tmp_path / "out", to="sae-lens")
    with pytest.raises(UserError, match=r"no dictionary at nowhere: give a folder or a \.pt file"):
        convert("nowhere", tmp_path / "out")
    with pytest.raises(UserError, match=r"it holds none of model\.safetensors"):
        convert(str(tmp_path), tmp_path / "out")
    for name in ("a.pt", "b.pt"):
        torch.save({}, tmp_path / name)
    with pytest.raises(UserError, match=r"holds 2 \.pt files: name one of a\.pt, b\.pt"):
        convert(str(tmp_path), tmp_path / "out")


def test_a_pickled_file_of_the_hub_comes_with_its_configuration(tmp_path, monkeypatch) -> None:
    import huggingface_hub

    asked = []

    def snapshot(repo: str, allow_patterns: list[str]) -> str:
        asked.append((repo, allow_patterns))
        return str(PEERS)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    convert("hub:owner/saes/dictionary_learning/AutoEncoderTopK/ae.pt", tmp_path / "out", to="sparsify")
    folder = "dictionary_learning/AutoEncoderTopK"
    assert asked == [("owner/saes", [f"{folder}/ae.pt", f"{folder}/config.json"])]


def test_the_command_says_it_in_lines_and_fails_in_one(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["theodolite", "convert", str(TOPK), str(tmp_path / "out"), "--to", "saelens"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("warning: ")
    assert (tmp_path / "out" / "cfg.json").is_file()
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    told = capsys.readouterr()
    assert (stopped.value.code, told.out) == (2, "")
    assert told.err == f"theodolite: {tmp_path / 'out'} exists: nothing was overwritten, name a new folder\n"
