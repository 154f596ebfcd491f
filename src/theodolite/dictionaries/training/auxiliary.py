"""AuxK of Gao et al. (2406.04093, A.2): dead latents predict what the others missed, and so come back."""

from dataclasses import dataclass

import torch
from torch import Tensor

from theodolite.dictionaries.ops import preselect
from theodolite.dictionaries.ops.codes import Codes


@dataclass(frozen=True)
class AuxK:
    """Number of dead latents that predict the error together, and the weight of their loss.

    signed: the largest absolute values, with their signs.

    >>> AuxK(k=384, alpha=1 / 32).signed
    False
    """

    k: int
    alpha: float
    signed: bool = False


def add_auxiliary(
    g: dict[str, Tensor],
    w: dict[str, Tensor],
    inputs_nd: Tensor,
    error: Tensor,
    dead: Tensor,
    aux: AuxK,
    weight_f: Tensor | None = None,
) -> Tensor:
    """Add the gradients of alpha min(|D|/k, 1) |e - ê|² / |e - ē|² to `g`; returns the unweighted loss.

    ê is the decoder's output, *without* b_dec, for the k largest of the latents D, numbered in `dead`; e is held
    fixed, and has no b_dec either (two libraries counted it twice). The gradient of b_dec by way of b_enc is the
    caller's. inputs: the rows that W_enc meets. weight: latents are chosen by pre-activation times this.
    """
    variance = (error - error.mean(0)).square().sum()
    if not len(dead) or not variance > 0:  # nobody to revive, or nothing missed
        return error.new_zeros(())
    W_enc, b_enc, W_dec = (w[name][dead] for name in ("W_enc", "b_enc", "W_dec"))
    k = min(aux.k, len(dead))
    if weight_f is None:
        idx, val = preselect.top_k(inputs_nd, W_enc, b_enc, k, signed=aux.signed)
    else:
        weight = weight_f[dead].clamp_min(torch.finfo(weight_f.dtype).tiny)  # a decoder row of norm 0 is chosen as 0
        idx, val = preselect.top_k(inputs_nd, W_enc * weight[:, None], b_enc * weight, k, signed=aux.signed)
        val = val / weight[idx]
    codes, ends = Codes.padded(idx, val, len(dead)), (len(dead),)
    factor = -2 * aux.alpha * min(len(dead) / aux.k, 1.0) / variance
    missed = codes.missed(error, W_dec, ends, factor[None])
    for name, gradient in codes.weight_gradients(missed, inputs_nd, ends, train_encoder="W_enc" in g).items():
        g[name][dead] += gradient
    return missed.square_ln.sum() / variance
