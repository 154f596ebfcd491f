"""Continuations of one prompt: the prompt is read once, and nothing else is different."""

from typing import Any

import numpy as np
import pytest
import torch

from theodolite.core.basis import Direction
from theodolite.core.block_order import BlockOrder
from theodolite.core.condition import Condition
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.models import continuations
from theodolite.models.model import Model
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model

V = np.random.default_rng(0).normal(size=32).astype(np.float32)
LONG = "a prompt that is long enough to be worth reading once, and that has some company"
PROMPTS = [LONG, "short", LONG, LONG[::-1], LONG, "short", LONG[::-1], "alone", LONG]
ANSWERS = [" yes", " no", " perhaps, who knows", "a", "bc", " no", "d", " yes", "x"]
SITE = "blocks.1.resid_post"
CHANGES: list[Any] = [
    [],
    [Intervention.add(SITE, V, 2.0)],
    [Intervention.add(SITE, V, 2.0, "generated")],
    [Intervention.add(SITE, V, 2.0, "last+content[0]")],
    [Intervention.add(SITE, V, 2.0, "all[-1]")],  # another token in each continuation: not shared
    [Intervention.add(SITE, V, 3.0, when=Condition(Direction(V), above=0.0, since="content"))],
    [Intervention.add(SITE, V, np.arange(9.0))],  # of each text: not shared
    [BlockOrder.skip(0)],
    [BlockOrder.replace(0, by=2), Intervention.project_out(SITE, V)],
]


def make(family: str = "llama") -> Model:
    return Model(tiny_model(family), byte_tokenizer())


def read_by(model: Model, spy: Any, ask: Any) -> int:
    """Tokens that the last block runs over while something is asked."""
    ran: list[int] = []
    spy(model.network.blocks[2], lambda args: ran.append(args[0].shape[0] * args[0].shape[1]))
    ask()
    return sum(ran)


@pytest.mark.parametrize("format", ["chat", "raw"])
@pytest.mark.parametrize("family", FAMILIES)
def test_shared_prompts_give_what_each_gives_alone(family: str, format: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(family)
    for change in CHANGES:
        for size in (None, 150):
            asked = {"interventions": change, "format": format, "batch_tokens": size}
            found = model.logprobs(PROMPTS, ANSWERS, **asked)
            with monkeypatch.context() as without:
                without.setattr(continuations, "_repeated", lambda prompts: iter(()))
                alone = model.logprobs(PROMPTS, ANSWERS, **asked)
            np.testing.assert_allclose(found.log_prob, alone.log_prob, atol=2e-4, rtol=1e-5)
            assert found.n_tokens.tolist() == alone.n_tokens.tolist()


def test_a_prompt_is_read_once(spy: Any) -> None:
    model = make()
    n, answers = len(model.tokens(LONG, format="raw").ids[0]), [" yes", " no", " maybe", " so", " ok"]
    shared = read_by(model, spy, lambda: model.logprobs([LONG] * 5, answers, format="raw"))
    assert shared == n + 5 * (len(" maybe") - 1)
    letters = read_by(model, spy, lambda: model.logprobs([LONG] * 9, list("ABCDEFGHI"), format="raw", batch_tokens=999))
    assert letters == n  # one pass, whatever the number of letters


def test_what_differs_between_texts_is_not_shared(spy: Any) -> None:
    model = make()
    n = len(model.tokens(LONG, format="raw").ids[0])
    for change in (
        Intervention.add(SITE, V, np.array([1.0, 2.0, 3.0, 4.0])),
        Intervention.add(SITE, V, 1.0, "all[-1]"),
        Intervention(SITE, lambda z, context: z + 1),  # who knows
    ):
        ran = read_by(
            model, spy, lambda c=change: model.logprobs([LONG] * 4, list("ABCD"), format="raw", interventions=c)
        )
        assert ran == 4 * (n + 1)


def test_what_cannot_be_scored_is_refused_as_before() -> None:
    model = make()
    with pytest.raises(UserError, match="have no token at 'generated'"):
        model.logprobs([LONG] * 4, ["a", "b", "", "c"])
    with pytest.raises(UserError, match="matched no token"):
        model.logprobs([LONG] * 4, ["a", "b", "d", "c"], interventions=Intervention.add(SITE, V, 1.0, "first"))
    once = model.logprobs([LONG] * 4, list("abcd"), interventions=Intervention.add(SITE, V, 1.0, "generated"))
    assert torch.isfinite(torch.from_numpy(once.log_prob)).all()
