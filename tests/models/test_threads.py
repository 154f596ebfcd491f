"""Two threads on one network: neither meets the interventions of the other."""

import threading
from typing import Any

import pytest
import torch

from theodolite.core.block_order import BlockOrder
from theodolite.core.intervention import Intervention
from theodolite.core.parallel import Processes
from theodolite.core.positions import Positions
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model


@pytest.mark.parametrize("ask", ["run", "embed", "kl"])
def test_plain_passes_stay_plain_while_another_thread_steers(ask: str) -> None:
    module, tokenizer = tiny_model(), byte_tokenizer()
    plain, steered = Model(module, tokenizer), Model(module, tokenizer)  # two models on one network
    tokens = plain.tokens(["the old mill"])
    site = "embed" if ask == "embed" else "blocks.1.resid_post"
    steer = [Intervention.add(site, torch.ones(32).numpy(), 50.0)]

    def answer() -> Any:
        if ask == "embed":
            return torch.from_numpy(plain.embed(["the old mill"]))
        trace = plain.run(tokens, capture="embed", grad=ask == "kl")
        # both take the gradient away from the weights while they run; that of a captured state is left
        assert ask != "kl" or trace.logits.requires_grad
        return trace.logits.detach()

    expected, changed, stop = answer(), [], threading.Event()

    def other() -> None:
        while not stop.is_set():
            if ask == "kl":
                steered.kl(["the old mill"], interventions=steer)
            else:
                changed.append(steered.run(tokens, interventions=steer).logits)

    thread = threading.Thread(target=other)
    thread.start()
    try:
        wrong = sum(not torch.equal(answer(), expected) for _ in range(60))
    finally:
        stop.set()
        thread.join()
    assert wrong == 0
    assert all(p.requires_grad for p in module.parameters())
    if ask != "kl":
        reference = changed[0]
        assert all(torch.equal(logits, reference) for logits in changed)
        assert not torch.equal(reference, plain.run(tokens).logits)


def test_a_hash_taken_during_another_threads_pass_is_the_same() -> None:
    model = Model(tiny_model(), byte_tokenizer())
    tokens, stop, hash = model.tokens(["the old mill"]), threading.Event(), model.hash

    def other() -> None:
        while not stop.is_set():
            model.run(tokens, ["blocks.0.resid_post", "blocks.1.resid_mid"])

    thread = threading.Thread(target=other)
    thread.start()
    try:
        assert {model.hash for _ in range(20)} == {hash}
    finally:
        stop.set()
        thread.join()


def test_another_process_computes_the_same_with_what_it_is_sent() -> None:
    change = Intervention.add("blocks.1.resid_post", torch.ones(32).numpy(), 5.0, Positions.span("old"))
    order = BlockOrder.swap(0, 2)
    model = Model(tiny_model(seed=4), byte_tokenizer())
    expected = model.run(model.tokens(["the old mill"]), interventions=[order, change]).logits.numpy()

    # nested, so that it travels by value: a worker that an earlier test started may not find this file
    def elsewhere(seed: int) -> Any:
        there = Model(tiny_model(seed=seed), byte_tokenizer())
        return there.run(there.tokens(["the old mill"]), interventions=[order, change]).logits.numpy()

    # the workers of the harvest's tests, if they ran before: one of another kind would import torch anew
    (found,) = Processes(2)(lambda: elsewhere, [4])
    assert (found == expected).all()
