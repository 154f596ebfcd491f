"""The TopK loss and its gradients, written out so that they touch only active latents.

    z = TopK(W_enc (x - b_dec) + b_enc),  x̂ = z W_dec + b_dec
    L = |x - x̂|² / |x - x̄|²  +  alpha min(|D| / k_aux, 1) |e - ê|² / |e - ē|²,    e = x - x̂ held fixed

The second term is AuxK of Gao et al. (2406.04093, A.2): ê = TopK_{k_aux}(the dead latents D) W_dec, *without* b_dec,
because e has none (two libraries counted it twice). Sums run over the rows of a batch, x̄ and ē are its means.
Equality with autograd is a test.
"""

import torch
from torch import Tensor

from theodolite.dictionaries import sparse
from theodolite.dictionaries.learner import Step


def step(
    w: dict[str, Tensor], x_nd: Tensor, k: int, dead: Tensor, *, k_aux: int, alpha: float, train_encoder: bool
) -> Step:
    """Loss and gradients of one batch by the parameters W_enc, b_enc, W_dec, b_dec; `dead` is a mask over latents."""
    W_enc, W_dec, b_dec = w["W_enc"], w["W_dec"], w["b_dec"]
    centred = x_nd - b_dec
    pre = torch.addmm(w["b_enc"], centred, W_enc.T)
    idx, val = sparse.top_k(pre, k)
    error = x_nd - b_dec - sparse.decode(idx, val, W_dec)
    variance = (x_nd - x_nd.mean(0)).square().sum()
    fired = torch.zeros(len(W_dec), dtype=torch.bool, device=x_nd.device)
    fired[idx[val > 0]] = True

    g_hat = error * (-2 / variance)  # gradient with respect to x̂
    g_pre = sparse.row_dots(g_hat, W_dec, idx) * (val > 0)
    slots = sparse.by_latent(idx, len(W_dec))
    g = {
        "b_enc": sparse.sum_by_latent(slots, g_pre, torch.ones_like(centred[:, :1])).squeeze(1),
        "W_dec": sparse.sum_by_latent(slots, val, g_hat),
        "b_dec": g_hat.sum(0),
    }
    if train_encoder:
        g["W_enc"] = sparse.sum_by_latent(slots, g_pre, centred)
    aux = _add_auxiliary(g, W_dec, pre, centred, error, dead.nonzero().squeeze(1), k_aux, alpha)
    g["b_dec"] -= g["b_enc"] @ W_enc  # through x - b_dec: summing g_pre over rows first costs f products, not n k
    losses = {"fvu": error.square().sum() / variance, "aux": aux}
    return Step(losses, g, fired, (val > 0).sum() / len(x_nd))


def _add_auxiliary(
    g: dict[str, Tensor], W_dec: Tensor, pre_nf: Tensor, centred: Tensor, error: Tensor, dead: Tensor, k_aux: int,
    alpha: float,
) -> Tensor:  # fmt: skip
    """Add AuxK's gradients to `g`; returns the unweighted auxiliary loss."""
    if not len(dead):
        return error.new_zeros(())
    val, idx = pre_nf[:, dead].topk(min(k_aux, len(dead)), dim=1, sorted=False)
    z_nD = torch.zeros_like(pre_nf[:, dead]).scatter(1, idx, val.relu())
    W_Dd = W_dec[dead]
    variance = (error - error.mean(0)).square().sum()
    missed = error - z_nD @ W_Dd
    g_hat = missed * (-2 * alpha * min(len(dead) / k_aux, 1.0) / variance)
    g_z = (g_hat @ W_Dd.T) * (z_nD > 0)
    g["W_dec"][dead] += z_nD.T @ g_hat
    g["b_enc"][dead] += g_z.sum(0)
    if "W_enc" in g:
        g["W_enc"][dead] += g_z.T @ centred
    return missed.square().sum() / variance
