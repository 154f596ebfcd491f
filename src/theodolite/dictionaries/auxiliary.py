"""AuxK (2406.04093, A.2) for variants with an objective of their own: dead latents predict what the others missed."""

import torch
from torch import Tensor


def add_auxiliary(
    g: dict[str, Tensor], W_dec: Tensor, pre_nf: Tensor, x_nd: Tensor, error: Tensor, dead: Tensor, k_aux: int,
    alpha: float, weight_f: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Add the gradients of alpha min(|D|/k_aux, 1) |e - ê|² / |e - ē|² to `g`; returns the unweighted loss.

    ê is the decoder's output, without b_dec, for the k_aux largest of the latents numbered in `dead`; e is held fixed.
    x are the rows that W_enc meets. weight: latents are chosen by pre times this.
    """
    if not len(dead):
        return error.new_zeros(())
    pre_nD, W_Dd = pre_nf[:, dead], W_dec[dead]
    rank = pre_nD if weight_f is None else pre_nD * weight_f[dead]
    at = rank.topk(min(k_aux, len(dead)), dim=1, sorted=False).indices
    z_nD = torch.zeros_like(pre_nD).scatter(1, at, pre_nD.gather(1, at).relu())
    missed = error - z_nD @ W_Dd
    variance = (error - error.mean(0)).square().sum()
    g_hat = missed * (-2 * alpha * min(len(dead) / k_aux, 1.0) / variance)
    g_z = (g_hat @ W_Dd.T) * (z_nD > 0)
    g["W_dec"][dead] += z_nD.T @ g_hat
    g["b_enc"][dead] += g_z.sum(0)
    if "W_enc" in g:
        g["W_enc"][dead] += g_z.T @ x_nd
    return missed.square().sum() / variance
