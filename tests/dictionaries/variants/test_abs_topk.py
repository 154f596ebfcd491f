"""AbsTopK: signed latents, one for a direction and its opposite."""

import numpy as np
import pytest
import torch
from planted_atoms import unit_rows

from theodolite.dictionaries.activations import AbsTopKRule
from theodolite.dictionaries.recovery import mcc
from theodolite.dictionaries.variants.abs_topk import AbsTopK
from theodolite.dictionaries.variants.topk import TopK

D, F, K, N = 7, 23, 3, 40


def test_the_rule_keeps_signs() -> None:
    pre = torch.tensor([[1.0, -5.0, 3.0, 0.0]])
    assert AbsTopKRule(2)(pre, torch.empty(0)).tolist() == [[0.0, -5.0, 3.0, 0.0]]


@pytest.mark.parametrize("n_dead", [1, 9])
def test_gradients_are_those_of_autograd(n_dead: int) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(N, D, generator=g, dtype=torch.float64)
    fitted = AbsTopK(D, F, k=K)
    fitted.start(x)
    fitted.parameters_ = {
        name: t.double() + 0.3 * torch.randn(t.shape, generator=g, dtype=torch.float64)
        for name, t in fitted.parameters_.items()
    }
    fitted.unused_for_[:n_dead] = fitted.dead_after
    done = fitted._step(x)
    w = {name: t.clone().requires_grad_() for name, t in fitted.parameters_.items()}
    pre = (x - w["b_dec"]) @ w["W_enc"].T + w["b_enc"]

    def largest(p: torch.Tensor, k: int) -> torch.Tensor:
        idx = p.abs().topk(k, dim=1).indices
        return torch.zeros_like(p).scatter(1, idx, p.gather(1, idx))

    error = x - largest(pre, K) @ w["W_dec"] - w["b_dec"]
    loss = error.square().sum() / (x - x.mean(0)).square().sum()
    e, k_aux = error.detach(), D // 2
    e_hat = largest(pre[:, :n_dead], min(k_aux, n_dead)) @ w["W_dec"][:n_dead]
    aux = (e - e_hat).square().sum() / (e - e.mean(0)).square().sum()
    loss = loss + fitted.aux * min(n_dead / k_aux, 1) * aux
    for name, expected in zip(w, torch.autograd.grad(loss, list(w.values())), strict=True):
        torch.testing.assert_close(done.gradients[name], expected, rtol=1e-9, atol=1e-12)


def signed_mixtures(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of 2 of 16 unit atoms in 24 dimensions with weights of either sign."""
    atoms = unit_rows(16, 24)
    rng = np.random.default_rng(seed)
    z = np.zeros((n, 16))
    chosen = rng.random((n, 16)).argsort(axis=1)[:, :2]
    np.put_along_axis(z, chosen, rng.uniform(1, 2, (n, 2)) * rng.choice([-1, 1], (n, 2)), axis=1)
    return torch.tensor(z @ atoms, dtype=torch.float32), torch.tensor(atoms, dtype=torch.float32)


def test_signed_data_need_one_latent_where_topk_needs_two() -> None:
    x, atoms = signed_mixtures(4096, 999)
    fvu = {}
    for cls in (AbsTopK, TopK):
        fitted = cls(24, 16, k=2, lr=1e-2, steps=400).fit(signed_mixtures(512, s % 60)[0] for s in range(400))
        fvu[cls] = fitted.fvu(x)
        if cls is AbsTopK:
            assert mcc(fitted.dictionary().W_dec.numpy(), atoms.numpy()) > 0.9
    assert fvu[AbsTopK] < 0.1
    assert fvu[TopK] > 2.5 * fvu[AbsTopK]
