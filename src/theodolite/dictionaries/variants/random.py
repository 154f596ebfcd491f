"""The random dictionary: what no learned atom is needed for."""

from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.dictionaries.activations import TopKRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.ops import sparse
from theodolite.dictionaries.training.learner import Learner, Step, check_k


@dataclass(eq=False)
class Random(Learner):
    """Seeded random unit rows as encoder and decoder with a TopK code: the null of 2602.14111 for every other variant.

    Only b_dec and `gain`, one factor on all latents, are trained: k random atoms overlap, so without the factor their
    sum overshoots and the null would be weaker than it need be.

    >>> import torch
    >>> rows = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    >>> fitted = Random(8, width=64, k=4).fit([rows])
    >>> bool(fitted.parameters_["gain"] < 1), fitted.fvu(rows) < 1
    (True, True)
    """

    _: KW_ONLY
    k: int = 32

    rate = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frozen or self.weight_decay:
            raise UserError("encoder and decoder of a random dictionary are never trained: no frozen, no weight_decay")
        check_k(self.k, self.width)

    def _parameters(self, x_nd: Tensor, centre_d: Tensor, rows_fd: Tensor) -> dict[str, Tensor]:
        x = x_nd - centre_d
        sum_nd = sparse.decode(*sparse.top_k(x @ rows_fd.T, self.k), rows_fd)
        gain = (x * sum_nd).sum() / sum_nd.square().sum()  # least squares: only b_dec is left to find
        return {"W_dec": rows_fd, "b_dec": centre_d, "gain": gain}

    def _trained(self) -> dict[str, Tensor]:
        return {name: self.parameters_[name] for name in ("b_dec", "gain")}

    def _step(self, x_nd: Tensor) -> Step:
        W_fd, b_dec, gain = (self.parameters_[name] for name in ("W_dec", "b_dec", "gain"))
        x = x_nd - b_dec
        idx, val = sparse.top_k(x @ W_fd.T, self.k)
        sum_nd = sparse.decode(idx, val, W_fd)
        error, variance = x - gain * sum_nd, (x - x.mean(0)).square().sum()
        g_hat = error * (-2 / variance)
        g_pre = sparse.row_dots(g_hat, W_fd, idx) * (val > 0)
        through = sparse.decode(idx, g_pre, W_fd).sum(0)  # b_dec also moves the latents
        active = val > 0
        fired = torch.zeros(self.width, dtype=torch.bool, device=x.device)
        fired[idx[active]] = True
        g = {"b_dec": g_hat.sum(0) - gain * through, "gain": (g_hat * sum_nd).sum()}
        return Step({"fvu": error.square().sum() / variance}, g, fired, active.sum() / len(x))

    def _constrain(self) -> None:
        self.parameters_["gain"].clamp_(min=0)

    def _dictionary(self) -> Dictionary:
        W_fd, b_dec, gain = (self.parameters_[name] for name in ("W_dec", "b_dec", "gain"))
        return Dictionary(gain * W_fd, W_fd.new_zeros(self.width), W_fd.clone(), b_dec.clone(), TopKRule(self.k))
