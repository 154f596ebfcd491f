"""Numbers per text reach the text that they are meant for, in whatever order and batches the texts run."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from theodolite.core.basis import Direction, Subspace
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.positions import Positions
from theodolite.core.rules import Add, Clamp, Mean, Patch, Scale
from theodolite.core.site import Site
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE = Site(1, "resid_post")
V = np.random.default_rng(0).normal(size=32).astype(np.float32)
TWO = np.random.default_rng(1).normal(size=(2, 32)).astype(np.float32)
TEXTS = ["the longest of the texts by far", "short", "a middling one", "x y"]  # not in the order of their length
STRENGTHS = np.array([4.0, -3.0, 0.5, 9.0])


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model(), byte_tokenizer())


def loss(model: Model, texts: list[str], change: Intervention) -> np.ndarray:
    return model.loss(texts, interventions=[change], batch_tokens=40).log_prob


def logprobs(model: Model, texts: list[str], change: Intervention) -> np.ndarray:
    return model.logprobs(texts, [" yes"] * len(texts), interventions=[change], batch_tokens=40).log_prob


def read(model: Model, texts: list[str], change: Intervention) -> np.ndarray:
    site = Site(2, "resid_post")
    return model.read(texts, site, interventions=[change], batch_tokens=40)[site].rows


def run(model: Model, texts: list[str], change: Intervention) -> np.ndarray:
    tokens = model.tokens(texts)
    logits = model.run(tokens, interventions=[change]).logits
    return np.stack([row[n - 1].numpy() for row, n in zip(logits, tokens.lengths, strict=True)])


def generate(model: Model, texts: list[str], change: Intervention) -> np.ndarray:
    return np.array(model.generate(texts, max_new_tokens=4, interventions=[change], batch_tokens=40))


@pytest.mark.parametrize("rule", [Add, Clamp, Scale])
@pytest.mark.parametrize("ask", [loss, logprobs, read, run, generate])
def test_each_text_gets_its_own_strength(model: Model, ask: Callable[..., np.ndarray], rule: Any) -> None:
    alone = [
        ask(model, [text], Intervention(SITE, rule(float(s)), Direction(V)))[0]
        for text, s in zip(TEXTS, STRENGTHS, strict=True)
    ]
    for shape in ((4,), (4, 1, 1)):
        together = ask(model, TEXTS, Intervention(SITE, rule(STRENGTHS.reshape(shape)), Direction(V)))
        if ask is generate:
            assert together.tolist() == [str(a) for a in alone]
        else:
            np.testing.assert_allclose(together, np.stack(alone), atol=2e-3, rtol=2e-4)


def test_each_coordinate_and_each_token_can_have_its_own(model: Model) -> None:
    """A subspace of two; per text and coordinate (n, 1, k), and per token (n, t, k) with padding behind."""
    tokens = model.tokens(TEXTS)
    values = np.random.default_rng(2).normal(size=(4, tokens.ids.shape[1], 2)) * 5
    for numbers in (values[:, :1], values):
        together = run(model, TEXTS, Intervention(SITE, Add(numbers), Subspace(TWO)))
        for i, text in enumerate(TEXTS):
            alone = run(model, [text], Intervention(SITE, Add(numbers[i : i + 1]), Subspace(TWO)))
            np.testing.assert_allclose(together[i], alone[0], atol=2e-3, rtol=2e-4)
    per_coordinate = run(model, TEXTS, Intervention(SITE, Add(values[0, 0]), Subspace(TWO)))
    same = run(model, TEXTS, Intervention(SITE, Add(np.tile(values[0, :1], (4, 1, 1))), Subspace(TWO)))
    np.testing.assert_array_equal(per_coordinate, same)


def test_numbers_of_tokens_stay_on_them_where_a_batch_has_less_padding_on_the_left(model: Model) -> None:
    """Columns are those of all prompts padded to the longest; a batch of short ones starts behind the first of them."""
    lengths = model.tokens(TEXTS).lengths.tolist()
    longest = max(lengths)
    values = np.random.default_rng(3).normal(size=(4, longest + 4, 2)) * 20
    together = generate(model, TEXTS, Intervention(SITE, Add(values), Subspace(TWO)))
    for i, (text, length) in enumerate(zip(TEXTS, lengths, strict=True)):
        own = values[i : i + 1, longest - length :]
        assert together[i] == generate(model, [text], Intervention(SITE, Add(own), Subspace(TWO)))[0]


@pytest.mark.parametrize(
    ("numbers", "basis"),
    [
        (np.ones(3), Direction(V)),
        (np.ones((4, 1)), Direction(V)),  # on the axis of the tokens, if it were let through
        (np.ones((3, 1, 1)), Direction(V)),
        (np.ones((4, 1, 2)), Direction(V)),
        (np.ones((4, 2, 1)), Direction(V)),
        (np.ones(4), Subspace(TWO)),
        (np.ones((1, 4, 1, 1)), Direction(V)),
    ],
)
def test_numbers_of_another_shape_are_refused(model: Model, numbers: np.ndarray, basis: Any) -> None:
    change = Intervention(SITE, Add(numbers), basis)
    for ask in (loss, logprobs, read, run, generate):
        with pytest.raises(UserError, match=r"has numbers of shape \(.*this call has 4 texts of up to"):
            ask(model, TEXTS, change)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39, [1.0, np.nan], torch.tensor(np.inf)])
def test_numbers_that_are_not_finite_are_refused_when_they_are_given(bad: Any) -> None:
    for rule in (Add, Clamp, Scale):
        with pytest.raises(UserError, match=r"(strength|value|factor) holds 1 NaN or infinite numbers"):
            rule(bad)
    with pytest.raises(UserError, match="strength holds"):
        Intervention.add(SITE, V, bad)
    with pytest.raises(UserError, match="donor holds"):
        Patch(np.full(32, bad if np.ndim(bad) == 0 else np.nan))
    with pytest.raises(UserError, match="reference holds"):
        Mean(np.array([[1.0, np.nan]]))


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(UserError, match="strength is 'strong'"):
        Add("strong")
    with pytest.raises(UserError, match=r"rows \(n, d\), not shape \(32,\)"):
        Mean(V)


@pytest.mark.parametrize("temperature", [np.nan, np.inf, -1.0])
def test_a_temperature_that_is_no_number_is_refused(model: Model, temperature: float) -> None:
    with pytest.raises(UserError, match="temperature="):
        model.generate(["hi"], max_new_tokens=1, temperature=temperature)


def test_a_tensor_of_strengths_is_taken(model: Model) -> None:
    one = Intervention(SITE, Add(torch.tensor(STRENGTHS)), Direction(V), Positions("content"))
    two = Intervention(SITE, Add(STRENGTHS), Direction(V), Positions("content"))
    np.testing.assert_array_equal(run(model, TEXTS, one), run(model, TEXTS, two))
