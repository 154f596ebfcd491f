"""The loss of TopK and its kin, and its gradients, written out so that they touch only active latents.

    z = the active latents of W_enc (x - b_dec) + b_enc,  x̂ = z W_dec + b_dec
    L = |x - x̂|² / |x - x̄|²  +  alpha min(|D| / k_aux, 1) |e - ê|² / |e - ē|²,    e = x - x̂ held fixed

The second term is AuxK (`auxiliary.py`), ê = TopK_{k_aux}(the dead latents D) W_dec. Sums run over the rows of a
batch, x̄ and ē are its means. For a Matryoshka dictionary |x - x̂|² is a weighted mean over nested dictionaries, the
first so many latents each. Equality with autograd is a test.
"""

from torch import Tensor

from theodolite.dictionaries.ops import preselect
from theodolite.dictionaries.ops.codes import Codes
from theodolite.dictionaries.training.auxiliary import AuxK, add_auxiliary
from theodolite.dictionaries.training.learner import Step

Weights = dict[str, Tensor]


def step(w: Weights, x_nd: Tensor, k: int, dead: Tensor, aux: AuxK, *, train_encoder: bool) -> Step:
    """TopK: loss and gradients of one batch by W_enc, b_enc, W_dec, b_dec; `dead` is a mask over latents."""
    centred = x_nd - w["b_dec"]
    codes = Codes.padded(*preselect.top_k(centred, w["W_enc"], w["b_enc"], k), len(w["W_enc"]))
    return step_of(w, x_nd, centred, codes, dead, aux, train_encoder=train_encoder)


def step_of(
    w: Weights,
    x_nd: Tensor,
    centred: Tensor,
    codes: Codes,
    dead: Tensor,
    aux: AuxK,
    *,
    train_encoder: bool,
    nested: dict[int, float] | None = None,
) -> Step:
    """Step for any choice of active latents; `centred` is x - b_dec.

    nested: weight of the error that latents below a number leave, by that number, ascending.
    """
    nested = nested or {codes.width: 1.0}
    ends, weight_l = tuple(nested), x_nd.new_tensor(list(nested.values()))
    variance = (x_nd - x_nd.mean(0)).square().sum()
    missed = codes.missed(centred, w["W_dec"], ends, weight_l * (-2 / variance))
    g = codes.weight_gradients(missed, centred, ends, train_encoder=train_encoder)
    error = missed.g_lnd[-1] * (variance / (-2 * weight_l[-1]))
    aux_loss = add_auxiliary(g, w, centred, error, dead.nonzero().squeeze(1), aux)
    # through x - b_dec: summing g_pre over rows first costs f products, not n k
    g["b_dec"] = missed.g_lnd[0].sum(0) - g["b_enc"] @ w["W_enc"]
    fvu_l = missed.square_ln.sum(1) / variance
    losses = {"fvu": fvu_l[-1], "aux": aux_loss} | ({"nested": fvu_l @ weight_l} if len(ends) > 1 else {})
    return Step(losses, g, codes.fired, codes.l0)
