"""Classical sparse coding: lasso codes, a dictionary learned online."""

from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.core.seeds import generator
from theodolite.dictionaries.activations import FistaRule, NonnegativeFistaRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.training.classical import Classical, outcome, remembered
from theodolite.dictionaries.training.learner import Step


@dataclass(eq=False)
class Fista(Classical):
    """Codes argmin |x - b_dec - z W|² / 2 + lam |z|₁ by FISTA (Beck & Teboulle 2009), atoms as in Mairal et al. (2009).

    There is no encoder to amortise: encoding runs `iterations` steps of two products each. After a batch every atom is
    set to its minimum given the others, from sums over batches, and to norm 1 (Mairal's constraint is at most 1).
    An atom that `dead_after` rows did not use becomes a row of the batch. b_dec is the start's geometric median. lam
    counts in scaled rows, whose root mean square distance from it is 1. positive: no negative latents.

    >>> import torch
    >>> rows = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    >>> fitted = Fista(8, width=16, lam=0.2).fit([rows] * 10)
    >>> fitted.dictionary().W_dec.norm(dim=1).allclose(torch.ones(16))
    True
    """

    _: KW_ONLY
    lam: float = 0.1
    iterations: int = 100
    positive: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lam <= 0 or self.iterations < 1:
            raise UserError(f"lam={self.lam}, iterations={self.iterations}: give a weight above 0 and at least 1 step")

    def _parameters(self, x_nd: Tensor, centre_d: Tensor, rows_fd: Tensor) -> dict[str, Tensor]:
        self.buffers_ = {"zz": x_nd.new_zeros(self.width, self.width), "zx": torch.zeros_like(rows_fd)}
        return {"W_dec": rows_fd, "b_dec": centre_d}

    def _step(self, x_nd: Tensor) -> Step:
        W_fd, x = self.parameters_["W_dec"], x_nd - self.parameters_["b_dec"]
        z_nf = self._rule()(x @ W_fd.T, W_fd)
        return outcome(x, z_nf @ W_fd, z_nf, {"zz": z_nf.T @ z_nf, "zx": z_nf.T @ x, "rows": x})

    def _absorb(self, statistics: dict[str, Tensor]) -> None:
        W_fd, x_nd = self.parameters_["W_dec"], statistics["rows"]
        share = remembered(self.step_, len(x_nd))
        zz, zx = (self.buffers_[name] * share + statistics[name] for name in ("zz", "zx"))
        minimise_atoms(W_fd, zz, zx)
        for latent in self.dead_.nonzero().flatten().tolist():
            row = generator(self.seed, "replace", self.step_, latent).integers(len(x_nd))
            W_fd[latent] = torch.nn.functional.normalize(x_nd[row], dim=0)
            zz[latent], zz[:, latent], zx[latent] = 0, 0, 0
            self.unused_for_[latent] = 0
        self.buffers_ = {"zz": zz, "zx": zx}

    def _rule(self) -> FistaRule:
        return (NonnegativeFistaRule if self.positive else FistaRule)(self.lam, self.iterations)

    def _dictionary(self) -> Dictionary:
        W_fd, b_dec = self.parameters_["W_dec"].clone(), self.parameters_["b_dec"].clone()
        return Dictionary(W_fd, W_fd.new_zeros(self.width), W_fd, b_dec, self._rule())


def minimise_atoms(W_fd: Tensor, zz_ff: Tensor, zx_fd: Tensor) -> None:
    """One round of Mairal's Algorithm 2, in place: each atom in turn, given those already changed; then its norm is 1.

    >>> W = torch.eye(2)
    >>> minimise_atoms(W, torch.eye(2), torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
    >>> W
    tensor([[0.6000, 0.8000],
            [0.0000, 1.0000]])
    """
    for latent, weight in enumerate(zz_ff.diagonal().tolist()):
        if weight > 0:
            towards = zx_fd[latent] - zz_ff[latent] @ W_fd + weight * W_fd[latent]
            W_fd[latent] = torch.nn.functional.normalize(towards, dim=0)
