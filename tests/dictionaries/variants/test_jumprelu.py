"""JumpReLU: straight-through estimators against the paper's formulas, three penalties, no shrinkage, resume."""

from typing import Any

import numpy as np
import pytest
import torch
from planted_atoms import ATOMS, D, mixtures

from theodolite.core.errors import UserError
from theodolite.dictionaries.ops import support
from theodolite.dictionaries.recovery import mcc
from theodolite.dictionaries.seeded import seeded_rows
from theodolite.dictionaries.variants.jumprelu import JumpReLU

WIDTH = 0.5
REVIVED = {"pre_act": 1.0, "dead_after": 5000}  # the quadratic penalty kills 4 of 48 at once: .89 to .93 without
NAMES = ("W_enc", "b_enc", "threshold", "W_dec", "b_dec")
Weights = dict[str, torch.Tensor]


def kernel(u: torch.Tensor) -> torch.Tensor:
    return ((u > -0.5) & (u < 0.5)).to(u)


class Step(torch.autograd.Function):
    """H(pre - θ), whose derivative by θ is taken to be -K((pre - θ) / ε) / ε (2407.14435, equation 11)."""

    @staticmethod
    def forward(ctx: Any, pre: torch.Tensor, theta: torch.Tensor, to_input: bool) -> torch.Tensor:
        ctx.save_for_backward(pre, theta)
        ctx.to_input = to_input
        return (pre > theta).to(pre)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor, None]:
        pre, theta = ctx.saved_tensors
        estimate = kernel((pre - theta) / WIDTH) / WIDTH * g
        return (estimate if ctx.to_input else torch.zeros_like(pre)), -estimate.sum(0), None


class Jump(torch.autograd.Function):
    """pre H(pre - θ), whose derivative by θ is taken to be -θ K((pre - θ) / ε) / ε (equation 12)."""

    @staticmethod
    def forward(ctx: Any, pre: torch.Tensor, theta: torch.Tensor, to_input: bool) -> torch.Tensor:
        ctx.save_for_backward(pre, theta)
        ctx.to_input = to_input
        return pre * (pre > theta)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        pre, theta = ctx.saved_tensors
        estimate = theta * kernel((pre - theta) / WIDTH) / WIDTH * g
        return (pre > theta) * g + (estimate if ctx.to_input else 0), -estimate.sum(0), None


def random_weights(f: int, d: int) -> tuple[Weights, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    tensors = (draw(f, d), draw(f) * 0.3, draw(f).abs() + 0.1, draw(f, d), draw(d))
    return dict(zip(NAMES, tensors, strict=True)), draw(40, d)


def reference(w: Weights, x: torch.Tensor, fitted: JumpReLU, dead: torch.Tensor) -> torch.Tensor:
    """The published loss with dense tensors, for autograd."""
    to_input = fitted.penalty == "tanh" if fitted.ste_to_input is None else fitted.ste_to_input
    pre = (x - w["b_dec"]) @ w["W_enc"].T + w["b_enc"]
    z = Jump.apply(pre, w["threshold"], to_input)
    norm = torch.ones(len(w["W_dec"])) if fitted.unit_decoder else w["W_dec"].norm(dim=1)
    l0 = Step.apply(pre, w["threshold"], to_input).sum(1).mean()
    penalty = {
        "step": l0,
        "target": (l0 / fitted.target_l0 - 1) ** 2,
        "tanh": (fitted.tanh_scale * z * norm).tanh().sum(1).mean(),
    }[fitted.penalty]
    error = x - (z @ w["W_dec"] + w["b_dec"])
    loss = error.square().sum() / (x - x.mean(0)).square().sum() + fitted.coefficient * penalty
    return loss + fitted.pre_act * (((w["threshold"] - pre).relu() * norm)[:, dead]).sum(1).mean()


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["dense", "sparse"])
@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("to_input", [None, True, False])
@pytest.mark.parametrize("penalty", ["step", "tanh", "target"])
def test_gradients_are_those_of_the_papers_estimators(
    monkeypatch: pytest.MonkeyPatch, penalty: str, to_input: bool | None, unit: bool, share: float
) -> None:
    monkeypatch.setattr(support, "DENSE", share)
    w, x = random_weights(23, 7)
    settings = {"penalty": penalty, "ste_to_input": to_input, "unit_decoder": unit, "bandwidth": WIDTH}
    fitted = JumpReLU(7, 23, coefficient=0.3, target_l0=3, tanh_scale=0.7, pre_act=0.1, dead_after=5, **settings)
    fitted._start_penalty()
    fitted.parameters_, fitted.unused_for_ = w, torch.arange(23) % 8  # latents 5, 6, 7, 13, ... are dead
    done = fitted._step(x)
    tensors = {name: t.clone().requires_grad_() for name, t in w.items()}
    loss = reference(tensors, x, fitted, fitted.dead_)
    for name, expected in zip(w, torch.autograd.grad(loss, list(tensors.values())), strict=True):
        torch.testing.assert_close(done.gradients[name], expected, rtol=1e-9, atol=1e-12)
    losses = done.losses
    torch.testing.assert_close(losses["fvu"] + 0.3 * losses["sparsity"] + 0.1 * losses["pre_act"], loss.detach())
    active = (x - w["b_dec"]) @ w["W_enc"].T + w["b_enc"] > w["threshold"]
    assert torch.equal(done.fired, active.any(0))
    assert float(done.l0) == pytest.approx(float(active.sum() / len(x)))


