"""The divergence an intervention causes: value by hand, gradient by finite differences, nothing left behind."""

import numpy as np
import pytest
import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.positions import Positions
from theodolite.core.site import Site
from theodolite.models.model import Model
from theodolite.models.run import NoEffect
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model

TEXTS = ["hello there", "how are you, all of you?", "xyz"]
D = 32


class Shift:
    """The rule z + v with a tensor that may require a gradient."""

    def __init__(self, v: Tensor) -> None:
        self.v = v

    def __call__(self, z: Tensor, context: object) -> Tensor:
        return z + self.v


def make(family: str = "llama", dtype: torch.dtype = torch.float64) -> Model:
    return Model.from_pretrained(tiny_model(family).to(dtype), tokenizer=byte_tokenizer())


def at(site: str, v: Tensor) -> list[Intervention]:
    return [Intervention(Site.parse(site), Shift(v), positions=Positions("content"))]


def shift(seed: int = 0) -> Tensor:
    return torch.randn(D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.5


def test_value_is_the_mean_over_tokens_of_the_divergence_from_the_untouched_prediction() -> None:
    model, change = make(), at("blocks.1.resid_post", shift())
    tokens = model.tokens(TEXTS, format="raw")
    content = torch.from_numpy(Positions("content").mask(tokens.roles.numpy()))
    clean, changed = (model.run(tokens, interventions=i).logits.softmax(-1)[content].numpy() for i in ([], change))
    expected = (clean * np.log(clean / changed)).sum(1).mean()
    assert float(model.kl(TEXTS, interventions=change)) == pytest.approx(expected, rel=1e-6)
    assert expected > 0.01


def test_a_replacement_by_itself_has_no_divergence() -> None:
    model = make(dtype=torch.float32)
    with pytest.warns(NoEffect):
        assert float(model.kl(TEXTS, interventions=at("blocks.1.resid_post", torch.zeros(D)))) == 0.0


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "gpt_neox"])
def test_gradient_is_that_of_finite_differences_at_every_site(family: str) -> None:
    model, step = make(family), 1e-3  # transformers' RMSNorm computes in float32 whatever it is given
    for site in (str(s) for s in model.sites() if s.block in (None, 1)):
        v = shift().requires_grad_()
        (gradient,) = torch.autograd.grad(model.kl(TEXTS, interventions=at(site, v)), [v])
        axis = shift(1)
        ends = [float(model.kl(TEXTS, interventions=at(site, v.detach() + s * axis))) for s in (step, -step)]
        assert float(gradient @ axis) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=5e-3, abs=1e-5), site
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_the_divergence_of_each_text_is_that_of_its_full_logits(family: str) -> None:
    """By hand, text by text, from the whole logits; in batches of any size, with a strength for each text."""
    model = make(family, torch.float32)
    v, strengths = shift().numpy(), np.array([0.5, -1.0, 2.0])
    change = Intervention.add("blocks.1.resid_post", v, strengths, "content")
    for positions in ("content", "content[-1]"):
        expected = []
        for text, strength in zip(TEXTS, strengths, strict=True):
            tokens = model.tokens(text, format="raw")
            chosen = torch.from_numpy(Positions(positions).mask(tokens.roles.numpy()))
            clean, changed = (
                model.run(tokens, interventions=i).logits[chosen].double().log_softmax(-1)
                for i in ((), change.at(float(strength)))
            )
            expected.append(float((clean.exp() * (clean - changed)).sum(-1).mean()))
        for size in (1, 30, None):
            found = model.kl_per_text(TEXTS, interventions=change, positions=positions, batch_tokens=size)
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
        assert min(expected) > 1e-4


def test_the_divergence_of_all_texts_is_the_mean_over_their_tokens() -> None:
    model, change = make(), at("blocks.1.resid_post", shift())
    per_text = model.kl_per_text(TEXTS, interventions=change)
    n = model.loss(TEXTS).n_tokens
    assert float(model.kl(TEXTS, interventions=change)) == pytest.approx(float(per_text @ n / n.sum()), rel=1e-6)
    v = shift().requires_grad_()
    assert not torch.is_tensor(model.kl_per_text(TEXTS, interventions=at("blocks.1.resid_post", v)))
    with pytest.warns(NoEffect):
        nothing = model.kl_per_text(TEXTS, interventions=Intervention.add("embed", shift().numpy(), 0.0))
    assert nothing.tolist() == [0.0] * 3


def test_the_model_stays_as_it_was() -> None:
    model, v = make(), shift().requires_grad_()
    parameters = list(model.network.module.parameters())
    parameters[0].requires_grad_(False)
    before = [(p.requires_grad, p.detach().clone()) for p in parameters]
    model.kl(TEXTS, interventions=at("blocks.0.mlp_out", v)).backward()
    assert v.grad is not None
    for parameter, (trained, value) in zip(parameters, before, strict=True):
        assert parameter.requires_grad == trained
        assert parameter.grad is None
        assert torch.equal(parameter, value)
    with pytest.raises(RuntimeError):
        model.kl(TEXTS, interventions=at("blocks.0.mlp_out", v[:5]))
    assert [p.requires_grad for p in parameters] == [trained for trained, _ in before]


def test_texts_without_a_token_at_the_positions_are_refused() -> None:
    with pytest.raises(UserError, match="no token"):
        make().kl(TEXTS, interventions=at("blocks.0.mlp_out", shift()), positions="generated")
