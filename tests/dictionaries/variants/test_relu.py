"""ReLU with an L1 penalty: gradients against autograd, its shrinkage in numbers, annealing, steering, resume."""

import numpy as np
import pytest
import torch
from planted_atoms import ATOMS, D, mixtures

from theodolite.core.errors import UserError
from theodolite.dictionaries.ops import support
from theodolite.dictionaries.recovery import mcc
from theodolite.dictionaries.seeded import seeded_rows
from theodolite.dictionaries.variants.relu import ReLU

Weights = dict[str, torch.Tensor]


def random_weights(f: int, d: int) -> tuple[Weights, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    return {"W_enc": draw(f, d), "b_enc": draw(f) * 0.3, "W_dec": draw(f, d), "b_dec": draw(d)}, draw(40, d)


def reference(w: Weights, x: torch.Tensor, weight: float, p: float, unit: bool) -> torch.Tensor:
    z = ((x - w["b_dec"]) @ w["W_enc"].T + w["b_enc"]).relu()
    error = x - (z @ w["W_dec"] + w["b_dec"])
    scaled = z if unit else z * w["W_dec"].norm(dim=1)
    penalty = scaled[scaled > 0].pow(p).sum() / len(x)
    return error.square().sum() / (x - x.mean(0)).square().sum() + weight * penalty


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["dense", "sparse"])
@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("p", [1.0, 0.6])
def test_gradients_are_those_of_autograd(monkeypatch: pytest.MonkeyPatch, share: float, unit: bool, p: float) -> None:
    monkeypatch.setattr(support, "DENSE", share)
    w, x = random_weights(23, 7)
    fitted = ReLU(7, 23, coefficient=0.3, unit_decoder=unit, p_end=p, steps=10, anneal_updates=1, sparsity_warm_up=0)
    fitted._start_penalty()
    fitted.parameters_, fitted.step_ = w, 9
    done = fitted._step(x)
    tensors = {name: t.clone().requires_grad_() for name, t in w.items()}
    loss = reference(tensors, x, 0.3, p, unit)
    for name, expected in zip(w, torch.autograd.grad(loss, list(tensors.values())), strict=True):
        torch.testing.assert_close(done.gradients[name], expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(done.losses["fvu"] + 0.3 * done.losses["sparsity"], loss.detach())
    active = (x - w["b_dec"]) @ w["W_enc"].T + w["b_enc"] > 0
    assert torch.equal(done.fired, active.any(0))
    assert float(done.l0) == pytest.approx(float(active.sum() / len(x)))


def orthogonal(n: int = 1024, d: int = 8) -> torch.Tensor:
    """Each axis present in a fifth of the rows, with a strength in 1..2."""
    rng = np.random.default_rng(0)
    return torch.tensor((rng.random((n, d)) < 0.2) * rng.uniform(1, 2, (n, d)), dtype=torch.float32)


def test_l1_shrinks_every_strength_by_the_same_known_amount() -> None:
    """With loss |e|²/V + c/n sum z, the error on rows with the feature is c V / 2n, at every strength g.

    b_dec takes up its mean over all rows, so a latent is g - c V / (2 n (1 - p)), p the share of rows with the feature.
    """
    x = orthogonal()
    fitted = ReLU(8, 8, coefficient=0.2, lr=1e-2, steps=500)
    fitted.start(x)
    for name in ("W_enc", "W_dec"):
        fitted.parameters_[name].copy_(torch.eye(8))
    fitted.fit([x] * 500)
    variance = float((x - x.mean(0)).square().sum()) * fitted.scale_**2 / len(x)
    z = fitted.encode(x)
    for i in range(8):
        there = x[:, i] > 0
        slope, intercept = np.polyfit(x[there, i], z[there, i], 1)
        shrunk = 0.2 * variance / 2 / (1 - float(there.float().mean())) / fitted.scale_
        assert shrunk > 0.15
        assert slope == pytest.approx(1, abs=0.02)
        assert intercept == pytest.approx(-shrunk, rel=0.1)


def test_recovers_the_atoms_at_the_l0_it_was_given() -> None:
    fitted = ReLU(D, ATOMS, target_l0=3, lr=3e-2, steps=600)
    batches = [mixtures(512, seed)[0] for seed in range(60)]
    fitted.fit(batches[i % 60] for i in range(600))
    x, atoms = mixtures(4096, 99_999)
    dictionary = fitted.dictionary()
    assert mcc(dictionary.W_dec.numpy(), atoms) > 0.9
    assert mcc(seeded_rows(ATOMS, D, 1).numpy(), atoms) < 0.6
    assert float((dictionary.encode(x) > 0).sum(1).float().mean()) == pytest.approx(3, rel=0.05)
    torch.testing.assert_close(dictionary.W_dec.norm(dim=1), torch.ones(ATOMS))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("target", "width", "lr", "within"), [(3, ATOMS, 3e-2, 0.04), (5, ATOMS, 3e-2, 0.04), (8, 96, 3e-3, 0.05)]
)
def test_annealing_ends_at_the_l0_it_was_given(target: int, width: int, lr: float, within: float, seed: int) -> None:
    """The coefficient has to fall all the while p does; steered slowly, L0 ended 6, 10 to 13 and 22 % too low."""
    fitted = ReLU(D, width, target_l0=target, p_end=0.2, lr=lr, steps=600, seed=seed)
    batches = [mixtures(512, s)[0] for s in range(60)]
    fitted.fit(batches[i % 60] for i in range(600))
    l0 = (fitted.encode(mixtures(4096, 99_999)[0]) > 0).sum(1).float().mean()
    assert float(l0) == pytest.approx(target, rel=within)


