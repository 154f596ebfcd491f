"""Active latents of wide dictionaries, a tile of rows and latents at a time: memory does not grow with the width.

All pre-activations of 4,096 rows and 1,048,576 latents are 17 GB; a tile of them is 268 MB. A tile's product is the
whole product's to the last digits only, since libraries sum in another order for another shape; what is chosen of the
pre-activations is exact.

Shapes: n rows, d inputs, f latents.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from theodolite.dictionaries.ops import sparse

CELLS = 2**26  # pre-activations held at once; up to here everything is one tile, as it was before there were tiles
ROWS = 4096  # rows of a tile: enough that the encoder, read once per block of rows, is not what takes the time

# (slice of latents, their pre-activations) -> activations, for one block of latents
LatentRule = Callable[[slice, Tensor], Tensor]


def top_k(x_nd: Tensor, W_fd: Tensor, b_f: Tensor, k: int, *, signed: bool = False) -> tuple[Tensor, Tensor]:
    """Indices and values (n, k) as of `sparse.top_k`, of W x + b; the best k so far compete with those of each tile.

    Of equal values any may be taken, as by `torch.topk`.

    >>> idx, val = top_k(torch.tensor([[3.0, 1.0]]), torch.eye(2), torch.tensor([0.0, 5.0]), 1)
    >>> idx.tolist(), val.tolist()
    ([[1]], [[6.0]])
    """
    found = [_top_k_of_block(x, W_fd, b_f, k, signed) for x in x_nd.split(ROWS)]
    idx, val = zip(*found, strict=True)
    return torch.cat(idx), torch.cat(val)


def active(x_nd: Tensor, W_fd: Tensor, b_f: Tensor, rule: LatentRule) -> tuple[Tensor, Tensor]:
    """Indices and values (n, k) of the latents that are not 0, k the most of any row; empty slots have value 0.

    rule: an activation that looks at each latent by itself.

    >>> idx, val = active(torch.eye(2), torch.eye(2), torch.zeros(2), lambda part, pre: pre.relu())
    >>> idx.tolist(), val.tolist()
    ([[0], [1]], [[1.0], [1.0]])
    """
    rows, latents, values = [], [], []
    for number, x in enumerate(x_nd.split(ROWS)):
        for part, pre in _tiles(x, W_fd, b_f):
            z = rule(part, pre)
            row, latent = z.nonzero(as_tuple=True)
            rows.append(row + number * ROWS)
            latents.append(latent + part.start)
            values.append(z[row, latent])
    empty = torch.empty(0, dtype=torch.int64, device=x_nd.device)
    row_m, latent_m = (torch.cat(parts) if parts else empty for parts in (rows, latents))
    value_m = torch.cat(values) if values else b_f.new_empty(0)
    return _padded(row_m, latent_m, value_m, len(x_nd))


def row_blocks(n_rows: int, width: int) -> int:
    """Rows of a block, for rules that have to see all latents of a row at once."""
    return max(min(n_rows, CELLS // width), 1)


def _tiles(x_nd: Tensor, W_fd: Tensor, b_f: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """W x + b of one block of latents after the other, with the place of the block."""
    step = max(CELLS // max(len(x_nd), 1), 1)
    for first in range(0, len(W_fd), step):
        part = slice(first, min(first + step, len(W_fd)))
        yield part, torch.addmm(b_f[part], x_nd, W_fd[part].T)


def _top_k_of_block(x_nd: Tensor, W_fd: Tensor, b_f: Tensor, k: int, signed: bool) -> tuple[Tensor, Tensor]:
    best: tuple[Tensor, Tensor] | None = None
    for part, pre in _tiles(x_nd, W_fd, b_f):
        idx, val = sparse.top_k(pre, min(k, pre.shape[1]), signed=signed)
        idx = idx + part.start
        if best is not None:
            idx, val = torch.cat([best[0], idx], 1), torch.cat([best[1], val], 1)
            at = (val.abs() if signed else val).topk(min(k, val.shape[1]), dim=1, sorted=False).indices
            idx, val = idx.gather(1, at), val.gather(1, at)
        best = idx, val
    assert best is not None, "a dictionary has latents"
    return best


def _padded(row_m: Tensor, latent_m: Tensor, value_m: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Entries in any order as (n, k) slots."""
    row_m, order = row_m.sort(stable=True)
    counts = torch.bincount(row_m, minlength=n)
    k = max(int(counts.max()), 1) if n else 1
    slot_m = torch.arange(len(row_m), device=row_m.device) - (counts.cumsum(0) - counts)[row_m]
    idx_nk, val_nk = latent_m.new_zeros(n, k), value_m.new_zeros(n, k)
    idx_nk[row_m, slot_m], val_nk[row_m, slot_m] = latent_m[order], value_m[order]
    return idx_nk, val_nk
