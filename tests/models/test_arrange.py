"""Blocks in another order: equal to the model that is built so, cached or not, and never computed where skipped."""

import copy
import json
import threading
from typing import Any

import numpy as np
import pytest
import torch

from theodolite.core.block_order import BlockOrder
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention, change_from_json
from theodolite.models.generate import Decoding, generate
from theodolite.models.model import Model
from theodolite.models.run import Effects
from theodolite.models.tokens import encode
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model

TEXTS = ["hello there", "how are you, all of you?", "x"]
V = np.random.default_rng(0).normal(size=32).astype(np.float32)
ORDERS = [
    BlockOrder.skip(0),
    BlockOrder.skip(1),
    BlockOrder.skip([1, 2]),
    BlockOrder.swap(0, 2),
    BlockOrder.swap(1, 2),
    BlockOrder.replace(0, by=1),
    BlockOrder({0: 2, 1: None, 2: 2}),
]


def make(family: str = "llama", **options: Any) -> Model:
    return Model.from_pretrained(tiny_model(family), tokenizer=byte_tokenizer(), **options)


def built(model: Model, order: BlockOrder) -> Model:
    """The model whose weights and configuration have the order, made from copies of its blocks."""
    module = copy.deepcopy(model.network.module)
    network = Model(module, model.tokenizer).network
    running = [block for block in order.over(model.n_blocks) if block is not None]
    own, blocks = list(network.blocks), network.blocks
    del blocks[:]
    for depth, block in enumerate(running):
        blocks.append(copy.deepcopy(own[block]))
        for part in blocks[depth].modules():
            if hasattr(part, "layer_idx"):
                part.layer_idx = depth
    config = module.base_model.config
    config.num_hidden_layers = len(running)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[block] for block in running]
    return Model(module, model.tokenizer)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_order_is_the_model_that_is_built_so(family: str) -> None:
    model = make(family)
    tokens = model.tokens(TEXTS)
    plain = model.run(tokens).logits
    for order in ORDERS:
        found = model.run(tokens, interventions=order).logits
        assert torch.equal(found, built(model, order).run(tokens).logits), order
        assert (found - plain)[tokens.mask].abs().max() > 1e-3
    assert torch.equal(model.run(tokens).logits, plain)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cache_changes_nothing_in_another_order(family: str) -> None:
    model = make(family)
    prompts = encode(model.tokenizer, TEXTS)
    change = Intervention.add("blocks.1.resid_post", V, 0.5, "last+generated")
    for order in ORDERS:
        effects = [order, change]
        cached, whole = (
            [
                one.ids
                for one in generate(
                    model.network, prompts, Decoding(10), effects=Effects(effects), stop_ids=[], use_cache=on
                )
            ]
            for on in (True, False)
        )
        assert cached == whole, order
        plain = generate(built(model, order).network, prompts, Decoding(10), stop_ids=[])
        unchanged = generate(model.network, prompts, Decoding(10), effects=Effects([order]), stop_ids=[])
        assert [one.ids for one in unchanged] == [one.ids for one in plain], order


def test_skipping_every_block_leaves_the_embedding_also_while_generating() -> None:
    model = make()
    everything = BlockOrder.skip(range(3))
    tokens = model.tokens(TEXTS)
    trace = model.run(tokens, ["embed", "blocks.2.resid_post"], everything)
    assert torch.equal(trace["embed"], trace["blocks.2.resid_post"])
    assert len(model.generate(TEXTS, max_new_tokens=3, interventions=everything)) == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_skipped_block_is_not_computed(family: str) -> None:
    """Bit for bit the intervention that throws its result away, without one call of anything in it."""
    model = make(family)
    tokens = model.tokens(TEXTS)
    thrown_away = model.run(tokens, interventions=Intervention.skip(1)).logits
    calls = dict.fromkeys(range(3), 0)

    def count(depth: int) -> Any:
        return lambda *_: calls.__setitem__(depth, calls[depth] + 1)

    handles = [
        part.register_forward_hook(count(depth))
        for depth, block in enumerate(model.network.blocks)
        for part in block.modules()
    ]
    found = model.run(tokens, interventions=BlockOrder.skip(1)).logits
    for handle in handles:
        handle.remove()
    assert torch.equal(found[tokens.mask], thrown_away[tokens.mask])  # interventions leave padding alone
    assert calls[1] == 0
    assert calls[0] == calls[2] > 5