def test_the_step_looks_at_the_pre_activation_just_below_the_threshold() -> None:
    """One latent e_1 in two dimensions, θ = 1, ε = .1, penalty L0 with weight 3; rows (±.98, ±1).

    The latent is off in all four rows; in two of them it lies .02 below θ, so L0's part of θ's gradient is
    -(3 / 4) (1 / .1) 2 = -15. x̂ = 0 and the variance is 4 (.98² + 1), so those rows have g_z = -2 (.98) / 7.8416, and
    θ gets -(1 / .1) 2 g_z = 4.99898 from the error.
    """
    fitted = JumpReLU(2, 1, penalty="step", coefficient=3.0, target_l0=None, bandwidth=0.1)
    fitted._start_penalty()
    axis = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    fitted.parameters_ = dict(zip(NAMES, (axis, zero, one, axis, torch.zeros(2, dtype=torch.float64)), strict=True))
    x = torch.tensor([[0.98, 1], [0.98, -1], [-0.98, 1], [-0.98, -1]], dtype=torch.float64)
    done = fitted._step(x)
    assert float(done.l0) == 0
    assert float(done.gradients["threshold"]) == pytest.approx(-15 + 20 * 2 * 0.98 / (4 * (0.98**2 + 1)))
    assert not done.gradients["W_enc"].any()


