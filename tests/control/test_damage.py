"""Losses, loops and the strength at which damage begins, on numbers worked by hand and on a tiny model."""

import math

import numpy as np
import pytest
import torch

from theodolite.control.behind import joined, next_ids
from theodolite.control.damage import (
    cloze_passes,
    cloze_sentences,
    crossing,
    distinct_2,
    fluency,
    loops,
    of_rows,
    predicted,
)
from theodolite.control.disturbance import over_generations
from theodolite.control.passes import Passes
from theodolite.control.policy import Intervened
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.models.generate import Decoding
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model(), byte_tokenizer())


def test_loss_and_top1_by_hand() -> None:
    log_prob = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]).log()
    found = of_rows(log_prob, np.array([0, 0, 2]), np.array([0, 0, 1]), 2)
    assert found.loss == pytest.approx([(math.log(2) + math.log(10)) / 2, -math.log(0.6)])
    assert found.top1.tolist() == [0.5, 1]
    assert found.nats[0] == pytest.approx(math.log(20))


def test_loss_of_the_unchanged_model_is_that_of_the_model(model: Model) -> None:
    texts = ["some text", "another one, longer"]
    passes = Passes.of(model, texts, max_tokens=256)
    found = predicted(Intervened(model), passes)
    assert found.loss == pytest.approx(model.loss(texts, positions="all[1:]").loss, rel=1e-5)


def test_damage_of_a_push_shows(model: Model) -> None:
    passes = Passes.of(model, ["some text", "another one, longer"])
    push = Intervened(model, (Intervention.add("blocks.1.resid_post", np.ones(32), 50.0),))
    assert not np.allclose(predicted(push, passes).loss, predicted(Intervened(model), passes).loss)


def test_the_next_token_of_a_target() -> None:
    model = Model(tiny_model(), byte_tokenizer())
    tokens = model.tokens(["abc", "a"], format="raw")
    found = next_ids(tokens, tokens.mask)
    ids = tokens.ids.tolist()
    n = int(tokens.mask[0].sum())
    assert found.tolist() == [*ids[0][1:n], -1, *ids[1][1 : int(tokens.mask[1].sum())], -1]


def test_cloze_scores_the_last_word_alone(model: Model) -> None:
    sentences = ["The opposite of hot is cold", "A B"]
    passes = cloze_passes(model, sentences)
    found = predicted(Intervened(model), passes)
    assert passes.n_targets.tolist() == [5, 2]  # bytes of " cold" and " B"
    scored = model.logprobs(["The opposite of hot is", "A"], [" cold", " B"], format="raw")
    assert found.nats == pytest.approx(-scored.log_prob, rel=1e-5)


def test_a_cloze_needs_something_before_the_word(model: Model) -> None:
    with pytest.raises(UserError, match="'word' is no cloze"):
        cloze_passes(model, ["word"])


def test_the_packages_cloze_sentences() -> None:
    found = cloze_sentences()
    assert len(found) >= 60
    assert len(set(found)) == len(found)
    assert all(one[-1].isalnum() and one.count(" ") >= 2 for one in found)


def test_fluency_is_the_loss_of_the_tokens_as_written(model: Model) -> None:
    openings = ["It is", "We"]
    written = model.generations(openings, Decoding(max_new_tokens=6), format="raw")
    # `Generation.log_probs` are those of the model that wrote: here the unchanged one
    expected = [-one.log_probs.mean() for one in written]
    assert fluency(over_generations(model, openings, written)) == pytest.approx(expected, rel=1e-4)


def test_targets_behind_an_opening(model: Model) -> None:
    tokens, targets = joined(model, ["ab"], [[5, 6, 7]], skip=1)
    assert next_ids(tokens, targets).tolist() == [6, 7]
    with pytest.raises(UserError, match="opening 0 has more than"):
        joined(model, ["a" * 600], [[5]])


@pytest.mark.parametrize(
    ("ids", "is_loop"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], False),
        ([7] * 7, True),  # the four sevens come four times
        ([1, 2, 3, 9] + [4, 5] * 4, True),  # period 2, twice in the last eight more than asked
        ([9, 8, 7] + [1, 2, 3, 4, 5, 6, 7, 8] * 3, True),
        ([1, 2, 3, 4, 5, 6, 7, 8] * 2, False),  # twice is a refrain
        ([1, 2, 3, 4, 5, 6, 7, 8, 9] * 3, True),  # a period of nine, but four tokens come three times
        ([1, 2, 3, 4, 5, 6, 1, 1, 1], False),  # three exclamation marks at the end
        ([], False),
    ],
)
def test_loops(ids: list[int], is_loop: bool) -> None:
    assert loops(ids) is is_loop


def test_distinct_pairs() -> None:
    assert distinct_2([1, 1, 1, 1, 1]) == 0.25
    assert math.isnan(distinct_2([1]))


BASE = np.full(20, 3.0)
NOISE = np.linspace(-0.05, 0.05, 20)


def test_damage_begins_between_two_strengths() -> None:
    rise = np.array([0.01, 0.04, 0.08])[:, None]
    found = crossing(BASE * (1 + rise) + NOISE, BASE, np.array([1.0, 2.0, 4.0]), np.arange(20))
    assert found.value == pytest.approx(2.5)  # .04 + .01 of .04 in two units
    assert found.lo < 2.5 < found.hi < 4
    assert not found.censored


def test_damage_before_the_first_strength_is_interpolated_from_zero() -> None:
    found = crossing(1.1 * BASE[None], BASE, np.array([2.0]), np.arange(20))
    assert found.value == pytest.approx(1)


def test_the_first_crossing_counts() -> None:
    rise = np.array([0.10, 0.0, 0.10])[:, None]
    found = crossing(BASE * (1 + rise), BASE, np.array([1.0, 2.0, 3.0]), np.arange(20))
    assert found.value == pytest.approx(0.5)


def test_no_damage_is_censored() -> None:
    found = crossing(1.01 * BASE[None], BASE, np.array([2.0]), np.arange(20))
    assert found.censored
    assert (found.value, found.last, found.never) == (math.inf, 2.0, 1.0)
    near = crossing(1.049 * BASE[None] + 20 * NOISE * [[1]], BASE, np.array([2.0]), np.arange(20))
    assert math.isinf(near.hi)
    assert near.lo < 2
    assert 0 < near.never < 1


def test_strengths_ascend_from_zero() -> None:
    with pytest.raises(UserError, match="each sign by itself"):
        crossing(np.ones((2, 20)), BASE, np.array([-1.0, 1.0]), np.arange(20))
    with pytest.raises(UserError, match="are not of"):
        crossing(np.ones((3, 20)), BASE, np.array([1.0, 2.0]), np.arange(20))
