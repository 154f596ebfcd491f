"""Gradients of a pass: they reach strengths, vectors and captured states, never a weight, and only where asked."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from theodolite.core.basis import Direction, Subspace
from theodolite.core.intervention import Intervention
from theodolite.core.latents import LatentBasis
from theodolite.core.neurons import Neurons
from theodolite.core.rules import Add, Clamp, Mean, Patch, Scale
from theodolite.core.site import Site
from theodolite.dictionaries.activations import ReluRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.models.model import Model
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model

TEXTS = ["hello there", "how are you, all of you?", "xyz"]
SITE = Site(1, "resid_post")
V = np.random.default_rng(0).normal(size=32)


def make(family: str = "llama", dtype: torch.dtype = torch.float64) -> Model:
    return Model.from_pretrained(tiny_model(family).to(dtype), tokenizer=byte_tokenizer())


def tensor(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def changes() -> Iterator[tuple[torch.Tensor, Any]]:
    """A tensor with the intervention that holds it, for each place in which one may stand."""
    for rule in (Add, Clamp, Scale):
        yield tensor(0.7), lambda t, rule=rule: Intervention(SITE, rule(t), Direction(V))
        yield tensor([0.7, -1.0, 2.0]), lambda t, rule=rule: Intervention(SITE, rule(t), Direction(V))
        yield tensor([0.7, 2.0]), lambda t, rule=rule: Intervention(SITE, rule(t), Subspace([V, V[::-1].copy()]))
    yield tensor(V), lambda t: Intervention.add(SITE, t, 0.5)
    yield tensor(V), lambda t: Intervention.project_out(SITE, t)
    yield tensor(V), lambda t: Intervention.clamp(SITE, t, 2.0, keep_norm=True)
    yield tensor(V), lambda t: Intervention(SITE, Add(0.5), Direction(V, read=t))
    yield tensor(np.stack([V, V[::-1]])), lambda t: Intervention.project_out(SITE, t)
    yield tensor(V), lambda t: Intervention(SITE, Patch(t))
    yield tensor(np.stack([V, V[::-1]])), lambda t: Intervention(SITE, Mean(t), Direction(V))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tensor_in_an_intervention_gets_the_gradient_of_finite_differences(family: str) -> None:
    model, step = make(family), 1e-4
    tokens = model.tokens(TEXTS)

    def target(intervention: Intervention, grad: bool = False) -> torch.Tensor:
        logits = model.run(tokens, interventions=intervention, grad=grad).logits
        assert logits is not None
        return logits[tokens.mask].log_softmax(-1)[:, 7].sum()

    for given, build in changes():
        with torch.enable_grad():
            target(build(given), grad=True).backward()
        assert given.grad is not None
        axis = torch.randn(given.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        ends = [float(target(build(given.detach() + s * axis))) for s in (step, -step)]
        slope = float((given.grad * axis).sum())
        # transformers' RMSNorm computes in float32 whatever it is given
        assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=2e-2, abs=2e-2), build(given)
    assert all(p.grad is None and p.requires_grad for p in model.network.module.parameters())


def test_a_strength_gets_the_gradient_of_its_own_text() -> None:
    model, strengths = make(), tensor([0.5, 0.5, 0.5])
    tokens = model.tokens(TEXTS)
    change = Intervention(SITE, Add(strengths), Direction(V))
    logits = model.run(tokens, interventions=change, grad=True).logits
    assert logits is not None
    logits[1, 3].square().sum().backward()
    assert strengths.grad is not None
    assert (strengths.grad != 0).tolist() == [False, True, False]


@pytest.mark.parametrize("family", FAMILIES)
def test_no_parameter_gets_a_gradient_and_captured_states_do(family: str) -> None:
    model = make(family, torch.float32)
    before = [p.requires_grad for p in model.network.module.parameters()]
    trace = model.run(model.tokens(TEXTS), capture=model.sites(inner=True), grad=True)
    assert trace.logits is not None
    for state in trace.activations.values():
        state.retain_grad()
    trace.logits.square().sum().backward()
    for site, state in trace.activations.items():
        assert state.grad is not None, site
        assert state.grad.abs().sum() > 0, site
    assert [p.requires_grad for p in model.network.module.parameters()] == before
    assert all(p.grad is None for p in model.network.module.parameters())


def test_without_being_asked_nothing_is_recorded() -> None:
    model, strength, vector = make(), tensor(0.5), tensor(V)
    change = Intervention.add(SITE, vector, strength)
    trace = model.run(model.tokens(TEXTS), capture=SITE, interventions=change)
    assert trace.logits is not None
    assert not trace.logits.requires_grad
    assert not trace[SITE].requires_grad
    array = Intervention.add(SITE, V, 0.5)  # kept in float32
    plain = model.run(model.tokens(TEXTS), interventions=array).logits
    torch.testing.assert_close(plain, trace.logits, atol=1e-5, rtol=1e-5)
    losses = (model.loss(TEXTS, interventions=i).log_prob for i in (change, array))
    np.testing.assert_allclose(*losses, rtol=1e-6)
    assert model.generate(TEXTS, max_new_tokens=3, interventions=change)
    assert not hasattr(model.read(TEXTS, SITE, interventions=change)[SITE].rows, "grad_fn")


def test_a_strength_is_trained_to_a_divergence() -> None:
    """The use that gradients have: descent finds the strength at which the predictions have moved by .05 nat.

    The divergence grows with the square of a small strength, so that its logarithm is linear in that of the strength.
    """
    model, log_strength = make(), tensor(-1.0)
    optimiser = torch.optim.SGD([log_strength], lr=0.1)
    for _ in range(15):
        optimiser.zero_grad()
        divergence = model.kl(TEXTS, interventions=Intervention.add(SITE, V, log_strength.exp()))
        (divergence.log() - np.log(0.05)).square().backward()
        optimiser.step()
    reached = model.kl_per_text(TEXTS, interventions=Intervention.add(SITE, V, float(log_strength.detach().exp())))
    n = model.loss(TEXTS).n_tokens
    assert float(reached @ n / n.sum()) == pytest.approx(0.05, rel=0.02)


@pytest.mark.parametrize("family", FAMILIES)
def test_strengths_of_latents_neurons_and_heads_get_the_gradient_of_the_vector_that_they_write(family: str) -> None:
    """Adding to a coordinate is adding its written vector: one gradient, per text too, and none for a dictionary."""
    model = make(family, torch.float32)
    tokens, g = model.tokens(TEXTS), torch.Generator().manual_seed(0)
    sae = Dictionary(*(torch.randn(shape, generator=g) for shape in ((64, 32), (64,), (64, 32), (32,))), ReluRule())
    heads = model.network.heads("blocks.1.z", 1)
    one = np.eye(32, dtype=np.float32)
    for site, basis, vectors in (
        (SITE, LatentBasis(sae, 7), sae.W_dec[7].numpy()),
        (SITE, LatentBasis(sae, [3, 50]), sae.W_dec[[3, 50]].numpy()),
        (SITE, Neurons([4, 9], 32), one[[4, 9]]),
        (Site(1, "z"), heads, one[heads.neurons]),
    ):
        k = np.atleast_2d(vectors).shape[0]
        for strengths in (np.full(k, 0.5), np.linspace(-1, 1, 3 * k).reshape(3, 1, k)):
            grads = []
            for written in (basis, Subspace(vectors)):
                given = torch.tensor(strengths, dtype=torch.float32, requires_grad=True)
                logits = model.run(tokens, interventions=Intervention(site, Add(given), written), grad=True).logits
                logits[tokens.mask].log_softmax(-1)[:, 7].sum().backward()
                assert given.grad is not None
                assert given.grad.abs().min() > 0
                grads.append(given.grad)
            torch.testing.assert_close(*grads, atol=5e-3, rtol=5e-3)
    assert all(p.grad is None for p in model.network.module.parameters())
    assert not sae.W_dec.requires_grad
