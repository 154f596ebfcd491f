"""Active latents straight from the rows: the encoder's product and the selection, a few hundred rows at a time.

All pre-activations together are 268 MB for 4,096 rows and 16,384 latents; a chunk of them is still in the cache when
its largest are picked. Where the processor multiplies bfloat16, about twice as fast as float32, the product only says
which latents may be among the largest; their pre-activations are then worked out again in float32, and these decide.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from theodolite.dictionaries.ops import sparse
from theodolite.dictionaries.ops.codes import Codes

CHUNK = 2**23  # pre-activations held at once: 32 MB; smaller products waste more time than the cache saves
MARGIN = 16  # candidates beyond k: a bfloat16 product errs by less than the gap between the k-th and so many later
SAMPLE = 64  # rows that say where a batch's threshold will lie
SLACK = 0.8  # how far below that all entries are collected


@cache
def multiplies_bfloat16() -> bool:
    """Return whether this processor multiplies bfloat16 natively; elsewhere products are emulated, and slow."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported()


def top_k(x_nd: Tensor, W_fd: Tensor, b_f: Tensor, k: int, *, signed: bool = False) -> tuple[Tensor, Tensor]:
    """`sparse.top_k` of W x + b.

    >>> idx, val = top_k(torch.tensor([[3.0, 1.0]]), torch.eye(2), torch.tensor([0.0, 5.0]), 1)
    >>> idx.tolist(), val.tolist()
    ([[1]], [[6.0]])
    """
    if not sparse.on_kernels(x_nd, W_fd, b_f):
        return sparse.top_k(torch.addmm(b_f, x_nd, W_fd.T), k, signed=signed)
    if multiplies_bfloat16() and k + MARGIN < len(W_fd):
        return _refined_top_k(x_nd, W_fd, b_f, k, signed)
    found = [sparse.top_k(pre, k, signed=signed) for pre in products(x_nd, W_fd, b_f)]
    idx, val = zip(*found, strict=True)
    return torch.cat(idx), torch.cat(val)


def batch_top_k(x_nd: Tensor, W_fd: Tensor, b_f: Tensor, k: int) -> Codes:
    """The k n largest positive pre-activations of all n rows together (2412.06410); fewer if fewer are positive.

    >>> batch_top_k(torch.tensor([[3.0, 2.0], [1.0, 0.0]]), torch.eye(2), torch.zeros(2), 1).value.tolist()
    [3.0, 2.0]
    """
    wanted = k * len(x_nd)
    if not sparse.on_kernels(x_nd, W_fd, b_f):
        positive = sparse.exceeding(torch.addmm(b_f, x_nd, W_fd.T), torch.zeros_like(b_f))
        return _largest(Codes(*positive, len(W_fd)), wanted)
    level = _expected_level(x_nd, W_fd, b_f, k)
    for low in (level, level / 4, 0.0):  # the first is almost always low enough
        found = _roughly_above(x_nd, W_fd, b_f, torch.full_like(b_f, low))
        if len(found.value) >= wanted:
            break
    return _largest(_where(found, found.value > 0), wanted)


def products(x_nd: Tensor, W_fd: Tensor, b_f: Tensor) -> Iterator[Tensor]:
    """W x + b of one chunk of rows after the other; all are views of the same memory."""
    size = max(CHUNK // len(W_fd), 1)
    buffer = x_nd.new_empty(min(size, len(x_nd)), len(W_fd))
    for part in x_nd.split(size):
        yield torch.addmm(b_f, part, W_fd.T, out=buffer[: len(part)])


def _roughly_above(x_nd: Tensor, W_fd: Tensor, b_f: Tensor, low_f: Tensor) -> Codes:
    """The pre-activations that exceed their latent's level, in float32 on the CPU; levels are 0 or more.

    With bfloat16 products an entry within their error of its level may be missing or too many.
    """
    from theodolite.dictionaries.ops import kernels

    rough = multiplies_bfloat16()
    factors = [t.bfloat16() if rough else t for t in (x_nd, W_fd, b_f, low_f)]
    low = _bits(factors.pop())
    found = [kernels.run(kernels.above, _bits(pre), low) for pre in products(*factors)]
    starts, latents, values = ([torch.from_numpy(a) for a in arrays] for arrays in zip(*found, strict=True))
    counts = torch.cat([s.diff() for s in starts])
    whole = Codes(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), torch.cat(latents), torch.cat(values), len(W_fd))
    return replace(whole, value=_exact(x_nd, W_fd, b_f, whole)) if rough else whole


def _bits(t: Tensor) -> Tensor:
    """bfloat16 as the integers that sort alike where numbers are positive, for numba knows no bfloat16."""
    return t.view(torch.int16) if t.dtype == torch.bfloat16 else t


def _refined_top_k(x_nd: Tensor, W_fd: Tensor, b_f: Tensor, k: int, signed: bool) -> tuple[Tensor, Tensor]:
    """Candidates by bfloat16, their pre-activations and the choice among them in float32."""
    from theodolite.dictionaries.ops import kernels

    found = []
    for pre in products(x_nd.bfloat16(), W_fd.bfloat16(), b_f.bfloat16()):
        shape = (len(pre), k + MARGIN)
        found.append((torch.empty(shape, dtype=torch.int64), torch.empty(shape, dtype=torch.int16)))
        kernels.run(kernels.top_k, _bits(pre.abs_() if signed else pre), k + MARGIN, *found[-1])
    candidates, rough = (torch.cat(parts) for parts in zip(*found, strict=True))
    score = _exact(x_nd, W_fd, b_f, Codes.padded(candidates, rough, len(W_fd))).view(candidates.shape)
    at, val = sparse.top_k(score * (rough != 0), k, signed=signed)
    return candidates.gather(1, at), val


def _exact(x_nd: Tensor, W_fd: Tensor, b_f: Tensor, codes: Codes) -> Tensor:
    """The pre-activation of every slot, in float32."""
    from theodolite.dictionaries.ops import kernels

    out_m = x_nd.new_empty(len(codes.latent))
    kernels.run(kernels.pre_activations, x_nd.contiguous(), W_fd.contiguous(), b_f, codes.starts, codes.latent, out_m)
    return out_m


def _expected_level(x_nd: Tensor, W_fd: Tensor, b_f: Tensor, k: int) -> float:
    """A little below the batch's threshold, by some of its rows; what is chosen does not depend on it, time does."""
    some = x_nd[:: max(len(x_nd) // SAMPLE, 1)]
    _, val = sparse.top_k(torch.addmm(b_f, some, W_fd.T), min(2 * k, len(W_fd)))
    return SLACK * float(val.flatten().topk(k * len(some)).values[-1].nan_to_num())


def _largest(codes: Codes, wanted: int) -> Codes:
    """The `wanted` largest slots of all; of equal ones the first."""
    v = codes.value
    if len(v) <= wanted:
        return codes
    last = v.kthvalue(len(v) - wanted + 1).values
    keep = v > last
    keep[(v == last).nonzero().squeeze(1)[: wanted - int(keep.sum())]] = True
    return _where(codes, keep)


def _where(codes: Codes, keep: Tensor) -> Codes:
    """The slots that are to be kept."""
    starts = torch.nn.functional.pad(keep.cumsum(0), (1, 0))[codes.starts]
    return Codes(starts, codes.latent[keep], codes.value[keep], codes.width)
