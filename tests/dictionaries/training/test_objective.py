"""Loss and gradients of the TopK objective against autograd in float64, every output of the kernel included."""

import pytest
import torch

from theodolite.dictionaries.ops import sparse
from theodolite.dictionaries.training.auxiliary import AuxK
from theodolite.dictionaries.training.objective import step

N, D, F, K = 40, 7, 23, 3


Weights = dict[str, torch.Tensor]
NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")


def planted(seed: int = 0) -> tuple[Weights, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    return dict(zip(NAMES, (draw(F, D), draw(F) * 0.3, draw(F, D), draw(D)), strict=True)), draw(N, D)


def reference(w: Weights, x: torch.Tensor, dead: torch.Tensor, k_aux: int, alpha: float) -> torch.Tensor:
    """The published loss with dense tensors, for autograd."""
    pre = (x - w["b_dec"]) @ w["W_enc"].T + w["b_enc"]
    val, idx = pre.topk(K, dim=1)
    z = torch.zeros_like(pre).scatter(1, idx, val.relu())
    error = x - (z @ w["W_dec"] + w["b_dec"])
    loss = error.square().sum() / (x - x.mean(0)).square().sum()
    if dead.any():
        e = error.detach()
        masked = pre.masked_fill(~dead, -torch.inf)
        val, idx = masked.topk(min(k_aux, int(dead.sum())), dim=1)
        e_hat = torch.zeros_like(pre).scatter(1, idx, val.relu()) @ w["W_dec"]
        aux = (e - e_hat).square().sum() / (e - e.mean(0)).square().sum()
        loss = loss + alpha * min(int(dead.sum()) / k_aux, 1) * aux
    return loss


@pytest.mark.parametrize("n_dead", [0, 2, 9])
def test_gradients_are_those_of_autograd(n_dead: int) -> None:
    w, x = planted()
    dead = torch.arange(F) < n_dead
    done = step(w, x, K, dead, AuxK(4, 0.5), train_encoder=True)
    tensors = {name: t.clone().requires_grad_() for name, t in w.items()}
    loss = reference(tensors, x, dead, 4, 0.5)
    for name, expected in zip(w, torch.autograd.grad(loss, list(tensors.values())), strict=True):
        torch.testing.assert_close(done.gradients[name], expected, rtol=1e-9, atol=1e-12)
    total = done.losses["fvu"] + 0.5 * min(n_dead / 4, 1) * done.losses["aux"]
    torch.testing.assert_close(total, loss.detach(), rtol=1e-12, atol=0)


def test_auxk_does_not_see_the_decoder_bias_a_second_time() -> None:
    """Dead latents that output nothing leave the error itself: the loss is |e|²/|e - ē|², whatever b_dec is."""
    w, x = planted()
    w["b_enc"][:2] = -1e6
    done = step(w, x, K, torch.arange(F) < 2, AuxK(4, 1.0), train_encoder=True)
    pre = (x - w["b_dec"]) @ w["W_enc"].T + w["b_enc"]
    val, idx = pre.topk(K, dim=1)
    e = x - w["b_dec"] - torch.zeros_like(pre).scatter(1, idx, val.relu()) @ w["W_dec"]
    torch.testing.assert_close(done.losses["aux"], e.square().sum() / (e - e.mean(0)).square().sum())


def test_latents_that_did_not_fire_get_no_gradient() -> None:
    w, x = planted()
    done = step(w, x[:2], K, torch.zeros(F, dtype=torch.bool), AuxK(4, 1.0), train_encoder=True)
    assert 0 < int(done.fired.sum()) <= 2 * K
    assert not done.gradients["W_dec"][~done.fired].any()
    assert not done.gradients["W_enc"][~done.fired].any()
    assert done.gradients["W_dec"][done.fired].any(1).all()


def test_frozen_encoder_has_no_gradient_and_changes_no_other() -> None:
    w, x = planted()
    dead = torch.arange(F) < 3
    free, frozen = (step(w, x, K, dead, AuxK(4, 0.5), train_encoder=t).gradients for t in (True, False))
    assert "W_enc" not in frozen
    for name in ("b_enc", "W_dec", "b_dec"):
        assert torch.equal(free[name], frozen[name])


def test_sparse_products_equal_dense_ones() -> None:
    w, x = planted(1)
    idx, val = sparse.top_k((x - w["b_dec"]) @ w["W_enc"].T, K)
    z = torch.zeros(N, F, dtype=torch.float64).scatter(1, idx, val)
    torch.testing.assert_close(sparse.decode(idx, val, w["W_dec"]), z @ w["W_dec"])
    torch.testing.assert_close(sparse.row_dots(x, w["W_dec"], idx), (x @ w["W_dec"].T).gather(1, idx))
    torch.testing.assert_close(sparse.sum_by_latent(sparse.by_latent(idx, F), val, x), z.T @ x)
