"""A pass that goes on from a block whose input was computed before: the whole pass, bit for bit."""

import numpy as np
import pytest
import torch

from theodolite.core.block_order import BlockOrder
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.models.model import Model
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model

TEXTS = ["hello there", "how are you, all of you?", "x"]
V = np.random.default_rng(0).normal(size=32).astype(np.float32)


def make(family: str = "llama") -> Model:
    return Model(tiny_model(family), byte_tokenizer())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_resumed_pass_is_the_whole_one_bit_for_bit(family: str) -> None:
    model = make(family)
    tokens = model.tokens(TEXTS)
    early = Intervention.add("blocks.0.attn_out", V, 0.3, "content")
    for block in (1, 2):
        later = [s for s in model.sites(inner=True) if not s < model.site(f"blocks.{block}.resid_pre")]
        start = model.start(tokens, block, early)
        for change in (
            [],
            [Intervention.add(later[0], V)],
            [Intervention.add(f"blocks.{block}.resid_post", V, 2.0, "last")],
        ):
            found = model.run(tokens, later, change, start=start)
            whole = model.run(tokens, later, [early, *change])
            assert torch.equal(found.logits, whole.logits), change
            for site in later:
                assert torch.equal(found[site], whole[site]), site
            assert found.changed == whole.changed[1:]
    order = BlockOrder.skip(2)
    resumed = model.run(tokens, interventions=order, start=model.start(tokens, 1))
    assert torch.equal(resumed.logits, model.run(tokens, interventions=order).logits)


def test_blocks_before_the_start_do_not_run() -> None:
    model = make()
    tokens = model.tokens(TEXTS)
    start, ran = model.start(tokens, 2), []
    handles = [b.register_forward_hook(lambda *_, n=n: ran.append(n)) for n, b in enumerate(model.network.blocks)]
    model.run(tokens, start=start)
    for handle in handles:
        handle.remove()
    assert ran == [2]


def test_gradients_go_no_further_than_the_start() -> None:
    model, strength = make(), torch.tensor(0.5, requires_grad=True)
    tokens = model.tokens(TEXTS)
    change = Intervention.add("blocks.2.resid_pre", V, strength)
    grads = []
    for start in (None, model.start(tokens, 2)):
        strength.grad = None
        model.run(tokens, interventions=change, grad=True, start=start).logits.square().sum().backward()
        grads.append(strength.grad)
    assert torch.equal(*grads)
    assert all(p.grad is None for p in model.network.module.parameters())


def test_a_start_of_something_else_is_refused() -> None:
    model = make()
    tokens = model.tokens(TEXTS)
    start = model.start(tokens, 2)
    for change in (
        Intervention.add("blocks.1.resid_post", V),
        Intervention.patch("blocks.2.resid_post", "blocks.1.resid_post"),
        Intervention.add("embed", V),
    ):
        with pytest.raises(UserError, match="lies before block 2, where this pass starts"):
            model.run(tokens, interventions=change, start=start)
    with pytest.raises(UserError, match="lies before block 2"):
        model.run(tokens, capture="blocks.0.resid_post", start=start)
    with pytest.raises(UserError, match="changes depth 1, before block 2"):
        model.run(tokens, interventions=BlockOrder.swap(1, 2), start=start)
    for other in (model.tokens(["other"]), model.tokens([*TEXTS[:2], "y"])):
        with pytest.raises(UserError, match="other tokens"):
            model.run(other, start=start)
    with pytest.raises(UserError, match="a block from 1 on"):
        model.start(tokens, 0)
    with pytest.raises(UserError, match="blocks 0 to 2"):
        model.start(tokens, 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_logits_are_those_of_each_text_s_last_token(family: str) -> None:
    model = make(family)
    for texts in (TEXTS, ["same", "long"]):
        tokens = model.tokens(texts)
        change = Intervention.add("blocks.1.resid_post", V)
        whole = model.run(tokens, interventions=change).logits
        last = model.run(tokens, interventions=change, logits="last").logits
        for i, n in enumerate(tokens.lengths):
            torch.testing.assert_close(last[i, 0], whole[i, n - 1], atol=1e-6, rtol=1e-5)
    with pytest.raises(UserError, match="'last'"):
        model.run(tokens, logits="first")  # type: ignore[arg-type]
