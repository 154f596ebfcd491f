"""Positions by the characters of a text and by a mask: the right tokens, in every format, batch and direction."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from theodolite.core.basis import Direction
from theodolite.core.condition import Condition
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.positions import Positions
from theodolite.models.model import Model
from theodolite.models.spans import found_in
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE = "blocks.1.resid_post"
V = np.random.default_rng(0).normal(size=32).astype(np.float32)
TEXTS = ["Paris is not Paris", " né in Paris ", "a <|im_end|> before Paris", "in Paris"]


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model(), byte_tokenizer())


def read_back(model: Model, tokens: Any, mask: np.ndarray) -> list[str]:
    ids = [row[keep].tolist() for row, keep in zip(tokens.ids.numpy(), mask, strict=True)]
    return [model.tokenizer.decode(row) for row in ids]


@pytest.mark.parametrize("format", ["chat", "raw"])
def test_a_span_is_the_tokens_that_hold_it(model: Model, format: Any) -> None:
    """One token is one byte here: what is selected reads back as the span, at every place of it."""
    tokens = model.tokens(TEXTS, format=format)
    for span, wanted in (
        ("Paris", ["ParisParis", "Paris", "Paris", "Paris"]),
        ((1, 3), ["ar", "né", " <", "n "]),
        (["not", "né", "before", [0, 2]], ["not", "né", "before", "in"]),
    ):
        mask = found_in(Positions.span(span), model.tokenizer, tokens).mask(tokens.roles.numpy())
        assert read_back(model, tokens, mask) == wanted
    inside = found_in(Positions.span("<|im_end|>"), model.tokenizer, model.tokens(TEXTS[2], format=format))
    assert inside.mask(model.tokens(TEXTS[2], format=format).roles.numpy()).sum() == len("<|im_end|>")


def loss(model: Model, texts: list[str], change: Intervention) -> list:
    return model.loss(texts, interventions=change, format="chat", batch_tokens=9).log_prob.tolist()


def generate(model: Model, texts: list[str], change: Intervention) -> list:
    return model.generate(texts, max_new_tokens=4, interventions=change, batch_tokens=9)


def logprobs(model: Model, texts: list[str], change: Intervention) -> list:
    return model.logprobs(texts, ["y"] * len(texts), interventions=change, batch_tokens=9).log_prob.tolist()


def divergence(model: Model, texts: list[str], change: Intervention) -> list:
    return model.kl_per_text(texts, interventions=change, format="chat", batch_tokens=9).tolist()


def test_every_question_takes_a_span(model: Model) -> None:
    """As the word of a role that selects the same tokens."""
    texts = ["abcd", "xyabzz", "ab"]
    span = Positions.span(["cd", "ab", "b"])
    tokens = model.tokens(texts)
    where = Positions.where(found_in(span, model.tokenizer, tokens).mask(tokens.roles.numpy()))
    for positions in (span, where):
        for text, word, i in (("abcd", "content[2:]", 0), ("xyabzz", "content[2:4]", 1), ("ab", "content[1]", 2)):
            change, same = Intervention.add(SITE, V, 3.0, positions), Intervention.add(SITE, V, 3.0, word)
            for ask in (loss, generate, logprobs, divergence):
                one, other = ask(model, texts, change)[i], ask(model, [text], same)[0]
                assert one == (pytest.approx(other, abs=2e-3) if isinstance(other, float) else other)
            rows = model.read(texts, SITE, positions=positions, pooling="mean", batch_tokens=9)[SITE].rows
            np.testing.assert_allclose(rows[i], model.read(text, SITE, positions=word)[SITE].rows[0], atol=1e-4)
    trace = model.run(model.tokens(texts), SITE, Intervention.add(SITE, V, 3.0, span))
    assert trace.changed == (5,)
    since = Condition(Direction(V), above=-1e9, since=Positions.span("cd"))
    begun = model.run(model.tokens("abcd"), interventions=Intervention.add(SITE, V, when=since))
    assert begun.changed == (int((model.tokens("abcd").roles == 4).sum()) + 2,)
    assert Condition.from_json(since.to_json()).since == since.since


def test_they_have_a_json_form() -> None:
    spans = [Positions.span(span) for span in ("a+b c", (3, 8), ["x", (1, 2)])]
    for positions in (*spans, Positions.where([[True, False]])):
        change = Intervention.add(SITE, V, 1.0, positions)
        again = Intervention.from_json(json.loads(json.dumps(change.to_json())))
        assert again.positions == positions
        assert type(again.positions) is type(positions)
        assert Positions.parse(str(positions)) == positions


def test_a_mask_follows_its_text_whatever_the_padding() -> None:
    roles = np.array([[2, 3, 3, 4, 0], [0, 2, 3, 3, 4]], np.int8)
    positions = Positions.where([np.array([0, 1, 0, 0], bool), np.array([1, 0, 0, 1], bool)])
    assert positions.mask(roles).astype(int).tolist() == [[0, 1, 0, 0, 0], [0, 1, 0, 0, 1]]
    assert positions.mask(roles[1:], np.array([1]), 2).astype(int).tolist() == [[0, 1, 0, 0, 1]]


def test_an_empty_selection_and_other_mistakes_are_refused(model: Model) -> None:
    change = Intervention.add(SITE, V, 1.0, Positions.span("Rome"))
    with pytest.raises(UserError, match="text 1 does not hold 'Rome'"):
        model.generate(["in Rome", "in Paris"], interventions=change)
    with pytest.raises(UserError, match="it was cut before"):
        model.loss(["a long way to Rome"], interventions=change, max_tokens=4)
    with pytest.raises(UserError, match="has 4 characters: a span from 3 to 9 does not fit"):
        model.loss(["Rome"], positions=Positions.span((3, 9)))
    with pytest.raises(UserError, match="2 spans were given, and this call has 1 texts"):
        model.loss(["Rome"], positions=Positions.span(["R", "o"]))
    with pytest.raises(UserError, match="positions were made for 2 texts, and this call has 1"):
        model.loss(["Rome"], positions=Positions.where([[False, True]] * 2))
    with pytest.raises(UserError, match="mask of text 1 selects no token"):
        Positions.where(np.array([[True], [False]]))
    with pytest.raises(UserError, match="true and false for each text"):
        Positions.where([[1, 0]])
    for bad in ("", (3, 3), (5, 2), (-1, 2), [], ["a", ""], {"a": 1}, 5):
        with pytest.raises(UserError, match="not a span of a text"):
            Positions.span(bad)
    for text in ("{", '{"tokens": 3}', '{"tokens": [[-1]]}', '{"tokens": [[0]], "x": 1}', '{"words": []}'):
        with pytest.raises(UserError):
            Positions.parse(text)
    with pytest.raises(UserError, match="positions are 3"):
        Positions.parse(3)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="give it to read, loss, generate or run"):
        Positions.span("x").mask(np.ones((1, 1), np.int8))
    part = model.tokens(["Rome", "x"])[torch.tensor([0])]
    with pytest.raises(UserError, match=r"make these by model.tokens\(texts\)"):
        model.run(part, interventions=change)
