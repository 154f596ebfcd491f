"""The entries (row, latent) that a loss looks at: the whole matrix while many latents are active, a list once few are.

A variant whose number of active latents is free writes its loss once, entry by entry over `pre`; the two classes do the
products. Shapes: n rows, d inputs, f latents; an entry tensor is (n, f) in `Dense` and (m,) in `Sparse`, in row order.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from theodolite.dictionaries.ops import sparse
from theodolite.dictionaries.ops.preselect import products

DENSE = 1 / 16  # share of entries from which five dense products are quicker than gathering rows (CPU)


@dataclass(frozen=True, eq=False)
class Dense:
    """Every entry."""

    pre: Tensor

    def of(self, v_f: Tensor) -> Tensor:
        """A latent's number at each of its entries."""
        return v_f

    def decode(self, v: Tensor, W_fd: Tensor) -> Tensor:
        """(n, d): for each row the sum of `v W[latent]` over its entries."""
        return v @ W_fd

    def dots(self, g_nd: Tensor, W_fd: Tensor) -> Tensor:
        """<g[row], W[latent]> at every entry."""
        return g_nd @ W_fd.T

    def by_latent(self, v: Tensor, rows_nd: Tensor) -> Tensor:
        """(f, d): for each latent the sum of `v rows[row]` over its entries."""
        return v.T @ rows_nd

    def per_latent(self, v: Tensor) -> Tensor:
        """(f): for each latent the sum of v over its entries."""
        return v.sum(0)

    def fired(self, active: Tensor) -> Tensor:
        """(f) bool: which latents are active at any entry."""
        return active.any(0)


@dataclass(frozen=True, eq=False)
class Sparse:
    """Some entries, row after row: row n owns starts[n] to starts[n + 1]; others count as 0."""

    pre: Tensor
    starts: Tensor
    latent: Tensor
    width: int

    def of(self, v_f: Tensor) -> Tensor:
        """A latent's number at each of its entries."""
        return v_f[self.latent]

    def decode(self, v: Tensor, W_fd: Tensor) -> Tensor:
        """(n, d): for each row the sum of `v W[latent]` over its entries."""
        return sparse.decode_flat(self.starts, self.latent, v, W_fd)

    def dots(self, g_nd: Tensor, W_fd: Tensor) -> Tensor:
        """<g[row], W[latent]> at every entry."""
        return sparse.row_dots_flat(self.starts, self.latent, g_nd, W_fd)

    def by_latent(self, v: Tensor, rows_nd: Tensor) -> Tensor:
        """(f, d): for each latent the sum of `v rows[row]` over its entries."""
        return sparse.sum_by_latent(self._by_latent, v, rows_nd)

    def per_latent(self, v: Tensor) -> Tensor:
        """(f): for each latent the sum of v over its entries."""
        return self.by_latent(v, v.new_ones(len(self.starts) - 1, 1)).squeeze(1)

    def fired(self, active: Tensor) -> Tensor:
        """(f) bool: which latents are active at any entry."""
        fired = torch.zeros(self.width, dtype=torch.bool, device=active.device)
        fired[self.latent[active]] = True
        return fired

    @cached_property
    def _by_latent(self) -> sparse.ByLatent:
        return sparse.by_latent_flat(self.starts, self.latent, self.width)


Support = Dense | Sparse


def entries_above(x_nd: Tensor, W_fd: Tensor, b_f: Tensor, low_f: Tensor) -> Support:
    """The entries of W x + b that exceed `low` of their latent; every entry if many do.

    >>> found = entries_above(torch.eye(20), torch.eye(20), torch.zeros(20), torch.full((20,), 0.5))
    >>> torch.equal(found.latent, torch.arange(20)), found.pre.unique().tolist()
    (True, [1.0])
    """
    width, found = len(W_fd), []
    for pre in products(x_nd, W_fd, b_f):
        starts, latent, value = sparse.exceeding(pre, low_f)
        if len(latent) > DENSE * pre.numel():
            return Dense(torch.addmm(b_f, x_nd, W_fd.T))
        found.append((value, starts.diff(), latent))
    pre, counts, latent = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Sparse(pre, pad(counts.cumsum(0), (1, 0)), latent, width)
