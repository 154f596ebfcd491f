"""Crosscoders: one sparse code for two sites, each with its own decoder (Lindsey et al. 2024; 2504.02922).

What a trainer must know (`sites = "joined"`): rows are those of the same tokens at the two sites, side by side
(n, 2 d), and `d_in` is 2 d; each half has its own centre and scale. `dictionary()` maps raw joined rows to raw joined
rows; the trainer names its two sites in `info["sites"]`.
"""

from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.dictionaries.activations import JumpReluRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.ops.support import Sparse
from theodolite.dictionaries.training.auxiliary import AuxK, add_auxiliary
from theodolite.dictionaries.training.learner import Learner, Step, check_k
from theodolite.dictionaries.variants.batch_topk import MEMORY


@dataclass(eq=False)
class Crosscoder(Learner):
    """z = BatchTopK by relu(W_enc (x - b_dec) + b_enc) times the sum of a latent's two decoder norms.

    This is the form of 2504.02922. The L1 penalty of the first crosscoders, weighted by the same sum, shrinks a shared
    latent's decoder at the site that needs it less, down to 0, so that it seems to belong to one site alone; a penalty
    on nothing cannot. Decoder rows have any norm: their ratio between sites is what a crosscoder is read for
    (`relative_norm`). In training the n k largest of a batch of n rows are kept; `dictionary()` keeps what exceeds a
    threshold, the running mean of the smallest that training kept.

    k: latents active per row, on average. aux: weight of AuxK, the loss by which d/2 dead latents reconstruct what is
    missed.

    >>> import torch
    >>> first = torch.randn(512, 8, generator=torch.Generator().manual_seed(0)).relu()
    >>> fitted = Crosscoder(16, width=12, k=4, lr=1e-2).fit([torch.cat([first, 5 * first], dim=1)] * 300)
    >>> (fitted.relative_norm() - 0.5).abs().median().item() < 0.05  # shared latents
    True
    """

    _: KW_ONLY
    k: int = 32
    aux: float = 1 / 32

    sites = "joined"
    unit_decoder = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_k(self.k, self.width)
        if self.d_in % 2:
            raise UserError(f"d_in={self.d_in} numbers are not the rows of two sites side by side: give an even number")

    def relative_norm(self) -> Tensor:
        """0 for a latent of the first site alone, 1 for one of the second alone, .5 where both decoders are as long.

        1/2 (1 + (|w_2| - |w_1|) / max(|w_1|, |w_2|)) (2504.02922), at unit variance of both sites.
        """
        first, second = self._norms()
        return 0.5 * (1 + (second - first) / torch.maximum(first, second))

    def partial_fit(self, x_nd: Tensor, y_nd: Tensor | None = None) -> dict[str, Tensor]:
        losses = super().partial_fit(x_nd, y_nd)
        lowest, held = losses["lowest_kept"].double(), self.buffers_["threshold"]
        self.buffers_["threshold"] = torch.where(held.isnan(), lowest, held + MEMORY * (lowest - held))
        return losses

    def _widths(self) -> tuple[int, ...]:
        return (self.d_in // 2, self.d_in // 2)

    def _norms(self) -> tuple[Tensor, Tensor]:
        first, second = (half.norm(dim=1) for half in self.parameters_["W_dec"].split(self._widths(), dim=1))
        return first, second

    def _parameters(self, x_nd: Tensor, centre_d: Tensor, rows_fd: Tensor) -> dict[str, Tensor]:
        self.buffers_["threshold"] = torch.tensor(torch.nan, dtype=torch.float64, device=rows_fd.device)
        return {"W_enc": rows_fd.clone(), "b_enc": rows_fd.new_zeros(self.width), "W_dec": rows_fd, "b_dec": centre_d}

    def _step(self, x_nd: Tensor) -> Step:
        first, second = self._norms()
        dead, auxk = self.dead_.nonzero().squeeze(1), AuxK(max(self.d_in // 2, 1), self.aux)
        return _step(self.parameters_, x_nd, first + second, self.k, dead, auxk, self.frozen != "encoder")

    def _dictionary(self) -> Dictionary:
        w, (first, second) = self.parameters_, self._norms()
        weight = (first + second).clamp_min(torch.finfo(first.dtype).tiny)[:, None]
        rule = JumpReluRule(self.buffers_["threshold"].nan_to_num(0.0).to(weight.dtype).expand(self.width).clone())
        W_enc, b_enc, W_dec = w["W_enc"] * weight, w["b_enc"] * weight.squeeze(1), w["W_dec"] / weight
        return Dictionary(W_enc, b_enc, W_dec, w["b_dec"].clone(), rule, info={"scales": list(self.scales_)})

    def _folded(self, scaled: Dictionary) -> Dictionary:
        d = self._widths()[0]
        return scaled.folded(torch.tensor(self.scales_).repeat_interleave(d).to(scaled.W_enc))


def _step(
    w: dict[str, Tensor],
    x_nd: Tensor,
    weight_f: Tensor,
    k: int,
    dead: Tensor,
    auxk: AuxK,
    train_encoder: bool,
) -> Step:
    """Loss and gradients of |x - x̂|² / |x - x̄|² + AuxK; no gradient goes through the choice of latents."""
    centred = x_nd - w["b_dec"]
    pre = torch.addmm(w["b_enc"], centred, w["W_enc"].T)
    found, lowest = _kept(pre, weight_f, k)
    z = found.pre
    error = centred - found.decode(z, w["W_dec"])
    variance = (x_nd - x_nd.mean(0)).square().sum()
    g_hat = error * (-2 / variance)
    g_pre = found.dots(g_hat, w["W_dec"])
    g = {"b_enc": found.per_latent(g_pre), "W_dec": found.by_latent(z, g_hat), "b_dec": g_hat.sum(0)}
    if train_encoder:
        g["W_enc"] = found.by_latent(g_pre, centred)
    aux = add_auxiliary(g, w, centred, error, dead, auxk, weight_f)
    g["b_dec"] -= g["b_enc"] @ w["W_enc"]  # through x - b_dec
    losses = {"fvu": error.square().sum() / variance, "aux": aux, "lowest_kept": lowest}
    return Step(losses, g, found.fired(z > 0), z.new_tensor(len(z) / len(x_nd)))


def _kept(pre_nf: Tensor, weight_f: Tensor, k: int) -> tuple[Sparse, Tensor]:
    """The n k largest weighted pre-activations of a batch that are above 0, and the smallest of them."""
    n, width = pre_nf.shape
    score, flat = (pre_nf * weight_f).flatten().topk(n * k, sorted=False)
    positive = score > 0
    flat = flat[positive].sort().values
    lowest = score[positive].min() if bool(positive.any()) else score.new_zeros(())
    per_row = (flat // width).bincount(minlength=n)
    starts = torch.nn.functional.pad(per_row.cumsum(0), (1, 0))
    return Sparse(pre_nf.flatten()[flat], starts, flat % width, width), lowest
