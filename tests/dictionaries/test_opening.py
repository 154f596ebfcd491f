"""Opening by name, folder and hub; and the self-check, which must name what is wrong, not only that something is."""

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from theodolite.core.errors import UserError
from theodolite.dictionaries import convert, native, opening
from theodolite.dictionaries.activations import JumpReluRule, ReluRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.opening import find, open_dictionary, paired, self_check
from theodolite.dictionaries.origin import other_model
from theodolite.dictionaries.training.learner import frozen_part
from theodolite.dictionaries.variants.topk import TopK
from theodolite.models.families import LLAMA

SITE, NEXT = "blocks.3.resid_post", "blocks.4.resid_post"
MODEL = SimpleNamespace(
    name="org/tiny", hash="abc123" * 8, d_model=8, n_blocks=30, network=SimpleNamespace(family=LLAMA)
)


def rows(seed: int, mixing: int = 0) -> torch.Tensor:
    """Sums of 2 of 12 directions that belong to the site (`mixing` names it), around a mean."""
    directions = np.random.default_rng(mixing).standard_normal((12, 8))
    rng = np.random.default_rng(seed)
    z = np.zeros((400, 12))
    np.put_along_axis(z, rng.random((400, 12)).argsort(1)[:, :2], rng.uniform(2, 4, (400, 2)), axis=1)
    return torch.tensor(z @ directions + 3 * (mixing + 1), dtype=torch.float32)


@pytest.fixture(scope="module")
def fitted() -> Dictionary:
    trained = TopK(8, width=12, k=2, lr=2e-2).fit(rows(s % 10) for s in range(200)).dictionary()
    info = trained.info | {
        "site": SITE,
        "model": MODEL.name,
        "model_hash": MODEL.hash,
        "training": {"corpus": "text-chat"},
    }
    return replace(trained, info=info | {"card": {"domains": {"held-out documents": {"l0": 2.0}}}})


def test_a_dictionary_that_fits_passes_with_its_numbers(fitted: Dictionary) -> None:
    got = self_check(fitted, {SITE: rows(99)}, SITE)
    assert got["fvu"] < 0.4
    assert 1.5 < got["l0"] <= 2


def test_wrong_site_is_named(fitted: Dictionary) -> None:
    with pytest.raises(UserError, match=f"does not fit {NEXT}: FVU .* It fits {SITE}: probably the wrong site"):
        self_check(fitted, {NEXT: rows(99, mixing=1), SITE: rows(99)}, NEXT)


def test_unfolded_normalisation_is_named(fitted: Dictionary) -> None:
    x = rows(99)
    factor = float(8**0.5 / x.norm(dim=1).mean())
    unfolded = replace(fitted, b_enc=fitted.b_enc * factor, b_dec=fitted.b_dec * factor)
    with pytest.raises(UserError, match=r"sqrt\(d\) over the mean norm: its normalisation was not folded in"):
        self_check(unfolded, {SITE: x * 5}, SITE)


def test_transposed_encoder_is_named() -> None:
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))[0]
    square = Dictionary(turn, torch.full((8,), 50.0), turn, -50 * turn.sum(0), ReluRule(), subtract_b_dec=False)
    self_check(square, {SITE: rows(1)}, SITE)
    with pytest.raises(UserError, match="It fits with W_enc transposed"):
        self_check(replace(square, W_enc=turn.T.contiguous()), {SITE: rows(1)}, SITE)


def test_l0_far_from_the_card_is_refused_even_where_fvu_is_fine(fitted: Dictionary) -> None:
    card = {"domains": {"held-out documents": {"l0": 9.0}}}
    with pytest.raises(UserError, match=r"L0 2 \(its card says 9"):
        self_check(replace(fitted, info=fitted.info | {"card": card}), {SITE: rows(99)}, SITE)
    foreign = replace(fitted, info={"l0": 9.0})
    with pytest.raises(UserError, match=r"L0 2 \(its card says 9"):
        self_check(foreign, {SITE: rows(99)}, SITE)


def test_rows_of_another_model_fit_nothing(fitted: Dictionary) -> None:
    g = torch.Generator().manual_seed(0)
    noise = 50 * torch.randn(400, 8, generator=g) + 500 * torch.randn(8, generator=g)
    with pytest.raises(UserError, match="probably another model"):
        self_check(fitted, {SITE: noise, NEXT: noise}, SITE)


def test_folder_is_matched_against_model_and_site(fitted: Dictionary, tmp_path) -> None:
    folder = str(native.save(fitted, tmp_path / "d"))
    assert open_dictionary(folder, MODEL, SITE).width == 12
    with pytest.raises(UserError, match=f"trained at {SITE}, not at {NEXT}"):
        open_dictionary(folder, MODEL, NEXT)
    shallow = SimpleNamespace(**vars(MODEL) | {"n_blocks": 1})
    with pytest.raises(UserError, match=f"trained at {SITE}, and this model has 1 blocks: .* with more blocks$"):
        open_dictionary(folder, shallow, NEXT)
    with pytest.raises(UserError, match="reads 8 dimensions, org/tiny has 16"):
        open_dictionary(folder, SimpleNamespace(**vars(MODEL) | {"d_model": 16}), SITE)
    with pytest.raises(UserError, match="no dictionary folder"):
        open_dictionary(str(tmp_path / "none"), MODEL, SITE)


