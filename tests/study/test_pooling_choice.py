"""`auto` chooses how a row is made of a text on training rows alone, and counts what it tried."""

import numpy as np
import pandas as pd
import pytest

from theodolite.core.errors import UserError
from theodolite.core.recipe import Recipe, Source, validated
from theodolite.data import concept
from theodolite.data.splits import split
from theodolite.models.model import Model
from theodolite.study import pooling_choice
from theodolite.study.subjects import Subjects
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE = "blocks.1.resid_post"
SEEDS = 2


def frame(n: int = 240) -> pd.DataFrame:
    at = np.arange(n)
    return pd.DataFrame({"label": at % 2, "source": "a", "cluster": at, "hash": [f"{i:04d}" for i in at]})


def rows(gap: float, n: int = 240, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(n, 4))
    return np.asarray(noise + gap * (np.arange(n) % 2)[:, None] * np.array([1, 0, 0, 0]), np.float32)


def test_rows_that_tell_the_classes_apart_have_the_lower_loss() -> None:
    clear, dull = (pooling_choice.log_loss(rows(gap), frame(), SEEDS) for gap in (3.0, 0.0))
    assert clear < 0.35 < 0.65 < dull


def test_what_is_never_trained_on_has_no_part_in_the_loss() -> None:
    table, X_nd = frame(), rows(2.0)
    trained = np.any([split(table, seed) == "train" for seed in range(SEEDS)], axis=0)
    assert (~trained).sum() > 20
    other = np.where(trained[:, None], X_nd, 1e3 * rows(-9.0, seed=7))
    assert pooling_choice.log_loss(other, table, SEEDS) == pooling_choice.log_loss(X_nd, table, SEEDS)
    assert pooling_choice.log_loss(np.roll(X_nd, 1, axis=0), table, SEEDS) != pooling_choice.log_loss(
        X_nd, table, SEEDS
    )


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model(), byte_tokenizer(), name="tiny", hash="0" * 64)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, concept.Concept]:
    """Sixty texts whose last letter tells the label."""
    folder, draw = tmp_path_factory.mktemp("rows"), np.random.default_rng(0)
    words = [
        "house",
        "river",
        "green",
        "walk",
        "slowly",
        "over",
        "tall",
        "stone",
        "bridge",
        "near",
        "old",
        "mill",
        "birds",
    ]
    texts = [" ".join([*draw.choice(words, 4), "zz" if i % 2 else "ee"]) for i in range(60)]
    pd.DataFrame({"text": texts, "label": np.arange(60) % 2}).to_csv(folder / "mine.csv", index=False)
    source = Source(source="mine", file=str(folder / "mine.csv"), field="text", label="label")
    recipe = Recipe(
        name="toy",
        title="toy",
        positive="1",
        negative="0",
        question="",
        site=SITE,
        sites=[SITE],
        train=[source],
        seeds=SEEDS,
        pooling="auto",
        positions="auto",
    )
    return recipe, concept.load(recipe)


def test_the_lowest_loss_is_chosen_and_every_candidate_is_recorded_once(
    model: Model, read: tuple[Recipe, concept.Concept]
) -> None:
    recipe, found = read
    assert pooling_choice.is_open(recipe)
    chosen, tried = pooling_choice.choose(recipe, found.train, Subjects(model))
    ways = [(c.positions, c.pooling) for c in tried]
    assert ways == [
        ("content", "mean"),
        ("content", "last"),
        ("content", "max"),
        ("content[-1]", "mean"),  # of one token the mean is the maximum
        ("suffix", "mean"),
        ("suffix", "max"),
    ]
    best = min(tried, key=lambda c: c.log_loss)
    assert (chosen.positions, chosen.pooling) == (best.positions, best.pooling)
    assert not pooling_choice.is_open(chosen)
    facts = pooling_choice.facts(chosen, tried)
    assert facts["chosen"] == {"positions": best.positions, "pooling": best.pooling}
    assert len(facts["candidates"]) == 6
    assert facts["reader"] == "logistic(C=0.01)"


def test_what_the_recipe_fixes_is_left_alone(model: Model, read: tuple[Recipe, concept.Concept]) -> None:
    recipe, found = read
    fixed = recipe.model_copy(update={"positions": "suffix"})
    chosen, tried = pooling_choice.choose(fixed, found.train, Subjects(model))
    assert chosen.positions == "suffix"
    assert {c.pooling for c in tried} == {"mean", "last", "max"}
    _, one = pooling_choice.choose(recipe.model_copy(update={"pooling": "last"}), found.train, Subjects(model))
    assert [(c.positions, c.pooling) for c in one] == [("content", "last")], "positions play no part in it"


def test_a_recipe_with_unknown_positions_or_pooling_is_refused_by_that_name(
    read: tuple[Recipe, concept.Concept],
) -> None:
    for field, word in (("positions", "middle"), ("pooling", "median")):
        with pytest.raises(UserError, match=word if field == "positions" else "pooling"):
            validated(read[0].model_dump() | {field: word}, "mine")
