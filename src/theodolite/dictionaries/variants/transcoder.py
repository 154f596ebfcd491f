"""TopK transcoders: rows of one site predict the rows of another through sparse latents (2406.11944, 2501.18823).

What a trainer must know (`sites = "pair"`): `start(x, y)`, `partial_fit(x, y)`, `fvu(x, y)`, and `fit` over tuples
(x, y), where x (n, d_in) and y (n, d_out) are rows of the same tokens, x at the site that is read and y at the one that
is written; each has its own centre and scale (`scale_`, `scale_out_`). `dictionary()` maps raw x to raw y; the trainer
names its two sites in `info["read_site"]` and `info["site"]`. `encode(x)` needs x alone.
"""

from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from theodolite.core.seeds import child_seed
from theodolite.dictionaries.activations import TopKRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.ops import preselect, sparse
from theodolite.dictionaries.seeded import seeded_rows
from theodolite.dictionaries.training.auxiliary import AuxK, add_auxiliary
from theodolite.dictionaries.training.learner import Learner, Step, check_k


@dataclass(eq=False)
class Transcoder(Learner):
    """ŷ = TopK(W_enc x + b_enc) W_dec + b_dec, with `skip` + W_skip x; the loss is the error's share of y's variance.

    The decoder and W_skip start at 0, so that ŷ starts at the centre of y, and decoder rows have any norm: as in
    2501.18823, which trains with TopK (2406.11944 has ReLU and L1). Random unit rows, which say where to write before
    anything is known, left 5 times the error on planted data; only a frozen or soft-frozen decoder starts from them.
    Two spaces share no bias: the centre of x goes into b_enc.

    d_out: numbers in a row of y, `d_in` if not given. k: latents active per row. aux: weight of AuxK, the loss by which
    d_out/2 dead latents predict what is missed. skip: also fit an affine path around the latents.

    >>> import torch
    >>> x = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    >>> fitted = Transcoder(8, width=16, k=4, d_out=3, lr=1e-2).fit([(x, x[:, :3].relu())] * 200)
    >>> fitted.dictionary().reconstruct(x).shape, fitted.fvu(x, x[:, :3].relu()) < 0.2
    (torch.Size([512, 3]), True)
    """

    _: KW_ONLY
    k: int = 32
    aux: float = 1 / 32
    skip: bool = False
    d_out: int | None = None

    sites = "pair"
    unit_decoder = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_k(self.k, self.width)

    def _widths(self) -> tuple[int, ...]:
        return (self.d_in, self.d_out or self.d_in)

    def _seeded(self, name: str) -> Tensor:
        if name == "W_enc":
            return super()._seeded(name)
        return seeded_rows(self.width, self._widths()[1], child_seed(self.seed, name))

    def _parameters(self, x_nd: Tensor, centre_d: Tensor, rows_fd: Tensor) -> dict[str, Tensor]:
        centre_x, centre_y = centre_d.split(self._widths())
        start = self._seeded("W_dec").to(rows_fd)
        W_dec = start if self.frozen.endswith("decoder") else torch.zeros_like(start)
        w = {"W_enc": rows_fd, "b_enc": -rows_fd @ centre_x, "W_dec": W_dec, "b_dec": centre_y.clone()}
        return w | ({"W_skip": rows_fd.new_zeros(len(centre_y), len(centre_x))} if self.skip else {})

    def _step(self, x_nd: Tensor) -> Step:
        x_nd, y_nd = (part.contiguous() for part in x_nd.split(self._widths(), dim=1))
        auxk = AuxK(max(y_nd.shape[1] // 2, 1), self.aux)
        dead = self.dead_.nonzero().squeeze(1)
        return _step(self.parameters_, x_nd, y_nd, self.k, dead, auxk, self.frozen != "encoder")

    def _dictionary(self) -> Dictionary:
        w = {name: t.clone() for name, t in self.parameters_.items()}
        W_enc, b_enc, W_dec, b_dec = (w[name] for name in ("W_enc", "b_enc", "W_dec", "b_dec"))
        info = {"read_site": None}  # a transcoder, whose sites only the trainer knows
        rule = TopKRule(self.k)
        return Dictionary(W_enc, b_enc, W_dec, b_dec, rule, subtract_b_dec=False, info=info, W_skip=w.get("W_skip"))

    def _folded(self, scaled: Dictionary) -> Dictionary:
        return scaled.folded(self.scale_, self.scale_out_)


def _step(
    w: dict[str, Tensor],
    x_nd: Tensor,
    y_nd: Tensor,
    k: int,
    dead: Tensor,
    auxk: AuxK,
    train_encoder: bool,
) -> Step:
    """Loss and gradients of |y - ŷ|² / |y - ȳ|² + AuxK, from active latents only; `dead` holds latents' numbers."""
    W_dec, width = w["W_dec"], len(w["W_dec"])
    idx, val = preselect.top_k(x_nd, w["W_enc"], w["b_enc"], k)
    error = y_nd - w["b_dec"] - sparse.decode(idx, val, W_dec)
    if "W_skip" in w:
        error = error - x_nd @ w["W_skip"].T
    variance = (y_nd - y_nd.mean(0)).square().sum()
    fired = torch.zeros(width, dtype=torch.bool, device=x_nd.device)
    fired[idx[val > 0]] = True

    g_hat = error * (-2 / variance)  # gradient with respect to ŷ
    g_pre = sparse.row_dots(g_hat, W_dec, idx) * (val > 0)
    slots = sparse.by_latent(idx, width)
    g = {
        "b_enc": sparse.sum_by_latent(slots, g_pre, torch.ones_like(x_nd[:, :1])).squeeze(1),
        "W_dec": sparse.sum_by_latent(slots, val, g_hat),
        "b_dec": g_hat.sum(0),
    }
    if train_encoder:
        g["W_enc"] = sparse.sum_by_latent(slots, g_pre, x_nd)
    if "W_skip" in w:
        g["W_skip"] = g_hat.T @ x_nd
    aux = add_auxiliary(g, w, x_nd, error, dead, auxk)
    return Step({"fvu": error.square().sum() / variance, "aux": aux}, g, fired, (val > 0).sum() / len(x_nd))
