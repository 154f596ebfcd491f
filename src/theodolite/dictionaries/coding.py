"""Codes that take more than a line to compute from pre-activations, and what training needs of their derivatives.

Shapes: n rows, d inputs, f latents. A row's code depends on no other row of the batch.
"""

import torch
from torch import Tensor


def sparsemax(u_nf: Tensor) -> Tensor:
    """The point of the probability simplex nearest to each row (1602.02068): max(u - tau, 0), and it sums to 1.

    >>> sparsemax(torch.tensor([[0.5, 0.3, -2.0], [9.0, 0.0, 0.0]]))
    tensor([[0.6000, 0.4000, 0.0000],
            [1.0000, 0.0000, 0.0000]])
    """
    u = u_nf - u_nf.amax(1, keepdim=True)  # a shift of the row changes nothing, and float32 keeps its digits near 0
    ordered = u.sort(dim=1, descending=True).values
    total = ordered.cumsum(1)
    rank = torch.arange(1, u.shape[1] + 1, dtype=u.dtype, device=u.device)
    rho = (1 + rank * ordered > total).sum(1, keepdim=True)
    return (u - (total.gather(1, rho - 1) - 1) / rho).relu()


def sparsemax_gradient(z_nf: Tensor, g_nf: Tensor) -> Tensor:
    """The gradient by u from the one by z = sparsemax(u): g less its mean over the support, 0 elsewhere."""
    support = z_nf > 0
    g = g_nf * support
    return (g - g.sum(1, keepdim=True) / support.sum(1, keepdim=True)) * support


def matching_pursuit(pre_nf: Tensor, W_fd: Tensor, k: int) -> Tensor:
    """k times: the unit atom nearest to what is left takes its projection out of it; none that points away is taken.

    pre: products of the rows with the atoms. Products with the remainder follow from W Wᵀ, of which a step needs one
    row per row of the batch: f² numbers (1 GB at f = 16,384) are never held.
    """
    left, z_nf = pre_nf.clone(), torch.zeros_like(pre_nf)
    for _ in range(k):
        val_n1, idx_n1 = left.max(1, keepdim=True)
        val_n1 = val_n1.relu()
        z_nf.scatter_add_(1, idx_n1, val_n1)
        left.addmm_(val_n1 * W_fd[idx_n1.squeeze(1)], W_fd.T, alpha=-1)
    return z_nf


def fista(pre_nf: Tensor, W_fd: Tensor, lam: float, steps: int, *, positive: bool) -> Tensor:
    """The lasso code argmin_z |x - z W|² / 2 + lam |z|₁ with pre = x Wᵀ, by FISTA (Beck & Teboulle 2009).

    The momentum of a row starts anew when it points uphill (O'Donoghue & Candès, 1204.3982): without that the code of
    nearly parallel atoms is still moving after hundreds of steps. positive: over z >= 0; with lam = 0 that is
    nonnegative least squares.

    >>> fista(torch.tensor([[3.0, 0.5, -3.0]]), torch.eye(3), 1.0, 5, positive=False)
    tensor([[ 2.,  0., -2.]])
    """
    step = 1 / _largest_eigenvalue(W_fd)
    f, d = W_fd.shape
    gram = W_fd @ W_fd.T if f < 2 * d else None  # one product instead of two where that is less work
    z_nf = y_nf = torch.zeros_like(pre_nf)
    t_n1 = torch.ones_like(pre_nf[:, :1])
    for _ in range(steps):
        again_nf = (y_nf @ W_fd) @ W_fd.T if gram is None else y_nf @ gram
        u_nf = y_nf - step * (again_nf - pre_nf)
        new_nf = (u_nf - lam * step).relu()
        if not positive:
            new_nf = new_nf - (-u_nf - lam * step).relu()
        moved_nf = new_nf - z_nf
        t_n1 = torch.where(((y_nf - new_nf) * moved_nf).sum(1, keepdim=True) > 0, 1.0, t_n1)
        t_next = (1 + (1 + 4 * t_n1.square()).sqrt()) / 2
        y_nf = new_nf + (t_n1 - 1) / t_next * moved_nf
        z_nf, t_n1 = new_nf, t_next
    return z_nf


def _largest_eigenvalue(W_fd: Tensor) -> float:
    """Largest eigenvalue of W Wᵀ, from the smaller Gram matrix; a hair above, as a step too long diverges."""
    W = W_fd.double()
    gram = W.T @ W if W.shape[0] > W.shape[1] else W @ W.T
    return float(torch.linalg.eigvalsh(gram)[-1]) * (1 + 1e-6)
