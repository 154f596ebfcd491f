"""Which dictionaries a comparison finds, how they are told apart, and where it reads when nobody says where."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from theodolite.core import recipe as recipes
from theodolite.core.errors import UserError
from theodolite.core.recipe import Recipe
from theodolite.dictionaries import native, opening
from theodolite.dictionaries.variants.topk import TopK
from theodolite.models.model import Model
from theodolite.study import training
from theodolite.study.hardware import Machine
from theodolite.study.subjects import (
    Subjects,
    available,
    default_sites,
    open_subjects,
    settled,
    unchecked_notes,
)
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE = "blocks.1.resid_post"
Save = Callable[..., Path]


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model("llama"), byte_tokenizer(), name="tiny")


@pytest.fixture
def save(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Save:
    """Write a dictionary of this model where `theodolite train` would."""
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "cache"))

    def write(folder: str, width: int = 40, k: int = 2, seed: int = 0, control: bool = False, **info: Any) -> Path:
        trained = TopK(32, width, k=k, seed=seed, frozen="encoder" if control else "", lr=1e-2, steps=1)
        trained.fit([torch.from_numpy(np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32))])
        found = trained.dictionary()
        said = {"site": SITE, "model": "tiny", "model_hash": model.hash, "training": {"corpus": "text-chat"}}
        return native.save(replace(found, info=found.info | said | info), opening.trained_folder(model) / folder)

    return write


def recipe(**fields: Any) -> Recipe:
    words = dict.fromkeys(["name", "title", "positive", "negative", "question"], "x")
    return Recipe(**words, train=[], site=SITE, sites=[SITE], **fields)


def test_a_dictionary_of_another_size_stands_beside_under_its_own_name(model: Model, save: Save) -> None:
    save("a")
    save("b", width=80)
    save("c", k=4)
    save("d", seed=1)
    dictionaries = open_subjects(recipe(), model).dictionaries
    assert [(s.name, s.family, s.dictionary.width) for s in dictionaries] == [
        ("text-chat-0", "", 40),
        ("text-chat-0-w80-k2", "text-chat-w80-k2", 80),
        ("text-chat-0-w40-k4", "text-chat-w40-k4", 40),
        ("text-chat-1", "", 40),
    ]


def test_a_control_is_that_of_its_own_size_and_the_first(model: Model, save: Save) -> None:
    save("a")
    save("a.control", control=True)
    save("b", width=80)
    save("z", control=True, training={"corpus": "text-chat", "again": True})
    first, wide = open_subjects(recipe(), model).dictionaries
    assert first.control is not None
    assert "again" not in first.control.info["training"]
    assert wide.control is None


def families(found: Subjects) -> list[tuple[str, str]]:
    return [(Path(s.name).name, Path(s.family).name if s.family else "") for s in found.dictionaries]


def test_two_named_dictionaries_share_a_row_only_as_seeds_of_one_procedure(model: Model, save: Save) -> None:
    first, again = str(save("first")), str(save("again", seed=1))
    wide, other = str(save("wide", width=80)), str(save("other", seed=2, training={"corpus": "text-only"}))
    found = open_subjects(recipe(dictionaries=[first, again, wide, other]), model)
    assert families(found) == [("first", ""), ("again", ""), ("wide", "wide"), ("other", "other")]
    assert [s.name for s in found.at(SITE)] == [first, again]


def test_what_is_shipped_stays_the_main_one_beside_a_folder(model: Model, save: Save, tmp_path: Path) -> None:
    save("a")
    save("b", training={"corpus": "text-only"})
    mine, sister = str(save("../mine", k=4)), str(save("../sister", seed=3, training={"corpus": "text-only"}))
    found = open_subjects(recipe(dictionaries=[mine, "shipped", sister]), model)
    assert [s.family for s in found.dictionaries] == ["", "text-only", mine, "text-only"]
    with pytest.raises(UserError, match=r"has the very weights of 'text-.*-0': name it once"):
        open_subjects(recipe(dictionaries=["shipped", str(save("../copy"))]), model)


def test_a_dictionary_that_names_no_site_is_that_of_the_matched_one(model: Model, save: Save) -> None:
    unplaced = str(save("a", site=None))
    assert [s.site for s in open_subjects(recipe(dictionaries=[unplaced]), model).dictionaries] == [SITE]
    with pytest.raises(UserError, match=r"was trained at blocks\.0\.resid_post, not at"):
        open_subjects(recipe(dictionaries=[str(save("b", site="blocks.0.resid_post"))]), model)


def test_a_named_dictionary_brings_the_control_beside_it(model: Model, save: Save) -> None:
    mine = str(save("mine"))
    (alone,) = open_subjects(recipe(dictionaries=[mine]), model).dictionaries
    save("mine.control", control=True)
    (found,) = open_subjects(recipe(dictionaries=[mine]), model).dictionaries
    assert alone.control is None
    assert found.control is not None
    assert found.control.info["frozen"] == "encoder"
    save("mine.control", control=True, seed=3)
    (found,) = open_subjects(recipe(dictionaries=[mine]), model).dictionaries
    assert found.control is None


def test_a_control_in_the_folder_of_version_0_1_is_found_and_yields_to_a_new_one(model: Model, save: Save) -> None:
    mine = str(save("mine"))
    save("mine.twin", control=True)
    (old,) = open_subjects(recipe(dictionaries=[mine]), model).dictionaries
    assert old.control is not None
    save("mine.control", control=True, training={"corpus": "text-chat", "again": True})
    (new,) = open_subjects(recipe(dictionaries=[mine]), model).dictionaries
    assert new.control is not None
    assert "again" not in old.control.info["training"]
    assert "again" in new.control.info["training"]


def test_a_folder_given_by_a_dot_has_its_control_too(model: Model, save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(save("mine"))
    save("mine.control", control=True)
    (found,) = open_subjects(recipe(dictionaries=["."]), model).dictionaries
    assert found.control is not None


def test_the_only_kind_there_is_what_the_comparison_is_about(model: Model, save: Save) -> None:
    save("a", training={"corpus": "mine.csv"})
    save("b", seed=1, training={"corpus": "mine.csv"})
    assert [s.family for s in open_subjects(recipe(), model).dictionaries] == ["", ""]
    save("c", width=80, training={"corpus": "mine.csv"})
    assert "" not in {s.family for s in open_subjects(recipe(), model).dictionaries}


def test_dictionaries_of_unknown_text_are_counted(model: Model, save: Save) -> None:
    ours, theirs = str(save("ours")), str(save("theirs", width=80, training={}))
    found = open_subjects(recipe(dictionaries=[ours, theirs]), model)
    ((kind, count, text),) = unchecked_notes(found)
    assert (kind, count) == ("unchecked", 1)
    assert text.endswith(f"no row was compared with it: {theirs}")
    assert unchecked_notes(replace(found, dictionaries=found.dictionaries[:1])) == []


def test_what_is_available_is_known_without_the_model(model: Model, save: Save) -> None:
    assert available(recipe(), model.hash) == {}
    save("a")
    first = available(recipe(), model.hash)
    assert list(first) == [f"text-chat-0 at {SITE}, 40 latents, k 2"]
    save("b", control=True)
    assert available(recipe(), model.hash).items() > first.items()
    assert available(recipe(dictionaries=[]), model.hash) == {}
    assert available(recipe(), "another") == {}


def test_sites_left_open_are_those_of_the_shipped_recipes() -> None:
    shipped = recipes.load("truth")
    found = settled(shipped.model_copy(update={"site": "auto", "sites": []}), SimpleNamespace(n_blocks=30))
    assert (found.site, sorted(found.sites)) == (shipped.site, sorted(shipped.sites))
    assert default_sites(3) == ["blocks.2.resid_post", "blocks.1.resid_post"]


def test_a_dictionary_is_trained_where_recipes_read(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(training.Model, "from_pretrained", lambda *_, **__: model)
    monkeypatch.setattr(training.corpora, "cached", lambda recipe: None)
    monkeypatch.setattr(training, "estimate", lambda model, sites, texts, **options: asked.extend(sites) or {})
    training.train(training.TrainRequest(dry_run=True))
    assert sorted(map(str, asked)) == sorted(default_sites(3))


def test_each_size_is_trained_into_a_folder_of_its_own(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[str] = []
    monkeypatch.setattr(training.Model, "from_pretrained", lambda *_, **__: model)
    monkeypatch.setattr(training.corpora, "cached", lambda recipe: None)
    monkeypatch.setattr(training.card, "summary", lambda cards: [])
    monkeypatch.setattr(
        training, "train_dictionaries", lambda model, sites, texts, folder, **options: folders.append(folder.name) or {}
    )
    for size in ({}, {"width": 8192}, {"k": 16}):
        training.train(training.TrainRequest(**size))
    assert folders == ["text-chat-0", "text-chat-0-w8192-k32", "text-chat-0-w4096-k16"]


def test_another_variant_or_a_frozen_decoder_stands_under_its_own_name(model: Model, save: Save) -> None:
    save("a")
    save("a.control", control=True)
    save("b", width=80, label="jumprelu-l0=64")
    save("b.control", width=80, control=True, label="jumprelu-l0=64")
    save("c", width=48, label="jumprelu-l0=64")
    save("d", frozen="decoder")
    save("e", read_site="blocks.0.resid_post")
    dictionaries = open_subjects(recipe(), model).dictionaries
    assert [(s.name, s.family, s.dictionary.width, s.control is not None) for s in dictionaries] == [
        ("text-chat-0", "", 40, True),
        ("text-chat-0-jumprelu-l0=64", "text-chat-jumprelu-l0=64", 80, True),
        ("text-chat-0-jumprelu-l0=64-w48-k2", "text-chat-jumprelu-l0=64-w48-k2", 48, False),
        ("text-chat-0-topk-frozen-decoder", "text-chat-topk-frozen-decoder", 40, False),
    ]
    assert f"text-chat-0 at {SITE}, jumprelu-l0=64, 80 latents, k 2 (control)" in available(recipe(), model.hash)


def test_named_dictionaries_of_two_variants_share_no_row(model: Model, save: Save) -> None:
    first, second = (str(save(name, label="jumprelu-l0=64", seed=seed)) for seed, name in enumerate(["a", "b"]))
    other, frozen = (
        str(save("c", label="jumprelu-l0=32", seed=2)),
        str(save("d", label="jumprelu-l0=64", frozen="decoder")),
    )
    found = open_subjects(recipe(dictionaries=[first, second, other]), model)
    assert families(found) == [("a", ""), ("b", ""), ("c", "c")]
    assert families(open_subjects(recipe(dictionaries=[second, frozen]), model)) == [("b", ""), ("d", "d")]


def test_a_recipe_may_name_its_sites_as_other_tools_do() -> None:
    """A dictionary is found by our name of its site: under another one its rows would silently be absent."""
    asked = recipes.load("harmful-intent").model_copy(
        update={"site": "blocks.1.hook_resid_post", "sites": ["model.layers.1", "blocks.0.mlp_out"]}
    )
    found = settled(asked, SimpleNamespace(n_blocks=3))
    assert (found.site, found.sites) == (SITE, [SITE, "blocks.0.mlp_out"])
    assert settled(found, SimpleNamespace(n_blocks=3)) == found


def test_the_machine_says_where_the_model_goes_and_a_loaded_one_is_not_moved(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = []

    def from_pretrained(name: str, **how: object) -> Model:
        asked.append({key: how[key] for key in ("device", "device_map")})
        return model

    monkeypatch.setattr(Model, "from_pretrained", from_pretrained)
    open_subjects(recipe(dictionaries=[]), machine=Machine(device="cpu"))
    open_subjects(recipe(dictionaries=[]), machine=Machine(device_map="balanced"))
    assert asked == [{"device": "cpu", "device_map": None}, {"device": "auto", "device_map": "balanced"}]
    with pytest.raises(UserError, match="device_map places a model while it is loaded"):
        open_subjects(recipe(dictionaries=[]), model, Machine(device_map="balanced"))