def test_a_dictionary_of_another_model_is_opened_and_held_to_a_smaller_error(fitted: Dictionary, tmp_path) -> None:
    """A renamed copy and a fine-tune pass the self-check; rows of a stranger do not, and the cause is named."""
    copy = SimpleNamespace(**vars(MODEL) | {"name": "0a1b2c3d", "hash": "0" * 48})
    opened = open_dictionary(str(native.save(fitted, tmp_path / "d")), copy, SITE)
    said = other_model(opened, copy)
    assert said == "org/tiny, not on 0a1b2c3d"
    assert self_check(opened, {SITE: rows(99)}, SITE, trained_on=said)["fvu"] < 0.4
    noisy = rows(99) + 6 * torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    assert 0.5 < self_check(opened, {SITE: noisy}, SITE)["fvu"] < 1  # what its own model may show
    with pytest.raises(UserError, match=r"was trained on org/tiny, not on 0a1b2c3d, and does not fit .* FVU 0\..*0\.5"):
        self_check(opened, {SITE: noisy}, SITE, trained_on=said)
    assert other_model(opened, MODEL) == ""
    tuned = SimpleNamespace(**vars(MODEL) | {"hash": "1" * 48})
    assert other_model(opened, tuned) == "other weights of org/tiny (hash abc123abc123, here 111111111111)"


def test_a_dictionary_of_centred_rows_is_told_from_its_rows(fitted: Dictionary) -> None:
    """A file need not say that the model's weights were centred; then the error says what to write into it."""
    x = rows(99)
    mean = x.mean(1, keepdim=True)
    centred = TopK(8, width=12, k=2, lr=2e-2).fit(r - r.mean(1, keepdim=True) for r in map(rows, range(100)))
    plain = centred.dictionary()
    assert self_check(plain, {SITE: x - mean}, SITE)["fvu"] < 0.4
    with pytest.raises(UserError, match=r'"model_from_pretrained_kwargs": \{"center_writing_weights": true\}'):
        self_check(plain, {SITE: x - mean + 1.0}, SITE)
    treated = replace(plain, normalise="centre")
    assert self_check(treated, {SITE: x}, SITE)["fvu"] == pytest.approx(plain.fvu(x - mean), rel=1e-4)


def test_what_train_wrote_is_found_by_site_seed_control_and_corpus(fitted: Dictionary, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path))
    home = opening.trained_folder(MODEL)
    native.save(fitted, home / "one")
    native.save(replace(fitted, info=fitted.info | {"seed": 5}), home / "two")
    assert [(f.site, f.seed, f.control) for f in find(MODEL)] == [(SITE, 0, False), (SITE, 5, False)]
    assert find(MODEL, NEXT) == []
    assert find(SimpleNamespace(**vars(MODEL) | {"hash": "f" * 48})) == []
    assert open_dictionary("shipped", MODEL, SITE, seed=5).info["seed"] == 5
    with pytest.raises(UserError, match=f"no dictionary .*control.* for {SITE}.*theodolite train.*{SITE}"):
        open_dictionary("shipped", MODEL, SITE, control=True)


def test_a_foreign_dictionary_in_the_folder_of_trained_ones_is_passed_over(fitted: Dictionary, tmp_path) -> None:
    native.save(replace(fitted, info={"site": SITE}), tmp_path / "converted")
    native.save(replace(fitted, info=fitted.info | {"read_site": NEXT}), tmp_path / "transcoder")
    native.save(replace(fitted, activation=ReluRule()), tmp_path / "relu")
    assert [(f.path.name, f.k) for f in find(MODEL, folder=tmp_path)] == [("relu", 0)]


def test_names_of_transformer_lens_are_known(fitted: Dictionary, tmp_path) -> None:
    foreign = replace(fitted, info={"site": SITE, "model": "gpt2-small"})
    folder = str(native.save(foreign, tmp_path / "d"))
    assert open_dictionary(folder, SimpleNamespace(name="openai-community/gpt2", hash="0", d_model=8), SITE).width == 12


def test_a_hook_that_is_no_site_and_a_transcoder_are_refused(fitted: Dictionary, tmp_path) -> None:
    folder = native.save(replace(fitted, info={"site": None, "hook": "blocks.3.hook_mlp_in"}), tmp_path / "a")
    with pytest.raises(UserError, match=r"trained at blocks\.3\.hook_mlp_in, which is no site here"):
        open_dictionary(str(folder), MODEL, SITE)
    folder = native.save(replace(fitted, info={"site": None, "read_site": None}), tmp_path / "b")
    with pytest.raises(UserError, match="is a transcoder, which writes another site than it reads"):
        open_dictionary(str(folder), MODEL, SITE)


