"""Interventions that keep something of a text while it is generated: as without a cache, and of no other text."""

import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from theodolite.core.basis import Direction
from theodolite.core.condition import Condition
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.rules import Clamp, PassContext
from theodolite.core.site import Site
from theodolite.models.generate import Decoding, Generation, generate
from theodolite.models.model import Model
from theodolite.models.run import Effects
from theodolite.models.tokens import encode
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model

TEXTS = ["hello there", "how are you, all of you?", "x", "and one more"]
SITE = Site(1, "resid_post")
V = np.random.default_rng(0).normal(size=32).astype(np.float32)


class AwayFromMean:
    """z moves away from its mean over the selected tokens so far: a rule whose state is a running mean."""

    remembers = True

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, z: Tensor, context: PassContext) -> Tensor:
        chosen = context.selected.unsqueeze(-1)
        before = context.recall("sum"), context.recall("n")
        total, n = (z * chosen).cumsum(1), chosen.long().cumsum(1)
        if before[0] is not None and before[1] is not None:
            total, n = total + before[0].unsqueeze(1), n + before[1].unsqueeze(1)
        context.keep(total[:, -1], "sum")
        context.keep(n[:, -1], "n")
        return z + self.factor * (z - total / n.clamp_min(1))


def make(family: str = "llama") -> Model:
    return Model(tiny_model(family), byte_tokenizer())


def generations(model: Model, change: Any, **options: Any) -> list[Generation]:
    prompts = encode(model.tokenizer, TEXTS)
    return generate(
        model.network, prompts, Decoding(10), effects=Effects([change] if change else []), stop_ids=[], **options
    )


def answers(model: Model, change: Any) -> list[list[int]]:
    return [one.ids for one in generations(model, change)]


def changes(model: Model) -> list[Intervention]:
    """A running mean, and a decision that is taken on prompts of which about half fulfil it."""
    tokens = model.tokens(TEXTS)
    z = Direction(V).encode(model.run(tokens, SITE, logits=False)[SITE])[..., 0]
    bound = float(z[torch.arange(len(TEXTS)), tokens.last_columns].median()) + 1e-4
    when = Condition(Direction(V), above=bound, since="last")
    return [
        Intervention(SITE, AwayFromMean(3.0), Direction(V), "content+generated"),
        Intervention(SITE, AwayFromMean(3.0), Direction(V), "generated"),
        Intervention.add(SITE, V, 4.0, "generated", when=when),
        Intervention(SITE, Clamp(9.0), Direction(V), when=when),
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_cache_the_batch_and_the_company_change_nothing(family: str) -> None:
    model = make(family)
    plain = generations(model, None)
    for change in changes(model):
        cached = generations(model, change)
        for options in ({"use_cache": False}, {"batch_tokens": 1}, {}):  # the last: nothing is left of the first call
            for one, other in zip(cached, generations(model, change, **options), strict=True):
                assert one.ids == other.ids, (change, options)
                np.testing.assert_allclose(one.log_probs, other.log_probs, atol=1e-3)
        assert any(abs(a.log_probs - b.log_probs).max() > 1e-2 for a, b in zip(cached, plain, strict=True)), change


def test_a_decision_on_the_prompt_holds_for_its_text_alone() -> None:
    model = make()
    decided = changes(model)[2]
    assert decided.when is not None
    tokens = model.tokens(TEXTS)
    z = Direction(V).encode(model.run(tokens, SITE, logits=False)[SITE])[..., 0]
    fulfilled = z[torch.arange(len(TEXTS)), tokens.last_columns] > decided.when.above
    assert 0 < int(fulfilled.sum()) < len(TEXTS)
    plain = answers(model, None)
    always = answers(model, Intervention.add(SITE, V, 4.0, "generated"))
    found = answers(model, decided)
    assert found == [a if f else p for a, p, f in zip(always, plain, fulfilled.tolist(), strict=True)]


def test_the_tokens_from_the_first_that_fulfils_the_condition_change() -> None:
    model = make()
    tokens = model.tokens(TEXTS)
    plain = model.run(tokens, SITE)[SITE]
    z = Direction(V).encode(plain)[..., 0]
    content = tokens.roles == 3
    bound = float(z[content].sort().values[-4])  # a few tokens of the contents lie above
    changed = model.run(
        tokens, SITE, Intervention.add(SITE, V, when=Condition(Direction(V), above=bound, since="content"))
    )
    begun = ((z > bound) & content).cumsum(1) > 0
    assert begun.any()
    assert torch.equal((changed[SITE] != plain).any(-1), begun & tokens.mask)


def test_two_threads_keep_their_own() -> None:
    model = make()
    first, second = changes(model)[0], changes(model)[2]
    expected = {0: answers(model, first), 1: answers(model, second)}
    wrong: list[int] = []

    def ask(number: int, change: Intervention) -> None:
        wrong.extend(number for _ in range(4) if answers(model, change) != expected[number])

    threads = [threading.Thread(target=ask, args=item) for item in ((0, first), (1, second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_condition_since_some_tokens_has_a_json_form() -> None:
    when = Condition(Direction(V), above=0.5, site="blocks.0.resid_post", since="last")
    again = Condition.from_json(when.to_json())
    assert again.to_json() == when.to_json()
    assert str(again.since) == "last"
    assert "since last" in repr(when)


def test_a_value_that_is_not_one_per_text_is_refused() -> None:
    def rule(z: Tensor, context: PassContext) -> Tensor:
        context.keep(z[0, 0])
        return z

    with pytest.raises(UserError, match="first axis is that of the texts"):
        make().generate(["a", "b"], interventions=Intervention(SITE, rule), max_new_tokens=2)
