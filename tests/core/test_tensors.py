"""Numbers that are made into a tensor once: right for every device, dtype, thread, process and kind of pass."""

import pickle
import threading
from typing import Any

import numpy as np
import pytest
import torch

from theodolite.core.basis import Direction, Subspace
from theodolite.core.intervention import Intervention
from theodolite.core.neurons import Neurons
from theodolite.core.rules import Add, Clamp, Mean, Patch, Scale
from theodolite.core.tensors import Constant
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE = "blocks.1.resid_post"
V = np.random.default_rng(0).normal(size=32).astype(np.float32)
ROWS = np.random.default_rng(1).normal(size=(5, 32)).astype(np.float32)


def logits(model: Model, change: Intervention) -> torch.Tensor:
    found = model.run(model.tokens(["a text", "and another"]), interventions=change).logits
    assert found is not None
    return found


def test_a_tensor_is_made_once_for_each_dtype() -> None:
    numbers = Constant([1.0, 2.0])
    made = [numbers.like(torch.zeros(1, dtype=dtype)) for dtype in (torch.float32, torch.float64, torch.float32)]
    assert made[0] is made[2]
    assert [tensor.dtype for tensor in made[:2]] == [torch.float32, torch.float64]
    with pytest.raises(ValueError, match="read-only"):
        numbers.array[0] = 3.0


def test_no_pass_makes_a_tensor_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(tiny_model(), byte_tokenizer())
    changes = [
        Intervention.add(SITE, V, 2.0),
        Intervention(SITE, Scale([0.5, 2.0]), Subspace(ROWS[:2])),
        Intervention(SITE, Mean(ROWS), Direction(V)),
        Intervention(SITE, Clamp(3.0), Neurons([1, 5], 32)),
    ]
    first = [logits(model, change) for change in changes]
    monkeypatch.setattr(torch, "tensor", lambda *a, **k: pytest.fail("made again"))
    again = [model.run(TOKENS, interventions=change).logits for change in changes]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


TOKENS = Model(tiny_model(), byte_tokenizer()).tokens(["a text", "and another"])


@pytest.mark.parametrize(
    "build",
    [
        lambda v: Intervention.add(SITE, v),
        lambda v: Intervention.project_out(SITE, v),
        lambda v: Intervention(SITE, Add(v)),
        lambda v: Intervention(SITE, Mean(v[None])),
        lambda v: Intervention(SITE, Mean(v[None]), Direction(V)),
    ],
)
def test_what_someone_writes_into_an_array_later_does_not_count_and_into_a_tensor_does(build: object) -> None:
    model = Model(tiny_model(), byte_tokenizer())
    for given in (V.copy(), torch.tensor(V)):
        change = build(given)  # type: ignore[operator]
        before = logits(model, change)
        if isinstance(given, np.ndarray):
            given[:] = given[::-1].copy()
            assert torch.equal(logits(model, change), before)
        else:
            given.data.copy_(given.flip(0))  # which leaves no trace in the tensor's version
            other = build(given.numpy().copy())  # type: ignore[operator]
            torch.testing.assert_close(logits(model, change), logits(model, other), atol=1e-4, rtol=1e-4)
            assert not torch.equal(logits(model, change), before)


def test_a_mean_is_that_of_the_basis_it_meets() -> None:
    model, mean = Model(tiny_model(), byte_tokenizer()), Mean(ROWS)
    for basis in (Direction(V), Subspace(ROWS[:2]), Direction(V)):
        torch.testing.assert_close(
            logits(model, Intervention(SITE, mean, basis)), logits(model, Intervention(SITE, Mean(ROWS), basis))
        )
    vector = torch.tensor(V)
    change = Intervention(SITE, mean, Direction(vector))
    before = logits(model, change)
    vector *= torch.linspace(-1, 1, 32)
    assert not torch.equal(logits(model, change), before)


def test_a_tensor_made_in_inference_mode_serves_a_pass_with_gradients() -> None:
    model = Model(tiny_model(), byte_tokenizer())
    for basis in (Direction(V), Neurons([3, 4], 32), Subspace(ROWS)):
        change = Intervention(SITE, Scale(0.5), basis)
        with torch.inference_mode():
            expected = logits(model, change)
        trace = model.run(TOKENS, "blocks.0.resid_post", change, grad=True)
        trace.logits.square().sum().backward()
        assert torch.equal(trace.logits.detach(), expected)


def test_an_intervention_travels_to_another_process_and_is_used_by_many_threads() -> None:
    model = Model(tiny_model(), byte_tokenizer())
    changes = [
        Intervention.add(SITE, V, 2.0),
        Intervention(SITE, Mean(ROWS), Subspace(ROWS[:2])),
        Intervention(SITE, Patch(V)),
    ]
    for change in changes:
        expected = logits(model, change)
        assert torch.equal(logits(model, pickle.loads(pickle.dumps(change))), expected)
        fresh, wrong = pickle.loads(pickle.dumps(change)), []

        def ask(own: Model, change: Intervention = fresh, expected: Any = expected, wrong: list = wrong) -> None:
            wrong.extend(1 for _ in range(5) if not torch.equal(logits(own, change), expected))

        # models on three modules have three locks: their passes run side by side
        models = [Model(tiny_model(), byte_tokenizer()) for _ in range(3)]
        threads = [threading.Thread(target=ask, args=(own,)) for own in models]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
