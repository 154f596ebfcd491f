"""The shipped recipes on their real data (make slow): the reviewed counts, and the laws every recipe must keep."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from toy_rows import recipe_of

from theodolite.core import recipe as recipes
from theodolite.core.recipe import Recipe
from theodolite.data import concept, templates
from theodolite.data.dataset import Count
from theodolite.data.leakage import leaks
from theodolite.data.near_duplicates import gram_counts, inverse_frequency
from theodolite.data.splits import split
from theodolite.data.verify import verify
from theodolite.dictionaries.training import corpus
from theodolite.study import corpora

NAMES = ["answers-correctly", "harmful-intent", "sentiment", "truth"]


@cache
def loaded(name: str) -> concept.Concept:
    recipe = recipes.load(name).model_copy(update={"final": True})
    alternating = lambda prompts, options: np.arange(len(prompts)) % 2  # noqa: E731
    return concept.load(recipe, development=True, answer=alternating)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_has_its_primary_and_one_sealed_shift(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe.primary in recipe.shifts
    assert recipe.sealed in recipe.shifts
    assert recipe.sealed != recipe.primary
    assert [label for _, label in recipe.few_shot].count(1) == 2
    assert len(recipe.few_shot) == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_source_is_readable(name: str) -> None:
    assert [check for check in verify(recipes.load(name)) if check.problem or not check.n] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_shift_row_is_near_what_training_saw(name: str) -> None:
    found = loaded(name)
    few_shot = [text for text, _ in recipes.load(name).few_shot]
    idf = inverse_frequency(gram_counts(found.train.texts))
    assert not leaks(few_shot, {"train": found.train.texts}, idf)["train"].any()
    for dataset in found.shifts.values():
        near = leaks(dataset.texts, {"seen": [*found.train.texts, *few_shot]}, idf)["seen"]
        assert near.sum() == sum(count.n for count in dataset.kept), dataset.name
        assert {count.cause for count in dataset.kept} <= {"near a training row of the other label"}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("trained_on", corpus.names())
def test_no_shift_row_is_near_what_a_dictionary_read(name: str, trained_on: str) -> None:
    found = loaded(name)
    documents = corpora.cached(corpus.recipe(trained_on)).documents
    idf = inverse_frequency(gram_counts(found.train.texts))
    texts = [text for dataset in found.shifts.values() for text in dataset.texts]
    assert len(documents) > 90_000
    assert not leaks(texts, {"read": [d.text for d in documents]}, idf)["read"].any()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_split_keeps_its_shares_in_every_stratum(name: str) -> None:
    frame = loaded(name).train.frame
    part = split(frame, 0)
    table = pd.crosstab([frame["label"], frame["source"]], part, normalize="index")
    assert np.abs(table[["train", "calibrate", "certify", "test"]] - [0.5, 0.15, 0.15, 0.2]).to_numpy().max() < 0.03


@pytest.mark.slow
def test_the_harmful_mix_is_the_reviewed_one() -> None:
    found = loaded("harmful-intent")
    table = found.train.frame.groupby(["source", "label"]).size().to_dict()
    assert table == {
        ("advbench", 1): 300,
        ("harmbench", 1): 200,
        ("rho", 0): 150,
        ("rho", 1): 150,
        ("s-labs-imperatives", 0): 206,
        ("s-labs-questions", 0): 299,
        ("strongreject", 1): 288,
    }
    assert Count("jailbreakbench", "near a training row", 23) in found.counts
    assert found.shifts["jailbreakbench"].kept == (
        Count("jailbreakbench", "near a training row of the other label", 3),
    )
    assert len(found.shifts["jailbreak-wrapped"]) == 616
    assert found.shifts["jailbreakbench"].frame["label"].sum() == 77


@pytest.mark.slow
def test_pairs_of_one_source_stay_together() -> None:
    frame = loaded("harmful-intent").train.frame
    pairs = frame[frame["source"] == "rho"].groupby("cluster")["label"]
    assert (pairs.mean() == 0.5).all()
    assert pairs.ngroups >= 140


@pytest.mark.slow
def test_length_says_little_where_lengths_are_matched() -> None:
    frame = loaded("harmful-intent").shifts["bss-vs-healthsearchqa-length-matched"].frame
    mean = frame.groupby("label")["text"].apply(lambda t: t.str.len().mean())
    assert abs(mean[1] - mean[0]) < 1


@pytest.mark.slow
def test_every_capital_and_country_stands_on_both_sides() -> None:
    frame = loaded("truth").train.frame
    assert (frame.groupby("cluster")["label"].mean() == 0.5).all()


@pytest.mark.slow
def test_the_frozen_templates_are_what_the_code_makes_of_them() -> None:
    """The shipped table, made anew with the default model's tokenizer, and no request cut at 256 tokens."""
    from theodolite.models.load import load

    tokenizer = load("smollm2-135m-instruct").tokenizer

    def count(texts: list[str]) -> np.ndarray:
        return np.array([len(ids) for ids in tokenizer(list(texts), add_special_tokens=False).input_ids])

    recipe = recipes.load("harmful-intent")
    wrap = recipe.shifts["jailbreak-wrapped"].wrap
    made = templates.families(templates.read(wrap.templates), count, wrap.max_tokens, seed=0)
    made = made[["template", "member", "tokens", "family", "part"]].sort_values("member", ignore_index=True)
    frozen = templates.frozen_table(wrap)
    pd.testing.assert_frame_equal(made.astype(frozen.dtypes), frozen)  # a file's text columns have a type of their own
    wrapped = loaded("harmful-intent").shifts["jailbreak-wrapped"]
    assert count(wrapped.texts).max() <= recipe.max_tokens
    inserted = count(wrapped.texts) - wrapped.frame["template_tokens"]
    assert inserted.min() >= 4  # the request is all there


def test_recipes_forbid_unknown_fields() -> None:
    with pytest.raises(ValueError, match="surprise"):
        Recipe.model_validate({**recipe_of([]).model_dump(), "surprise": 1})
