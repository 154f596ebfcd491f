"""A dictionary's text and a recipe's rows never resemble each other: one is cleared of the other."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy_rows import recipe_of, sentences

from theodolite.core import recipe as recipes
from theodolite.core.recipe import Recipe, Shift, Source
from theodolite.data.leakage import leaks
from theodolite.dictionaries.activations import TopKRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.training.corpus import Corpus, Document
from theodolite.dictionaries.training.corpus import recipe as corpus_recipe
from theodolite.study import corpora, datasets
from theodolite.study.subjects import SiteDictionary, Subjects

TRAIN, SHIFT, READ = (sentences(n, seed) for seed, n in enumerate((40, 50, 30), start=3))


@pytest.fixture
def recipe(write_source: Callable[..., Source]) -> Recipe:
    train, shift = write_source("one", TRAIN, [1, 0] * 20), write_source("two", SHIFT, [1, 0] * 25)
    return recipe_of([train], shifts={"plain": Shift(rows=[shift])}, few_shot=[("Tell me a secret now, please!", 1)])


def test_texts_near_anything_a_recipe_shows_are_found_by_its_own_measure(recipe: Recipe) -> None:
    shown = corpora.shown(recipe)
    near = [TRAIN[3].upper(), SHIFT[0] + " too", "tell me a secret now please"]
    assert corpora.near_any([*READ, *near], [shown]).tolist() == [False] * len(READ) + [True] * len(near)
    expected = leaks(near, {"shift": SHIFT}, shown.idf)["shift"]
    assert expected.tolist() == [False, True, False]


def test_blocks_change_nothing(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*READ, TRAIN[3], *READ, SHIFT[7]]
    whole = corpora.near_any(texts, [corpora.shown(recipe)])
    monkeypatch.setattr(corpora, "BLOCK", 7)
    np.testing.assert_array_equal(corpora.near_any(texts, [corpora.shown(recipe)]), whole)
    assert whole.sum() == 2


@pytest.fixture
def subjects(monkeypatch: pytest.MonkeyPatch) -> Subjects:
    """One dictionary that has read READ and a text of the shift."""
    texts = [*READ, SHIFT[5] + " too"]
    documents = tuple(Document(text, "text", "raw", "toy", i, False) for i, text in enumerate(texts))
    monkeypatch.setattr(corpora, "cached", lambda wanted, **_: Corpus(wanted, documents, {}))
    weights = torch.eye(4)
    info = {"training": {"corpus": "text-chat"}}
    dictionary = Dictionary(weights, torch.zeros(4), weights, torch.zeros(4), TopKRule(2), info=info)
    model = SimpleNamespace(tokenizer=lambda texts, **_: {"input_ids": [text.split() for text in texts]})
    return Subjects(model, (SiteDictionary("text-chat-0", "", "blocks.0.resid_post", dictionary),))


def test_rows_of_ones_own_shift_leave_where_the_dictionary_has_read_them(
    recipe: Recipe, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        datasets, "unreadable", lambda model, recipe, texts: [""] * len(texts)
    )  # the stand-in only splits
    read = datasets.dictionary_texts(recipe, subjects)
    assert set(read) == {*READ, SHIFT[5] + " too"}
    plain = datasets.load_concept(recipe, subjects, dictionary_texts=read).shifts["plain"]
    assert [(count.cause, count.n) for count in plain.counts] == [("near dictionary text", 1)]
    assert SHIFT[5] not in plain.texts


def test_nothing_is_fetched_where_nothing_could_leak(recipe: Recipe, subjects: Subjects) -> None:
    shipped = recipes.load("sentiment")
    assert datasets.dictionary_texts(shipped, subjects) == []
    assert datasets.dictionary_texts(recipe.model_copy(update={"shifts": {}}), subjects) == []
    assert datasets.dictionary_texts(recipe, replace(subjects, dictionaries=())) == []
    assert datasets.dictionary_texts(shipped.model_copy(update={"shifts": recipe.shifts}), subjects) != []


def test_a_corpus_is_made_once(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(corpora, "shown", lambda each: None)

    def load(wanted: object, near: object) -> Corpus:
        made.append(wanted)
        return Corpus(corpus_recipe("text-chat"), (Document("a text", "text", "raw", "toy", 0, False),), {})

    monkeypatch.setattr(corpora.corpus, "load", load)
    first = corpora.cached(corpus_recipe("text-chat"), tmp_path)
    assert corpora.cached(corpus_recipe("text-chat"), tmp_path) == first
    assert len(made) == 1
    notes: list[tuple[str, int, str]] = []
    for suffix in ("zst", "json"):
        (path,) = tmp_path.glob(f"*.{suffix}")
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        assert corpora.cached(corpus_recipe("text-chat"), tmp_path, lambda *note: notes.append(note)) == first
    assert len(made) == 3
    assert [note[:2] for note in notes] == [("remade", 1)] * 2
    monkeypatch.setattr(corpora, "code_hash", lambda *entries: "edited")
    corpora.cached(corpus_recipe("text-chat"), tmp_path)
    assert len(made) == 4
