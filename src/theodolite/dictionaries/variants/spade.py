"""SpaDE: sparsemax over distances to prototypes (Hindupur et al., 2503.01822)."""

import math
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.dictionaries import coding
from theodolite.dictionaries.activations import SparsemaxRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.training.learner import Learner, Step


@dataclass(eq=False)
class SpaDE(Learner):
    """z = sparsemax(-λ |x - a_i|²), x̂ = z W_dec: a latent fires near its prototype a_i, at any distance from 0.

    λ is learned. The loss is the error and gamma Σ z_i |x - a_i|², both over the variance. L0 follows from the row.
    The paper's numbers are for coordinates of variance 1; here rows are scaled so that all d together have variance 1.
    Hence λ = d softplus(s), which starts at 1/2 for the paper's 1/(2 d), and steps of lr / sqrt(d). Prototypes and
    decoder count from the start's geometric median, which changes nothing, because z sums to 1; it is stored as b_dec
    and not trained.

    >>> import torch
    >>> rows = torch.randn(512, 2, generator=torch.Generator().manual_seed(0))
    >>> fitted = SpaDE(2, width=8).fit([rows] * 100)
    >>> bool(torch.allclose(fitted.encode(rows).sum(1), torch.ones(512))), fitted.fvu(rows) < 0.2
    (True, True)
    """

    _: KW_ONLY
    gamma: float = 0.1

    rate = 1e-2
    unit_decoder = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frozen == "soft_decoder":
            raise UserError("frozen='soft_decoder' needs decoder rows of norm 1, which SpaDE has not: use 'decoder'")

    def _parameters(self, x_nd: Tensor, centre_d: Tensor, rows_fd: Tensor) -> dict[str, Tensor]:
        self.buffers_["centre"] = centre_d
        s = math.log(math.expm1(1 / (2 * self.d_in)))  # softplus(s) = 1 / (2 d)
        return {"W_enc": rows_fd.clone(), "W_dec": rows_fd, "s": rows_fd.new_tensor(s / self.d_in**0.5)}

    def learning_rate(self) -> float:
        return super().learning_rate() / self.d_in**0.5

    def _lambda(self) -> Tensor:
        """d softplus(s); s is held divided by sqrt(d), so that one learning rate serves it and the matrices."""
        return self.d_in * torch.nn.functional.softplus(self.d_in**0.5 * self.parameters_["s"])

    def _step(self, x_nd: Tensor) -> Step:
        a_fd, W_fd, lam = self.parameters_["W_enc"], self.parameters_["W_dec"], self._lambda()
        x = x_nd - self.buffers_["centre"]
        variance = (x - x.mean(0)).square().sum()
        # distances less |x|², which sparsemax does not see; it comes back where the value itself counts
        near_nf = a_fd.square().sum(1) - 2 * x @ a_fd.T
        z_nf = coding.sparsemax(-lam * near_nf)
        error, norm_n1 = x - z_nf @ W_fd, x.square().sum(1, keepdim=True)
        distance = (z_nf * (near_nf + norm_n1)).sum() / variance

        g_hat = error * (-2 / variance)
        g_z = g_hat @ W_fd.T + self.gamma / variance * near_nf
        g_u = coding.sparsemax_gradient(z_nf, g_z)
        g_near = self.gamma / variance * z_nf - lam * g_u
        g = {
            "W_enc": 2 * (g_near.sum(0)[:, None] * a_fd - g_near.T @ x),
            "W_dec": z_nf.T @ g_hat,
            "s": -(g_u * near_nf).sum() * self.d_in**1.5 * torch.sigmoid(self.d_in**0.5 * self.parameters_["s"]),
        }
        active = z_nf > 0
        losses = {"fvu": error.square().sum() / variance, "distance": distance, "lambda": lam}
        return Step(losses, g, active.any(0), active.sum() / len(x))

    def _dictionary(self) -> Dictionary:
        a_fd, lam = self.parameters_["W_enc"], self._lambda()
        b_enc = -lam * a_fd.square().sum(1)
        return Dictionary(
            2 * lam * a_fd, b_enc, self.parameters_["W_dec"].clone(), self.buffers_["centre"].clone(), SparsemaxRule()
        )
