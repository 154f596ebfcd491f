"""Principal components under the contract of dictionaries."""

from dataclasses import dataclass

import torch
from torch import Tensor

from theodolite.dictionaries.activations import IdentityRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.training.classical import Classical, outcome, principal
from theodolite.dictionaries.training.learner import Step


@dataclass(eq=False)
class PCA(Classical):
    """The `width` directions of largest variance, at most d_in; latents are signed, and all are active.

    Mean and scatter matrix are summed over batches in float64 (Chan et al. 1983), so the result is that of all rows at
    once. `dictionary()` solves anew; losses are those of a solution that is renewed after 1, 2, 4, 8, ... batches.

    >>> import torch
    >>> rows = torch.randn(512, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([9.0, 3.0, 1.0])
    >>> PCA(3, width=1).fit(rows.split(100)).dictionary().W_dec.round(decimals=1).abs().tolist()
    [[1.0, 0.0, 0.0]]
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refuse_more_than_d_in()

    def _parameters(self, x_nd: Tensor, centre_d: Tensor, rows_fd: Tensor) -> dict[str, Tensor]:
        self.buffers_ = _moments(x_nd)
        start = self._solved()
        self.buffers_ = {name: torch.zeros_like(t) for name, t in self.buffers_.items()}  # these rows come again
        return start

    def _step(self, x_nd: Tensor) -> Step:
        W_fd, b_dec = self.parameters_["W_dec"], self.parameters_["b_dec"]
        z_nf = (x_nd - b_dec) @ W_fd.T
        return outcome(x_nd, z_nf @ W_fd + b_dec, z_nf, _moments(x_nd))

    def _absorb(self, statistics: dict[str, Tensor]) -> None:
        self.buffers_ = _combined(self.buffers_, statistics)
        if self._solve_due():
            self.parameters_ = self._solved()

    def _solved(self) -> dict[str, Tensor]:
        W_fd = principal(self.buffers_["scatter"], self.width)
        return {"W_dec": W_fd.float(), "b_dec": self.buffers_["mean"].float()}

    def _dictionary(self) -> Dictionary:
        now = self._solved() if int(self.buffers_["n"]) else self.parameters_
        W_fd = now["W_dec"].clone()
        return Dictionary(W_fd, W_fd.new_zeros(self.width), W_fd, now["b_dec"].clone(), IdentityRule())


def _moments(x_nd: Tensor) -> dict[str, Tensor]:
    """Count, mean and scatter matrix about the mean of these rows, float64."""
    x = x_nd.double()
    mean = x.mean(0)
    return {"n": torch.tensor(len(x), device=x.device), "mean": mean, "scatter": (x - mean).T @ (x - mean)}


def _combined(a: dict[str, Tensor], b: dict[str, Tensor]) -> dict[str, Tensor]:
    """The moments of two sets of rows together."""
    n = a["n"] + b["n"]
    gap = b["mean"] - a["mean"]
    scatter = a["scatter"] + b["scatter"] + torch.outer(gap, gap) * (a["n"] * b["n"] / n)
    return {"n": n, "mean": a["mean"] + gap * (b["n"] / n), "scatter": scatter}
