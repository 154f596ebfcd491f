"""Magnitudes fitted anew on the support an encoder chose: the debiased lasso of statistics, the refit step of OMP.

An L1 penalty shrinks what it keeps, and no encoder that is one linear map gives the best magnitudes of overlapping
latents. Given which latents S are active in a row, the best values are those of a least-squares problem of |S|
unknowns:

    z_S = argmin |x - b_dec - W_S^T z|²,   z_S >= 0 unless the rule is signed

No cure that only changes magnitudes reconstructs better. k x k systems, batched, in float64: decoder rows that overlap
by .99 leave a float32 solution without a correct digit.
"""

import torch
from torch import Tensor

_ENTRIES = 2**24  # float64 numbers a chunk of rows may gather: 128 MiB
_RIDGE = 1e-12  # of the largest squared norm: equal decoder rows share a magnitude instead of failing


def magnitudes(target_nd: Tensor, idx_nk: Tensor, val_nk: Tensor, W_fd: Tensor, *, signed: bool) -> Tensor:
    """(n, k) values that fit each row best; slots of value 0 are empty and stay so. `signed` allows negative ones.

    >>> rows, W = torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    >>> magnitudes(rows, torch.tensor([[0, 1]]), torch.tensor([[0.1, 0.1]]), W, signed=False)
    tensor([[2.2500, 1.2500]])
    """
    k, d = idx_nk.shape[1], W_fd.shape[1]
    chunk = max(_ENTRIES // (k * (k + d)), 1)
    parts = zip(target_nd.split(chunk), idx_nk.split(chunk), val_nk.split(chunk), strict=True)
    done = [_fitted(x, idx, val != 0, W_fd, signed) for x, idx, val in parts]
    return torch.cat(done).to(val_nk.dtype) if done else val_nk


def _fitted(x_nd: Tensor, idx_nk: Tensor, active_nk: Tensor, W_fd: Tensor, signed: bool) -> Tensor:
    W_nkd = W_fd[idx_nk].double()
    gram_nkk = W_nkd @ W_nkd.mT
    size = gram_nkk.diagonal(dim1=1, dim2=2).amax(1).clamp_min(torch.finfo(torch.float64).tiny)
    gram_nkk = gram_nkk + torch.diag_embed((_RIDGE * size)[:, None].expand(idx_nk.shape))
    along_nk = (W_nkd @ x_nd.double().unsqueeze(2)).squeeze(2)
    return _solved(gram_nkk, along_nk, active_nk) if signed else _nonnegative(gram_nkk, along_nk, active_nk)


def _solved(gram_nkk: Tensor, along_nk: Tensor, on_nk: Tensor) -> Tensor:
    """The least-squares values of the slots that are on, 0 in the others."""
    both = on_nk[:, :, None] & on_nk[:, None, :]
    system = gram_nkk.where(both, 0) + torch.diag_embed((~on_nk).double())
    factor = torch.linalg.cholesky(system)
    return torch.cholesky_solve((along_nk * on_nk).unsqueeze(2), factor).squeeze(2) * on_nk


def _nonnegative(gram_nkk: Tensor, along_nk: Tensor, active_nk: Tensor) -> Tensor:
    """Non-negative least squares by block principal pivoting (Portugal, Judice and Vicente 1994), all rows at once.

    A slot is in the wrong set if its value is negative, or if it is off and the error would fall with it on. All wrong
    slots change sides at once as long as their number falls, for three rounds more if it does not, and then only the
    last of them does (Murty's rule, which must end).
    """
    on, z = active_nk.clone(), torch.zeros_like(along_nk)
    k = on.shape[1]
    fewest = torch.full((len(on),), k + 1, device=on.device)
    patience = torch.full((len(on),), 3, device=on.device)
    open_n = active_nk.any(1).nonzero().squeeze(1)
    while len(open_n):
        gram, along, active, is_on = gram_nkk[open_n], along_nk[open_n], active_nk[open_n], on[open_n]
        now = _solved(gram, along, is_on)
        slope = along - (gram @ now.unsqueeze(2)).squeeze(2)
        noise = 1e-10 * along.abs().amax(1, keepdim=True)
        wrong = (is_on & (now < 0)) | (active & ~is_on & (slope > noise))
        z[open_n] = now
        count = wrong.sum(1)
        better = count < fewest[open_n]
        patience[open_n] = torch.where(better, 3, patience[open_n] - 1)
        fewest[open_n] = torch.minimum(count, fewest[open_n])
        last = wrong & (torch.arange(k, device=on.device) == k - 1 - wrong.flip(1).int().argmax(1, keepdim=True))
        on[open_n] = is_on ^ torch.where((patience[open_n] >= 0)[:, None], wrong, last)
        open_n = open_n[count > 0]
    return z.clamp_min(0)