def test_none_stands_for_the_published_numbers_on_scaled_rows() -> None:
    assert JumpReLU(64)._settings == (1.0, 1e-3, 1e-3, 0.0, False)
    assert JumpReLU(64, penalty="step", bandwidth=0.5)._settings == (1e-3, 0.5, 1e-3, 0.0, False)
    assert JumpReLU(64, penalty="tanh", ste_to_input=False)._settings == (1e-3, 2 / 8, 0.1 / 8, 4 * 8, False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"penalty": "l1"}, "penalty"),
        ({"target_l0": None}, "give target_l0"),
        ({"bandwidth": 0.0}, "bandwidth=0.0"),
        ({"threshold": -1.0}, "threshold=-1.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        JumpReLU(8, 64, **settings)


def test_no_latent_is_shrunk() -> None:
    """Axes present in a fifth of the rows with a strength in 1..2."""
    rng = np.random.default_rng(0)
    x = torch.tensor((rng.random((1024, 8)) < 0.2) * rng.uniform(1, 2, (1024, 8)), dtype=torch.float32)
    fitted = JumpReLU(8, 8, penalty="step", coefficient=0.03, target_l0=None, bandwidth=0.05, lr=1e-2, steps=500)
    fitted.start(x)
    for name in ("W_enc", "W_dec"):
        fitted.parameters_[name].copy_(torch.eye(8))
    fitted.fit([x] * 500)
    z = fitted.encode(x)
    assert z[x > 0].numpy() == pytest.approx(x[x > 0].numpy(), abs=0.02)
    assert not z[x == 0].any()
    assert fitted.parameters_["threshold"].min() > 0.01


@pytest.mark.parametrize(
    ("penalty", "settings"),
    [
        ("step", {"bandwidth": 0.03}),
        ("target", {"bandwidth": 0.03, "coefficient": 3.0, "sparsity_warm_up": 0.5} | REVIVED),
        ("tanh", {"tanh_scale": 4.0, "coefficient": 0.01}),
    ],
)
def test_recovers_the_atoms_at_the_l0_it_was_given(penalty: str, settings: dict) -> None:
    fitted = JumpReLU(D, ATOMS, penalty=penalty, target_l0=3, lr=3e-2, steps=600, **settings)
    batches = [mixtures(512, seed)[0] for seed in range(60)]
    fitted.fit(batches[i % 60] for i in range(600))
    x, atoms = mixtures(4096, 99_999)
    dictionary = fitted.dictionary()
    assert mcc(dictionary.W_dec.numpy(), atoms) > 0.9
    assert float((dictionary.encode(x) > 0).sum(1).float().mean()) == pytest.approx(3, rel=0.05)
    assert dictionary.fvu(x) < 0.2
    assert fitted.parameters_["threshold"].min() >= 0
    assert fitted.parameters_["threshold"].dtype == torch.float32


def test_the_pre_activation_loss_brings_dead_latents_back() -> None:
    dead = {}
    batches = [mixtures(256, seed)[0] for seed in range(20)]
    for weight in (0.0, 0.1):
        fitted = JumpReLU(D, 64, penalty="tanh", target_l0=3, lr=1e-2, pre_act=weight, dead_after=1024)
        fitted.start(batches[0])
        fitted.parameters_["b_enc"][:32] = -2  # half of the latents never fire
        dead[weight] = [int(fitted.partial_fit(batches[i % 20])["dead"]) for i in range(200)][-1]
    assert dead[0.0] >= 32
    assert dead[0.1] <= 20


def test_folding_the_input_scale_changes_nothing() -> None:
    x, _ = mixtures(512, 0)
    fitted = JumpReLU(D, 64, target_l0=3, unit_decoder=False, lr=1e-2).fit([x] * 30)
    assert fitted.scale_ != pytest.approx(1, abs=0.1)
    seen = JumpReLU(D, 64, target_l0=3, unit_decoder=False).load_state(fitted.state()).partial_fit(x)
    assert fitted.dictionary().fvu(x) == pytest.approx(float(seen["fvu"]), rel=1e-5)
    assert float((fitted.encode(x) > 0).sum() / len(x)) == pytest.approx(float(seen["l0"]), rel=1e-3)


def test_the_control_keeps_its_seeded_encoder() -> None:
    control = JumpReLU(D, 64, target_l0=3, seed=7, frozen="encoder", lr=1e-2)
    control.fit(mixtures(512, s)[0] for s in range(20))
    assert torch.equal(control.parameters_["W_enc"], seeded_rows(64, D, 7))
    assert not torch.equal(control.parameters_["W_dec"], seeded_rows(64, D, 7))
    assert control.parameters_["threshold"].max() > 0.01


@pytest.mark.parametrize("penalty", ["step", "tanh", "target"])
@pytest.mark.parametrize("frozen", ["", "encoder"])
def test_going_on_from_a_state_is_bit_equal(frozen: str, penalty: str) -> None:
    settings = {"penalty": penalty, "target_l0": 3, "lr": 1e-2, "steps": 30, "frozen": frozen}
    settings |= {"pre_act": 0.1, "dead_after": 1024, "bandwidth": 0.05}
    whole = JumpReLU(D, 64, **settings).fit(mixtures(256, s)[0] for s in range(30))
    begun = JumpReLU(D, 64, **settings).fit(mixtures(256, s)[0] for s in range(15))
    stored = {name: t.clone() for name, t in begun.state().items()}
    resumed = JumpReLU(D, 64, **settings).load_state(stored).fit(mixtures(256, s)[0] for s in range(15, 30))
    for name, expected in whole.state().items():
        assert torch.equal(resumed.state()[name], expected), name
    assert (whole.buffers_["coefficient"] != whole._settings.coefficient) == (penalty != "target")


def test_nan_rows_stop_the_training_and_leave_it_as_it_was() -> None:
    x, _ = mixtures(64, 0)
    fitted = JumpReLU(D, 64, penalty="step", target_l0=3).fit([x, x])
    before = {name: t.clone() for name, t in fitted.state().items()}
    bad = x.clone()
    bad[3, 1] = torch.nan
    with pytest.raises(UserError, match="step 2: 1 of 64 rows"):
        fitted.partial_fit(bad)
    for name, tensor in fitted.state().items():
        assert torch.equal(tensor, before[name]), name
