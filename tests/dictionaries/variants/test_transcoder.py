"""What a transcoder must do: predict another site from planted latents, find an affine path, keep two spaces apart."""

import numpy as np
import pytest
import torch
from planted_atoms import strengths, unit_rows

from theodolite.core.errors import UserError
from theodolite.dictionaries.recovery import mcc
from theodolite.dictionaries.seeded import seeded_rows
from theodolite.dictionaries.training.auxiliary import AuxK
from theodolite.dictionaries.variants import transcoder
from theodolite.dictionaries.variants.transcoder import Transcoder

D_IN, D_OUT, ATOMS = 32, 24, 36
N, F, K = 40, 23, 3


READ, WRITTEN = unit_rows(ATOMS, D_IN, 0), unit_rows(ATOMS, D_OUT, 1)
AFFINE = np.random.default_rng(2).standard_normal((D_OUT, D_IN)) / D_IN**0.5


def pairs(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x sums 3 of 36 atoms around a large mean, y the 3 atoms written for them, ten times as long."""
    z = strengths(n, ATOMS, seed)
    return torch.tensor(z @ READ + 5, dtype=torch.float32), torch.tensor(10 * z @ WRITTEN - 7, dtype=torch.float32)


def affine_pairs(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """y = 10 A x + what 12 units write, each active for the 7 % of x with the largest component along its direction."""
    x = np.random.default_rng(seed).standard_normal((n, D_IN))
    y = 10 * x @ AFFINE.T + 15 * np.maximum(x @ READ[:12].T - 1.5, 0) @ WRITTEN[:12]
    return torch.tensor(x + 5, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)


def weights(skip: bool) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    w = {"W_enc": draw(F, 7), "b_enc": draw(F) * 0.3, "W_dec": draw(F, 5), "b_dec": draw(5)}
    return w | ({"W_skip": draw(5, 7)} if skip else {})


def reference(
    w: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor, dead: torch.Tensor, k_aux: int
) -> torch.Tensor:
    """The loss with dense tensors, for autograd; AuxK weighs .5."""
    pre = x @ w["W_enc"].T + w["b_enc"]
    val, idx = pre.topk(K, dim=1)
    z = torch.zeros_like(pre).scatter(1, idx, val.relu())
    y_hat = z @ w["W_dec"] + w["b_dec"] + (x @ w["W_skip"].T if "W_skip" in w else 0)
    loss = (y - y_hat).square().sum() / (y - y.mean(0)).square().sum()
    if len(dead):
        e = (y - y_hat).detach()
        val, at = pre[:, dead].topk(min(k_aux, len(dead)), dim=1)
        e_hat = torch.zeros_like(pre[:, dead]).scatter(1, at, val.relu()) @ w["W_dec"][dead]
        aux = (e - e_hat).square().sum() / (e - e.mean(0)).square().sum()
        loss = loss + 0.5 * min(len(dead) / k_aux, 1) * aux
    return loss


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("n_dead", [0, 2, 9])
def test_gradients_are_those_of_autograd(skip: bool, n_dead: int) -> None:
    w, dead = weights(skip), torch.arange(n_dead)
    g = torch.Generator().manual_seed(1)
    x, y = (torch.randn(N, d, generator=g, dtype=torch.float64) for d in (7, 5))
    done = transcoder._step(w, x, y, K, dead, AuxK(4, 0.5), True)
    tensors = {name: t.clone().requires_grad_() for name, t in w.items()}
    loss = reference(tensors, x, y, dead, 4)
    for name, expected in zip(w, torch.autograd.grad(loss, list(tensors.values())), strict=True):
        torch.testing.assert_close(done.gradients[name], expected, rtol=1e-9, atol=1e-12)
    total = done.losses["fvu"] + 0.5 * min(n_dead / 4, 1) * done.losses["aux"]
    torch.testing.assert_close(total, loss.detach(), rtol=1e-12, atol=0)
    assert "W_enc" not in transcoder._step(w, x, y, K, dead, AuxK(4, 0.5), False).gradients


def test_recovers_a_planted_transcoder() -> None:
    fitted = Transcoder(D_IN, width=72, d_out=D_OUT, k=3, lr=3e-3, steps=1000, dead_after=5_000)
    batches = [pairs(512, seed) for seed in range(60)]
    fitted.fit(batches[i % 60] for i in range(1000))
    x, y = pairs(4096, 99_999)
    assert fitted.fvu(x, y) < 0.2
    assert mcc(fitted.dictionary().W_dec.numpy(), WRITTEN) > 0.9
    assert mcc(unit_rows(72, D_OUT, 5), WRITTEN) < 0.65


def test_a_skip_transcoder_finds_the_affine_path() -> None:
    """Latents alone cannot give what is dense in y; W_skip does, and finds 10 A."""
    x, y = affine_pairs(4096, 99_999)
    batches, fvu = [affine_pairs(256, i) for i in range(60)], {}
    for skip in (False, True):
        fitted = Transcoder(D_IN, width=48, d_out=D_OUT, k=4, lr=1e-2, steps=300, skip=skip, dead_after=5_000)
        fvu[skip] = fitted.fit(batches[i % 60] for i in range(300)).fvu(x, y)
    W_skip = fitted.dictionary().W_skip
    assert W_skip is not None
    assert np.linalg.norm(W_skip.numpy() - 10 * AFFINE) < 0.3 * np.linalg.norm(10 * AFFINE)
    assert fvu[True] < 0.3 * fvu[False]


def test_starts_at_the_centre_of_the_targets_with_centred_pre_activations() -> None:
    x, y = pairs(512, 0)
    fitted = Transcoder(D_IN, width=64, d_out=D_OUT, k=3, skip=True)
    fitted.start(x, y)
    w = fitted.parameters_
    assert not w["W_dec"].any()
    assert not w["W_skip"].any()
    y_hat = fitted.dictionary().reconstruct(x)
    assert torch.equal(y_hat, y_hat[:1].expand_as(y_hat))
    assert (y_hat[0] - y.mean(0)).abs().max() < 1
    pre = fitted.dictionary().pre_activations(x)
    assert pre.mean(0).abs().max() < 0.3 * pre.std()


def test_folding_both_scales_changes_nothing() -> None:
    x, y = pairs(512, 0)
    for skip in (False, True):
        fitted = Transcoder(D_IN, width=64, d_out=D_OUT, k=3, lr=1e-2, skip=skip).fit([(x, y)] * 5)
        assert fitted.scale_ != pytest.approx(fitted.scale_out_, rel=2)
        again = Transcoder(D_IN, width=64, d_out=D_OUT, k=3, lr=1e-2, skip=skip).load_state(fitted.state())
        seen = float(again.partial_fit(x, y)["fvu"])
        assert fitted.fvu(x, y) == pytest.approx(seen, rel=1e-4)


@pytest.mark.parametrize("frozen", ["", "encoder", "decoder", "soft_decoder"])
@pytest.mark.parametrize("skip", [False, True])
def test_going_on_from_a_state_is_bit_equal(frozen: str, skip: bool) -> None:
    how = {"width": 64, "d_out": D_OUT, "k": 3, "lr": 1e-2, "steps": 20, "dead_after": 2000}
    how |= {"frozen": frozen, "skip": skip}
    whole = Transcoder(D_IN, **how).fit(pairs(256, s) for s in range(20))
    half = Transcoder(D_IN, **how).fit(pairs(256, s) for s in range(10))
    resumed = Transcoder(D_IN, **how).load_state({name: t.clone() for name, t in half.state().items()})
    resumed.fit(pairs(256, s) for s in range(10, 20))
    for name, expected in whole.state().items():
        assert torch.equal(resumed.state()[name], expected), name
    W_dec = whole.dictionary().W_dec
    start = whole._seeded("W_dec")
    cosine = torch.nn.functional.cosine_similarity(W_dec, start)
    if frozen == "decoder":
        torch.testing.assert_close(torch.nn.functional.normalize(W_dec, dim=1), start)
    if frozen == "soft_decoder":
        assert 0.8 - 1e-6 < cosine.min() < 0.99
    assert torch.equal(whole.parameters_["W_enc"], seeded_rows(64, D_IN, 0)) == (frozen == "encoder")


def test_rows_without_targets_and_targets_for_others_are_refused() -> None:
    x, y = pairs(64, 0)
    with pytest.raises(UserError, match=r"partial_fit\(x, y\)"):
        Transcoder(D_IN, width=64, d_out=D_OUT, k=3).partial_fit(x)
    with pytest.raises(UserError, match="not 56"):
        Transcoder(D_IN, width=64, k=3).partial_fit(x, y)
    with pytest.raises(UserError, match="k=65"):
        Transcoder(D_IN, width=64, k=65)
    bad = y.clone()
    bad[3, 1] = torch.nan
    with pytest.raises(UserError, match="1 of 64 rows"):
        Transcoder(D_IN, width=64, d_out=D_OUT, k=3).partial_fit(x, bad)
