"""What every learner shares and no variant shows: weight decay, the frozen controls, targets, a state's scales."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.dictionaries.seeded import seeded_rows
from theodolite.dictionaries.training.learner import Learner, within_cone
from theodolite.dictionaries.variants.jumprelu import JumpReLU
from theodolite.dictionaries.variants.relu import ReLU
from theodolite.dictionaries.variants.topk import TopK

D, F = 12, 20


def rows(n: int, seed: int) -> Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed)) * torch.linspace(0.5, 2, D) + 3


def fitted(steps: int = 0, **how: object) -> TopK:
    learner = TopK(D, width=F, k=3, lr=2e-2, **how)
    return learner.fit(rows(256, i % 30) for i in range(steps))


def first_moments(weight_decay: float, **how: object) -> tuple[TopK, dict[str, Tensor]]:
    """The gradients of one step, from Adam's first moment (.1 of them)."""
    learner = fitted(weight_decay=weight_decay, clip=1e9, **how)
    learner.partial_fit(rows(256, 0))
    return learner, {n: 10 * learner.state()[f"{n}.exp_avg"] for n in ("W_enc", "b_enc", "W_dec", "b_dec")}


def test_weight_decay_is_half_the_squared_weights_in_the_loss() -> None:
    """Its gradient is the weight itself, for matrices alone; along decoder rows of norm 1 it is projected away."""
    _, plain = first_moments(0.0)
    _, decayed = first_moments(0.7)
    start = seeded_rows(F, D, 0)
    torch.testing.assert_close(decayed["W_enc"] - plain["W_enc"], 0.7 * start, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(decayed["W_dec"], plain["W_dec"], rtol=1e-4, atol=1e-6)
    assert torch.equal(decayed["b_enc"], plain["b_enc"])
    assert torch.equal(decayed["b_dec"], plain["b_dec"])


def test_weight_decay_reaches_a_decoder_of_free_norm() -> None:
    class Free(TopK):
        unit_decoder = False

    moments = {}
    for decay in (0.0, 0.7):
        learner = Free(D, width=F, k=3, weight_decay=decay, clip=1e9)
        learner.partial_fit(rows(256, 0))
        moments[decay] = 10 * learner.state()["W_dec.exp_avg"]
    torch.testing.assert_close(moments[0.7] - moments[0.0], 0.7 * seeded_rows(F, D, 0), rtol=1e-4, atol=1e-6)


def test_weight_decay_shrinks_the_encoder_and_the_latents_nobody_needs_most() -> None:
    plain, decayed = (fitted(200, weight_decay=w).parameters_["W_enc"].norm(dim=1) for w in (0.0, 0.02))
    assert decayed.mean() < 0.7 * plain.mean()
    assert decayed.min() / decayed.max() < 0.5 * plain.min() / plain.max()  # a core stays, the rest collapses


def test_weight_decay_leaves_a_frozen_encoder_alone() -> None:
    learner = fitted(5, weight_decay=0.5, frozen="encoder")
    assert torch.equal(learner.parameters_["W_enc"], seeded_rows(F, D, 0))


def test_a_frozen_decoder_never_moves_while_the_rest_learns() -> None:
    learner = fitted(200, frozen="decoder")
    start = seeded_rows(F, D, 0)
    assert torch.equal(learner.parameters_["W_dec"], start)
    assert torch.equal(learner.dictionary().W_dec, start)
    assert (learner.parameters_["W_enc"] - start).abs().max() > 0.1
    assert learner.fvu(rows(1024, 99)) < 0.9 * fitted(1, frozen="decoder").fvu(rows(1024, 99))


def test_a_soft_frozen_decoder_stays_within_its_cone_at_every_step_and_uses_it() -> None:
    learner, start, least = fitted(frozen="soft_decoder"), seeded_rows(F, D, 0), []
    for i in range(150):
        learner.partial_fit(rows(256, i % 30))
        w = learner.parameters_["W_dec"]
        torch.testing.assert_close(w.norm(dim=1), torch.ones(F))
        least.append(float((w * start).sum(1).min()))
    assert min(least) > 0.8 - 1e-5
    assert least[-1] < 0.81  # rows reach the edge: without the cone they would leave it
    free = fitted(150).parameters_["W_dec"]
    assert (free * start).sum(1).min() < 0.7


@pytest.mark.parametrize("cls", [ReLU, JumpReLU])
def test_a_soft_frozen_decoder_stays_within_its_cone_where_norms_are_free(cls: type[Learner]) -> None:
    learner = cls(D, width=F, target_l0=4, lr=3e-2, unit_decoder=False, frozen="soft_decoder")
    learner.fit(rows(256, i) for i in range(30))
    cosine = (learner.parameters_["W_dec"] * seeded_rows(F, D, 0)).sum(1)
    assert 0.8 - 1e-5 < float(cosine.min()) < 0.9


@pytest.mark.parametrize(("width", "expected"), [(F, 4e-3), (4096, 4e-3), (16384, 2e-3)])
def test_the_own_learning_rate_falls_with_the_root_of_a_large_width(width: int, expected: float) -> None:
    learner = TopK(D, width=width, k=3)
    assert learner.learning_rate() == learner.options()["lr"] == pytest.approx(expected)
    assert TopK(D, width=width, k=3, lr=7e-3).learning_rate() == 7e-3


def test_the_freer_the_decoder_the_smaller_the_error() -> None:
    x = rows(2048, 99)
    free, soft, hard = (fitted(150, frozen=f).fvu(x) for f in ("", "soft_decoder", "decoder"))
    assert free < soft < hard


def test_within_cone_turns_only_what_is_outside() -> None:
    w = torch.nn.functional.normalize(torch.tensor([[0.9, 0.1], [0.1, 0.9], [-1.0, 0.2]]), dim=1)
    axis = torch.tensor([[1.0, 0.0]]).expand(3, 2)
    turned = within_cone(w, axis, 0.8)
    assert torch.equal(turned[0], w[0])
    torch.testing.assert_close(turned[1:], torch.tensor([[0.8, 0.6], [0.8, 0.6]]))


def test_targets_are_refused_where_none_are_wanted() -> None:
    with pytest.raises(UserError, match=r"rows only, partial_fit\(x\)"):
        fitted().partial_fit(rows(32, 0), rows(32, 1))
    with pytest.raises(UserError, match="expects rows of"):
        fitted().partial_fit(rows(32, 0)[:, :5])


def test_every_site_has_its_own_centre_and_scale() -> None:
    @dataclass(eq=False)
    class Probe(TopK):
        sites = "pair"

        def _widths(self) -> tuple[int, ...]:
            return (D, 2)

        def _parameters(self, x_nd: Tensor, centre_d: Tensor, rows_fd: Tensor) -> dict[str, Tensor]:
            self.seen = x_nd, centre_d
            return {"b_dec": centre_d}

    learner, x = Probe(D, width=F, k=2), rows(512, 0)
    y = 100 * torch.randn(512, 2, generator=torch.Generator().manual_seed(1)) - 900
    learner.start(x, y)
    scaled, centre = learner.seen
    for part in (slice(0, D), slice(D, D + 2)):
        assert (scaled[:, part] - centre[part]).square().sum(1).mean() == pytest.approx(1, rel=1e-4)
    assert learner.scale_out_ < 0.1 * learner.scale_
    again = Probe(D, width=F, k=2).load_state(learner.state())
    assert again.scales_ == learner.scales_