def test_a_fall_of_p_keeps_the_penalty_where_it_was() -> None:
    """The coefficient is multiplied by mean sum z^old / mean sum z^new, over up to 10 batches since the last fall."""
    fitted = ReLU(D, 64, coefficient=0.1, p_end=0.6, anneal_updates=4, steps=40, lr=1e-2)
    seen = []
    for i in range(40):
        x = mixtures(256, i)[0]
        z = fitted.encode(x) * fitted.scale_ if i == 27 else torch.zeros(1, 1)
        losses = fitted.partial_fit(x)
        seen.append((float(losses["sparsity"]), float(losses["sparsity_next"]), float(fitted.buffers_["coefficient"])))
        if i == 27:
            assert seen[-1][:2] == pytest.approx([float(z[z > 0].pow(p).sum() / 256) for p in (0.8, 0.7)], rel=1e-4)
    old, new, coefficient = np.array(seen).T
    expected = [0.1]
    for first, last in ((10, 20), (20, 25), (25, 30), (30, 35)):
        expected.append(expected[-1] * old[first:last].mean() / new[first:last].mean())
    assert coefficient == pytest.approx(np.repeat(expected, [19, 5, 5, 5, 6]), rel=1e-5)
    assert abs(expected[1] / 0.1 - 1) > 0.01


def test_annealing_without_room_for_it_is_refused() -> None:
    with pytest.raises(UserError, match="steps=None"):
        ReLU(8, p_end=0.2)
    with pytest.raises(UserError, match="at least 10"):
        ReLU(8, p_end=0.2, steps=15)
    with pytest.raises(UserError, match="p_end=0"):
        ReLU(8, p_end=0, steps=100)


def test_a_free_decoder_gives_the_reconstruction_that_training_saw() -> None:
    x, _ = mixtures(512, 0)
    fitted = ReLU(D, 64, unit_decoder=False, lr=1e-2).fit([x] * 30)
    assert (fitted.parameters_["W_dec"].norm(dim=1) - 1).abs().max() > 0.02
    seen = float(ReLU(D, 64, unit_decoder=False).load_state(fitted.state()).partial_fit(x)["fvu"])
    assert fitted.dictionary().fvu(x) == pytest.approx(seen, rel=1e-5)


def test_the_control_keeps_its_seeded_encoder() -> None:
    control = ReLU(D, 64, seed=7, frozen="encoder", lr=1e-2).fit(mixtures(512, s)[0] for s in range(20))
    assert torch.equal(control.parameters_["W_enc"], seeded_rows(64, D, 7))
    assert not torch.equal(control.parameters_["W_dec"], seeded_rows(64, D, 7))
    assert control.parameters_["b_enc"].abs().max() > 0


@pytest.mark.parametrize("half", [15, 22])
@pytest.mark.parametrize("frozen", ["", "encoder"])
def test_going_on_from_a_state_is_bit_equal(frozen: str, half: int) -> None:
    settings = {"target_l0": 3, "p_end": 0.4, "anneal_updates": 3, "lr": 1e-2, "steps": 30, "frozen": frozen}
    whole = ReLU(D, 64, **settings).fit(mixtures(256, s)[0] for s in range(30))
    begun = ReLU(D, 64, **settings).fit(mixtures(256, s)[0] for s in range(half))
    stored = {name: t.clone() for name, t in begun.state().items()}
    resumed = ReLU(D, 64, **settings).load_state(stored).fit(mixtures(256, s)[0] for s in range(half, 30))
    assert whole.buffers_["coefficient"] != 0.03
    for name, expected in whole.state().items():
        assert torch.equal(resumed.state()[name].nan_to_num(-1), expected.nan_to_num(-1)), name


def test_nan_rows_stop_the_training_and_leave_it_as_it_was() -> None:
    x, _ = mixtures(64, 0)
    fitted = ReLU(D, 64, target_l0=3).fit([x, x])
    before = {name: t.clone() for name, t in fitted.state().items()}
    bad = x.clone()
    bad[3, 1] = torch.nan
    with pytest.raises(UserError, match="step 2: 1 of 64 rows"):
        fitted.partial_fit(bad)
    for name, tensor in fitted.state().items():
        assert torch.equal(tensor, before[name]), name