def test_sites_count_depths() -> None:
    model = make()
    tokens = model.tokens(TEXTS)
    sites = [f"blocks.{depth}.{part}" for depth in range(3) for part in ("resid_pre", "attn_out", "z", "resid_post")]
    order = BlockOrder.swap(0, 1)
    found, wanted = model.run(tokens, sites, order), built(model, order).run(tokens, sites)
    for site in sites:
        assert torch.equal(found[site], wanted[site]), site
    skipped = model.run(tokens, ["blocks.1.resid_pre", "blocks.1.resid_post"], BlockOrder.skip(1))
    assert torch.equal(skipped["blocks.1.resid_pre"], skipped["blocks.1.resid_post"])
    change = Intervention.add("blocks.1.resid_post", V, 2.0)
    twice = BlockOrder.replace(1, by=0)
    one, other = (
        m.run(tokens, sites[:1] + sites[7:8], c) for m, c in ((model, [twice, change]), (built(model, twice), change))
    )
    assert torch.equal(one.logits, other.logits)
    assert torch.equal(one["blocks.1.resid_post"], other["blocks.1.resid_post"])
    with pytest.raises(UserError, match=r"'blocks.1.attn_out' is not computed: .* skips block 1"):
        model.run(tokens, "blocks.1.attn_out", BlockOrder.skip(1))
    with pytest.raises(UserError, match="runs at 2 depths"):
        model.run(tokens, "blocks.1.attn_out", twice)


def test_every_question_takes_an_order() -> None:
    model, order = make(), BlockOrder.swap(1, 2)
    other = built(model, order)
    np.testing.assert_array_equal(model.loss(TEXTS[:2], interventions=order).log_prob, other.loss(TEXTS[:2]).log_prob)
    site = "blocks.2.resid_post"
    rows = [m.read(TEXTS, site, interventions=i)[site].rows for m, i in ((model, order), (other, ()))]
    np.testing.assert_allclose(*rows, atol=1e-5)
    assert model.kl_per_text(TEXTS[:2], interventions=order).min() > 0
    assert float(model.kl(TEXTS[:2], interventions=order)) > 0
    answers = [m.logprobs(TEXTS, ["yes"] * 3, interventions=i).log_prob for m, i in ((model, order), (other, ()))]
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_network_is_as_it_was_whatever_happens(family: str) -> None:
    model = make(family)
    before, hash = list(model.network.blocks), model.hash
    kinds = getattr(model.network.module.config, "layer_types", None)

    def fail(z: torch.Tensor, context: Any) -> torch.Tensor:
        raise MemoryError

    with pytest.raises(MemoryError):
        model.run(model.tokens(TEXTS), interventions=[BlockOrder.swap(0, 2), Intervention("blocks.1.resid_post", fail)])
    assert all(one is other for one, other in zip(model.network.blocks, before, strict=True))
    assert getattr(model.network.module.config, "layer_types", None) == kinds
    assert model.hash == hash


def test_other_threads_meet_neither_the_order_nor_another_hash() -> None:
    model = make()
    tokens, hash = model.tokens(TEXTS), model.hash
    expected, stop, met = model.run(tokens).logits, threading.Event(), []

    def other() -> None:
        while not stop.is_set():
            model.run(tokens, interventions=BlockOrder.swap(0, 2))
            model.generate("x", max_new_tokens=2, interventions=BlockOrder.skip(1))
            met.append(1)

    thread = threading.Thread(target=other)
    thread.start()
    try:
        for _ in range(15):
            assert torch.equal(model.run(tokens).logits, expected)
            assert model.hash == hash
    finally:
        stop.set()
        thread.join()
    assert met


def test_orders_that_cannot_be_are_refused_and_others_have_a_json_form() -> None:
    model = make()
    tokens = model.tokens("x")
    with pytest.raises(UserError, match="blocks 0 to 2"):
        model.run(tokens, interventions=BlockOrder.skip(3))
    with pytest.raises(UserError, match="two orders of blocks say what runs at depth 1"):
        model.run(tokens, interventions=[BlockOrder.skip(1), BlockOrder.swap(1, 2)])
    for bad in ({}, {1: -1}, {True: 0}, {1: "2"}):
        with pytest.raises(UserError):
            BlockOrder(bad)
    for order in ORDERS:
        assert change_from_json(json.loads(json.dumps(order.to_json()))) == order
    kept = change_from_json(Intervention.skip(1).to_json())
    assert kept.to_json() == Intervention.skip(1).to_json()
    for pairs in ({}, [], [[1]], [[1, 2], [1, 0]], [[None, 1]], [["1", 2]]):
        with pytest.raises(UserError):
            change_from_json({"blocks": pairs})
