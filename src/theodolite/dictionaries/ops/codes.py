"""A batch's codes, what their latents miss of the rows, and the gradients of that by weight: TopK and all its kin."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from theodolite.dictionaries.ops import sparse
from theodolite.dictionaries.ops.sparse import ByLatent


class Missed(NamedTuple):
    """Residuals of n rows, level by level.

    square_ln: |e[l, n]|² of the error that latents below the level's end leave. g_lnd: the gradient with respect to
    the output of the latents of level l. dots_m: the gradient of every slot's value.
    """

    square_ln: Tensor
    g_lnd: Tensor
    dots_m: Tensor


@dataclass(frozen=True, eq=False)
class Codes:
    """Active latents row after row: row n owns slots starts[n] to starts[n + 1]; a value of 0 is an empty slot."""

    starts: Tensor
    latent: Tensor
    value: Tensor
    width: int

    @classmethod
    def padded(cls, idx_nk: Tensor, val_nk: Tensor, width: int) -> "Codes":
        """Codes from k slots for every row."""
        return cls(sparse.padded_starts(idx_nk), idx_nk.flatten(), val_nk.flatten(), width)

    @property
    def fired(self) -> Tensor:
        """(f) bool: which latents are active in any row."""
        fired = torch.zeros(self.width, dtype=torch.bool, device=self.latent.device)
        fired[self.latent[self.value != 0]] = True
        return fired

    @property
    def l0(self) -> Tensor:
        """Active latents per row."""
        return (self.value != 0).sum() / (len(self.starts) - 1)

    @cached_property
    def by_latent(self) -> ByLatent:
        """The slots sorted by latent."""
        return sparse.by_latent_flat(self.starts, self.latent, self.width)

    def missed(self, target_nd: Tensor, W_fd: Tensor, ends: tuple[int, ...], factor_l: Tensor) -> Missed:
        """e[l] = target - sum of value W[latent] over latents < ends[l]; gradients of the sum of factor[l]/2 |e[l]|².

        g[l] is the sum of factor[m] e[m] over m >= l, so factors are negative where the squares are a loss.
        """
        if not sparse.on_kernels(target_nd, self.value, W_fd):
            return self._missed_by_torch(target_nd, W_fd, ends, factor_l)
        from theodolite.dictionaries.ops import kernels

        (n, d), levels = target_nd.shape, len(ends)
        out = Missed(
            target_nd.new_empty(levels, n), target_nd.new_empty(levels, n, d), target_nd.new_empty(len(self.latent))
        )
        code = (self.starts, self.latent, self.value)
        until = torch.tensor(ends)
        kernels.run(kernels.missed, target_nd.contiguous(), *code, W_fd.contiguous(), until, factor_l, *out)
        return out

    def _missed_by_torch(self, target_nd: Tensor, W_fd: Tensor, ends: tuple[int, ...], factor_l: Tensor) -> Missed:
        errors, left, first = [], target_nd, 0
        for end in ends:
            here = self.value * (self.latent >= first) * (self.latent < end)
            left = left - sparse.decode_flat(self.starts, self.latent, here, W_fd)
            errors.append(left)
            first = end
        e_lnd = torch.stack(errors)
        g_lnd = (factor_l[:, None, None] * e_lnd).flip(0).cumsum(0).flip(0)
        level = torch.searchsorted(torch.tensor(ends, device=self.latent.device), self.latent, right=True)
        dots = torch.zeros_like(self.value)
        for at, g_nd in enumerate(g_lnd):
            dots += sparse.row_dots_flat(self.starts, self.latent, g_nd, W_fd) * (level == at) * (self.value != 0)
        return Missed(e_lnd.square().sum(2), g_lnd, dots)

    def weight_gradients(
        self, missed: Missed, inputs_nd: Tensor, ends: tuple[int, ...], *, train_encoder: bool
    ) -> dict[str, Tensor]:
        """The gradients of W_dec and b_enc, and of W_enc where it trains; `inputs` are what W_enc meets."""
        if not (train_encoder and sparse.on_kernels(inputs_nd, self.value)):
            return self._weight_gradients_apart(missed, inputs_nd, ends, train_encoder)
        from theodolite.dictionaries.ops import kernels

        dec, enc = (missed.g_lnd.new_empty(self.width, x.shape[-1]) for x in (missed.g_lnd, inputs_nd))
        bias, inputs, (order, row, begin) = enc.new_empty(self.width), inputs_nd.contiguous(), self.by_latent
        first = 0
        for g_nd, end in zip(missed.g_lnd, ends, strict=True):
            to, from_to = slice(first, end), begin[first : end + 1]
            sums = (self.value, g_nd, dec[to], missed.dots_m, inputs, enc[to], bias[to])
            kernels.run(kernels.two_sums_by_latent, order, row, from_to, *sums)
            first = end
        return {"W_dec": dec, "b_enc": bias, "W_enc": enc}

    def _weight_gradients_apart(
        self, missed: Missed, inputs_nd: Tensor, ends: tuple[int, ...], train_encoder: bool
    ) -> dict[str, Tensor]:
        parts, first = [], 0
        for g_nd, end in zip(missed.g_lnd, ends, strict=True):
            parts.append(sparse.sum_by_latent(self.by_latent, self.value, g_nd)[first:end])
            first = end
        dots, ones = missed.dots_m, torch.ones_like(inputs_nd[:, :1])
        g = {"W_dec": torch.cat(parts), "b_enc": sparse.sum_by_latent(self.by_latent, dots, ones).squeeze(1)}
        if train_encoder:
            g["W_enc"] = sparse.sum_by_latent(self.by_latent, dots, inputs_nd)
        return g
