"""Matching-pursuit dictionaries (Costa et al., 2506.03093)."""

from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.dictionaries.activations import MatchingPursuitRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.ops import sparse
from theodolite.dictionaries.training.learner import Learner, Step


@dataclass(eq=False)
class MatchingPursuit(Learner):
    """Encoder and decoder are one unit-norm matrix; k serial steps each subtract the best atom's share of what is left.

    A step costs a whole encoder product, so training is about k times slower than TopK. A latent may be taken twice:
    L0 is at most k. Reconstruction is the best of the variants and recovery among the worst (2602.14687).

    >>> import torch
    >>> rows = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    >>> fitted = MatchingPursuit(8, width=16, k=4, lr=1e-2).fit([rows] * 20)
    >>> int((fitted.encode(rows) != 0).sum(1).max())
    4
    """

    _: KW_ONLY
    k: int = 32

    rate = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k < 1:
            raise UserError(f"k={self.k} steps: give at least 1")
        if self.frozen == "encoder":
            raise UserError("frozen='encoder': matching pursuit has one matrix for both; use 'decoder'")

    def _parameters(self, x_nd: Tensor, centre_d: Tensor, rows_fd: Tensor) -> dict[str, Tensor]:
        return {"W_dec": rows_fd, "b_dec": centre_d}

    def _step(self, x_nd: Tensor) -> Step:
        """The loss |r_k|² over the variance; gradients run back through the steps with the choice of atoms held fixed.

        r' = r - <r, w> w has dr'/dr = 1 - w wᵀ, and for a gradient g by r' the one by w is -<r, w> g - <g, w> r. The
        remainders are not stored: r = r' + <r, w> w.
        """
        W_fd = self.parameters_["W_dec"]
        left, taken = x_nd - self.parameters_["b_dec"], []
        for _ in range(self.k):
            val_n1, idx_n1 = (left @ W_fd.T).max(1, keepdim=True)
            taken.append((idx_n1, val_n1.relu()))
            left = left - val_n1.relu() * W_fd[idx_n1.squeeze(1)]
        variance = (x_nd - x_nd.mean(0)).square().sum()
        fvu = left.square().sum() / variance

        g, g_W, ones = left * (2 / variance), torch.zeros_like(W_fd), torch.ones_like(left[:, :1])
        for idx_n1, val_n1 in reversed(taken):
            w_nd = W_fd[idx_n1.squeeze(1)] * (val_n1 > 0)
            along = (g * w_nd).sum(1, keepdim=True)
            left = left + val_n1 * w_nd
            g_W -= sparse.sum_by_latent(sparse.by_latent(idx_n1, self.width), ones, val_n1 * g + along * left)
            g = g - along * w_nd
        fired, l0 = self._active(taken)
        return Step({"fvu": fvu}, {"W_dec": g_W, "b_dec": -g.sum(0)}, fired, l0)

    def _active(self, taken: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Latents that any row took, and how many different ones a row took."""
        idx_nk, val_nk = (torch.cat(part, dim=1) for part in zip(*taken, strict=True))
        idx_nk = torch.where(val_nk > 0, idx_nk, -1).sort(dim=1).values
        new = (idx_nk >= 0) & (idx_nk.diff(dim=1, prepend=torch.full_like(idx_nk[:, :1], -1)) != 0)
        fired = torch.zeros(self.width, dtype=torch.bool, device=idx_nk.device)
        fired[idx_nk[new]] = True
        return fired, new.sum() / len(idx_nk)

    def _dictionary(self) -> Dictionary:
        W_fd, b_dec = self.parameters_["W_dec"].clone(), self.parameters_["b_dec"].clone()
        return Dictionary(W_fd, W_fd.new_zeros(self.width), W_fd, b_dec, MatchingPursuitRule(self.k))