def test_a_transcoder_is_checked_against_the_site_it_writes() -> None:
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))[0]
    info = {"read_site": SITE, "site": NEXT}
    doubled = Dictionary(turn, torch.full((8,), 90.0), 2 * turn, -180 * turn.sum(0), ReluRule(), False, info=info)
    got = self_check(doubled, {SITE: rows(1), NEXT: 2 * rows(1)}, NEXT)
    assert got["fvu"] < 1e-6
    with pytest.raises(UserError, match="check both of its sites"):
        self_check(doubled, {SITE: rows(1), NEXT: -3 * rows(1)}, NEXT)


# Every format meets real rows: one that fits passes, the same one with its encoder transposed does not.
FAMILIES = {"theodolite": 0, "saelens": 0, "dictionary_learning": 0, "openai": 0, "gemma_scope": 1, "gemma_scope_2": 1}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_check_holds_for_every_format(family: str, tmp_path) -> None:
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))[0]
    rule = JumpReluRule(torch.zeros(8)) if FAMILIES[family] else ReluRule()
    square = Dictionary(turn, torch.full((8,), 50.0), turn, -50 * turn.sum(0), rule, subtract_b_dec=False)
    read = convert.read(convert.write(square, tmp_path / "fits", to=family))
    assert self_check(read, {SITE: rows(1)}, SITE)["fvu"] < 1e-3  # ours in bfloat16: 3e-4
    wrong = convert.write(replace(read, W_enc=read.W_enc.T.contiguous()), tmp_path / "wrong", to=family)
    with pytest.raises(UserError, match=f"does not fit {SITE}: FVU .*W_enc transposed"):
        self_check(convert.read(wrong), {SITE: rows(1)}, SITE)


def test_the_check_holds_for_sparsify_and_its_k(fitted: Dictionary, tmp_path) -> None:
    read = convert.read(convert.write(fitted, tmp_path / "fits", to="sparsify"))
    assert self_check(read, {SITE: rows(99)}, SITE)["fvu"] < 0.4
    with pytest.raises(UserError, match="does not fit"):
        self_check(replace(read, W_dec=read.W_dec.flip(0)), {SITE: rows(99)}, SITE)


def test_a_batchtopk_is_checked_against_its_k(fitted: Dictionary, tmp_path) -> None:
    """Saved as JumpReLU its k stands in the metadata; a threshold that lets other numbers through is found out."""
    info = {"site": SITE, "variant": "batchtopk", "k": 2}
    largest = fitted.pre_activations(rows(99)).flatten().sort(descending=True).values
    for threshold, fits in ((float(largest[2 * len(rows(99))]), True), (0.0, False)):
        open_gate = replace(fitted, activation=JumpReluRule(torch.full((12,), threshold)), info=info)
        read = convert.read(convert.write(open_gate, tmp_path / str(fits), to="saelens"))
        assert read.info["l0"] == 2
        if fits:
            assert self_check(read, {SITE: rows(99)}, SITE)["l0"] == pytest.approx(2)
        else:
            with pytest.raises(UserError, match="its card says 2"):
                self_check(read, {SITE: rows(99)}, SITE)


def test_hub_folder_is_fetched_and_opened(tmp_path, monkeypatch) -> None:
    inside = tmp_path / "snapshot" / "res" / "layer3"
    inside.mkdir(parents=True)
    g = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (8, 5), "W_dec": (5, 8), "b_enc": (5,), "b_dec": (8,)}
    save_file({n: torch.randn(shape, generator=g) for n, shape in shapes.items()}, inside / "sae_weights.safetensors")
    (inside / "cfg.json").write_text(
        json.dumps({"architecture": "standard", "metadata": {"hook_name": "blocks.3.hook_resid_post"}})
    )
    asked = []

    def snapshot(repo: str, allow_patterns: list[str]) -> str:
        asked.append((repo, allow_patterns))
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert open_dictionary("hub:owner/saes/res/layer3", MODEL, SITE).width == 5
    assert asked == [("owner/saes", ["res/layer3/*", "res/config.json"])]
    with pytest.raises(UserError, match="OWNER/REPO/PATH"):
        open_dictionary("hub:saes", MODEL, SITE)


def test_hub_that_does_not_answer_is_one_sentence(monkeypatch) -> None:
    def missing(repo: str, allow_patterns: list[str] | None) -> str:
        raise LocalEntryNotFoundError("no such repository\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", missing)
    with pytest.raises(
        UserError, match=r"^hub:a/b cannot be fetched: no such repository; without a network give the path"
    ):
        open_dictionary("hub:a/b", MODEL, SITE)


def test_the_shipped_dictionary_and_its_control_open() -> None:
    """Their configuration is of version 0.1: what it records must still be read."""
    (config,) = (Path(str(resources.files("theodolite.dictionaries"))) / "shipped").rglob("*_post/config.json")
    info = native.read_config(config.parent)["info"]
    model = SimpleNamespace(hash=info["model_hash"], name=info["model"], n_blocks=30)
    ((one, control),) = paired(find(model))
    assert (one.control, control is not None and control.control) == (False, True)
    trained, frozen = (open_dictionary("shipped", model, info["site"], control=c) for c in (False, True))
    assert (trained.width, frozen.width) == (info["width"], info["width"])
    assert (frozen_part(trained.info), frozen_part(frozen.info)) == ("", "encoder")
