"""Gated dictionaries: gradients against autograd with the auxiliary decoder held fixed, no shrinkage, resume."""

import numpy as np
import pytest
import torch
from planted_atoms import ATOMS, D, mixtures

from theodolite.core.errors import UserError
from theodolite.dictionaries.ops import support
from theodolite.dictionaries.recovery import mcc
from theodolite.dictionaries.seeded import seeded_rows
from theodolite.dictionaries.variants.gated import GatedSAE

NAMES = ("W_enc", "b_gate", "b_mag", "r_mag", "W_dec", "b_dec")
Weights = dict[str, torch.Tensor]


def random_weights(f: int, d: int) -> tuple[Weights, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    shapes = {"W_enc": (f, d), "b_gate": (f,), "b_mag": (f,), "r_mag": (f,), "W_dec": (f, d), "b_dec": (d,)}
    return {name: draw(*shapes[name]) * (1 if name[0] == "W" else 0.4) for name in NAMES}, draw(40, d)


def forward(w: Weights, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents and the gate's pre-activations, as in the paper's equations 3 to 7."""
    projected = (x - w["b_dec"]) @ w["W_enc"].T
    gate = projected + w["b_gate"]
    return (gate > 0) * (projected * w["r_mag"].exp() + w["b_mag"]).relu(), gate


def reference(w: Weights, x: torch.Tensor, weight: float) -> torch.Tensor:
    z, gate = forward(w, x)
    variance = (x - x.mean(0)).square().sum()
    error = x - z @ w["W_dec"] - w["b_dec"]
    missed = x - gate.relu() @ w["W_dec"].detach() - w["b_dec"].detach()
    return (error.square().sum() + missed.square().sum()) / variance + weight * gate.relu().sum(1).mean()


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["dense", "sparse"])
def test_gradients_are_those_of_autograd(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setattr(support, "DENSE", share)
    w, x = random_weights(23, 7)
    fitted = GatedSAE(7, 23, coefficient=0.3)
    fitted._start_penalty()
    fitted.parameters_ = w
    done = fitted._step(x)
    tensors = {name: t.clone().requires_grad_() for name, t in w.items()}
    loss = reference(tensors, x, 0.3)
    assert set(done.gradients) == set(NAMES)
    for name, expected in zip(w, torch.autograd.grad(loss, list(tensors.values())), strict=True):
        torch.testing.assert_close(done.gradients[name], expected, rtol=1e-9, atol=1e-12)
    losses = done.losses
    torch.testing.assert_close(losses["fvu"] + losses["gate_fvu"] + 0.3 * losses["sparsity"], loss.detach())
    z, gate = forward(w, x)
    assert ((gate > 0) & (z == 0)).any()  # gates that are open where the magnitude is cut count as silent
    assert torch.equal(done.fired, (z > 0).any(0))
    assert float(done.l0) == pytest.approx(float((z > 0).sum() / len(x)))


def test_the_dictionary_has_the_latents_of_the_two_paths() -> None:
    w, x = random_weights(23, 7)
    fitted = GatedSAE(7, 23)
    fitted.parameters_ = w
    torch.testing.assert_close(fitted._dictionary().encode(x), forward(w, x)[0])


def test_folding_the_input_scale_changes_nothing() -> None:
    x, _ = mixtures(512, 0)
    fitted = GatedSAE(D, 64, lr=1e-2).fit([x] * 30)
    assert fitted.scale_ != pytest.approx(1, abs=0.1)
    seen = float(GatedSAE(D, 64).load_state(fitted.state()).partial_fit(x)["fvu"])
    assert fitted.dictionary().fvu(x) == pytest.approx(seen, rel=1e-5)


def test_the_penalty_shrinks_the_gate_but_no_latent() -> None:
    """Axes present in a fifth of the rows with a strength in 1..2; an L1 latent would be .2 or more too small."""
    rng = np.random.default_rng(0)
    x = torch.tensor((rng.random((1024, 8)) < 0.2) * rng.uniform(1, 2, (1024, 8)), dtype=torch.float32)
    fitted = GatedSAE(8, 8, coefficient=0.2, lr=1e-2, steps=500)
    fitted.start(x)
    for name in ("W_enc", "W_dec"):
        fitted.parameters_[name].copy_(torch.eye(8))
    fitted.fit([x] * 500)
    z, gate = fitted.encode(x), fitted.dictionary().pre_activations(x)
    for i in range(8):
        there = x[:, i] > 0
        assert z[there, i].numpy() == pytest.approx(x[there, i].numpy(), abs=0.02)
        assert float((x[there, i] - gate[there, i]).mean()) > 0.15


def test_recovers_the_atoms_at_the_l0_it_was_given() -> None:
    fitted = GatedSAE(D, ATOMS, target_l0=3, lr=3e-2, steps=600)
    batches = [mixtures(512, seed)[0] for seed in range(60)]
    fitted.fit(batches[i % 60] for i in range(600))
    x, atoms = mixtures(4096, 99_999)
    dictionary = fitted.dictionary()
    assert mcc(dictionary.W_dec.numpy(), atoms) > 0.9
    assert float((dictionary.encode(x) > 0).sum(1).float().mean()) == pytest.approx(3, rel=0.05)
    assert dictionary.fvu(x) < 0.15


def test_the_control_keeps_its_seeded_encoder() -> None:
    control = GatedSAE(D, 64, seed=7, frozen="encoder", lr=1e-2).fit(mixtures(512, s)[0] for s in range(20))
    assert torch.equal(control.parameters_["W_enc"], seeded_rows(64, D, 7))
    assert not torch.equal(control.parameters_["W_dec"], seeded_rows(64, D, 7))
    assert all(control.parameters_[name].abs().max() > 0 for name in ("b_gate", "b_mag", "r_mag"))


@pytest.mark.parametrize("frozen", ["", "encoder"])
def test_going_on_from_a_state_is_bit_equal(frozen: str) -> None:
    settings = {"target_l0": 3, "lr": 1e-2, "steps": 30, "frozen": frozen}
    whole = GatedSAE(D, 64, **settings).fit(mixtures(256, s)[0] for s in range(30))
    begun = GatedSAE(D, 64, **settings).fit(mixtures(256, s)[0] for s in range(15))
    stored = {name: t.clone() for name, t in begun.state().items()}
    resumed = GatedSAE(D, 64, **settings).load_state(stored).fit(mixtures(256, s)[0] for s in range(15, 30))
    assert whole.buffers_["coefficient"] != 0.03
    for name, expected in whole.state().items():
        assert torch.equal(resumed.state()[name], expected), name


def test_nan_rows_stop_the_training_and_leave_it_as_it_was() -> None:
    x, _ = mixtures(64, 0)
    fitted = GatedSAE(D, 64, target_l0=3).fit([x, x])
    before = {name: t.clone() for name, t in fitted.state().items()}
    bad = x.clone()
    bad[3, 1] = torch.nan
    with pytest.raises(UserError, match="step 2: 1 of 64 rows"):
        fitted.partial_fit(bad)
    for name, tensor in fitted.state().items():
        assert torch.equal(tensor, before[name]), name
