"""Loops over active latents that no tensor library has: numba, CPU, float32; `sparse.py` says what each computes.

Codes are flat, row after row: row n owns slots starts[n] to starts[n + 1], a slot is a latent and its value, and a
value of 0 is an empty slot. Every row, latent or parameter row is worked out by one thread in a fixed order, so results
do not depend on the number of threads. Import this module where it is used: it loads numba.
"""

import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
# Sums may be reordered and fused, which vectorises them; NaN and infinity stay what they are.
HOW: dict[str, Any] = {"cache": True, "nogil": True, "fastmath": {"reassoc", "contract", "nsz", "arcp"}}
TASKS = 64  # row loops are cut into as many tasks, each with its own scratch memory
BLOCKS = 512  # fewest blocks of latents whose maxima bound a row's k-th largest value
MOST_THREADS: int = vars(numba.config)["NUMBA_NUM_THREADS"]
_one_at_a_time = threading.Lock()  # numba's own thread pool ends the process when two threads enter it


def run(kernel: Callable[..., Any], *arguments: Any) -> Any:
    """Call a kernel with tensors as arrays, on as many threads as torch uses."""
    arrays = [a.detach().numpy() if isinstance(a, Tensor) else a for a in arguments]
    threads = torch.get_num_threads()
    with _one_at_a_time:
        # numba refuses more threads than it started with, and torch may have been told of more
        numba.set_num_threads(min(threads, MOST_THREADS))
        result = kernel(*arrays)
    if torch.get_num_threads() != threads:  # numba's first kernel sets the OpenMP default that torch reads: all cores
        torch.set_num_threads(threads)
    return result


@njit(**HOW)
def _block_maxima(row: Array, maxima: Array) -> None:
    """Set maxima[j] to the largest of row[j], row[j + blocks], ...; at least 0, and NaN if any is.

    Strided blocks, slices and np.maximum are what LLVM vectorises: 1.7 us for 16,384 numbers, 8.4 with a comparison.
    """
    maxima[:] = 0
    for first in range(0, len(row), len(maxima)):
        part = row[first : first + len(maxima)]
        for j in range(len(part)):
            maxima[j] = np.maximum(part[j], maxima[j])


@njit(**HOW)
def _lower_bound(maxima: Array, k: int) -> Any:
    """Return a value that at least k maxima reach and few more than k, or 0; NaN if one of them is.

    k maxima at or above it are k values of the row at or above it, so the k largest are. Bisection instead of a sort
    of the maxima: a count of 512 numbers takes 30 ns.
    """
    low, high = maxima.dtype.type(0), maxima.max()
    if high != high:  # NaN: `fastmath` here assumes nothing about NaN, so the comparison stays
        return high
    for _ in range(24):  # as many halvings as float32 has bits of precision
        middle = maxima.dtype.type(low + (high - low) / 2)
        reached = np.int32(0)
        for j in range(len(maxima)):
            reached += np.int32(1) if maxima[j] >= middle else np.int32(0)
        if reached < k:
            high = middle
        else:
            low = middle
            if reached <= k + k // 8:  # an eighth too many candidates costs less than the steps to the exact bound
                break
    return low


@njit(**HOW)
def _candidates(row: Array, maxima: Array, bound: Any, latent: Array, value: Array) -> int:
    """Collect the positive values at or above the bound, as many as there is room for; return how many there are."""
    blocks, found = len(maxima), 0
    for j in range(blocks):
        if maxima[j] > 0 and maxima[j] >= bound:
            for at in range(j, len(row), blocks):
                if row[at] > 0 and row[at] >= bound:
                    if found < len(latent):  # count on past the end: the caller then knows how much room it needs
                        latent[found], value[found] = at, row[at]
                    found += 1
    return found


@njit(**HOW)
def _select(latent: Array, value: Array, size: int, k: int) -> None:
    """Move the k largest of `size` values to the front (quickselect; no NaN)."""
    first, last = 0, size - 1
    while first < last:
        pivot = value[(first + last) // 2]
        i, j = first, last
        while i <= j:
            # strict on both sides: equal values swap, which keeps rows full of ties from going quadratic
            while value[i] > pivot:
                i += 1
            while value[j] < pivot:
                j -= 1
            if i <= j:
                value[i], value[j] = value[j], value[i]
                latent[i], latent[j] = latent[j], latent[i]
                i += 1
                j -= 1
        if k - 1 <= j:
            last = j
        elif k - 1 >= i:
            first = i
        else:
            return


@njit(**HOW)
def _top_k_of_row(row: Array, k: int, maxima: Array, latent: Array, value: Array) -> None:
    _block_maxima(row, maxima)
    bound = _lower_bound(maxima, k)
    room = min(len(row), 4 * k + 64)  # a larger array would be mapped and faulted in anew for every row
    at, v = np.empty(room, np.int64), np.empty(room, row.dtype)
    found = _candidates(row, maxima, bound, at, v)
    if found > room:
        at, v = np.empty(found, np.int64), np.empty(found, row.dtype)
        _candidates(row, maxima, bound, at, v)
    if found > k:
        _select(at, v, found, k)
    kept = min(found, k)
    latent[:kept], value[:kept] = at[:kept], v[:kept]
    latent[kept:], value[kept:] = 0, 0
    if bound != bound:  # every slot NaN, so that no sum over the code can hide it
        value[:] = bound


@njit(parallel=True, **HOW)
def top_k(pre: Array, k: int, latent: Array, value: Array) -> None:
    """Write the k largest positive entries of every row in any order; left slots are 0, or NaN if the row has NaN."""
    n, width = pre.shape
    blocks = BLOCKS
    # The bound is loose where several of the k largest share a block. At 8 blocks for each, about k / 16 pairs do.
    while blocks < 8 * k:
        blocks *= 2
    blocks = min(blocks, width)
    for i in prange(n):
        _top_k_of_row(pre[i], k, np.empty(blocks, pre.dtype), latent[i], value[i])


@njit(**HOW)
def _hits(row: Array, level: Array, hits: Array) -> Any:
    """Count in hits[j] how many of row[j], row[j + blocks], ... exceed their level or are NaN; return the sum."""
    hits[:] = 0
    for first in range(0, len(row), len(hits)):
        part, low = row[first : first + len(hits)], level[first : first + len(hits)]
        for j in range(len(part)):
            hits[j] += not (part[j] <= low[j])  # the negation is true of NaN too; `>` would drop it
    return hits.sum()


@njit(**HOW)
def _fill(row: Array, level: Array, hits: Array, latent: Array, value: Array) -> None:
    """Write the latents and values of the entries that `_hits` has counted."""
    found = 0
    for j in range(len(hits)):
        if hits[j] > 0:
            for at in range(j, len(row), len(hits)):
                if not (row[at] <= level[at]):
                    latent[found], value[found] = at, row[at]
                    found += 1


@njit(parallel=True, **HOW)
def above(pre: Array, level: Array) -> tuple[Array, Array, Array]:
    """Return the entries that exceed their latent's level, or are NaN, as a flat code: starts, latents, values."""
    n, width = pre.shape
    hits = np.empty((n, min(BLOCKS, width)), np.int16)
    starts = np.zeros(n + 1, np.int64)
    # Count, sum up, then write: each thread knows its slots, and the code has one order for any number of threads.
    for i in prange(n):
        starts[i + 1] = _hits(pre[i], level, hits[i])
    for i in range(n):
        starts[i + 1] += starts[i]
    latent, value = np.empty(starts[n], np.int64), np.empty(starts[n], pre.dtype)
    for i in prange(n):
        first, last = starts[i], starts[i + 1]
        _fill(pre[i], level, hits[i], latent[first:last], value[first:last])
    return starts, latent, value


@njit(**HOW)
def _dot(a: Array, b: Array) -> Any:
    total = np.float32(0)  # a Python 0 would make the sum float64, and the loop half as wide
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


@njit(parallel=True, **HOW)
def pre_activations(x: Array, W: Array, b: Array, starts: Array, latent: Array, value: Array) -> None:
    """<x[n], W[latent]> + b[latent] at every slot."""
    for i in prange(len(x)):
        row = x[i]
        for slot in range(starts[i], starts[i + 1]):
            value[slot] = _dot(row, W[latent[slot]]) + b[latent[slot]]


@njit(parallel=True, **HOW)
def decode(starts: Array, latent: Array, value: Array, W: Array, out: Array) -> None:
    """out[n] = sum of value W[latent] over the slots of row n."""
    for i in prange(len(out)):
        row = out[i]
        row[:] = 0
        for slot in range(starts[i], starts[i + 1]):
            v, w = value[slot], W[latent[slot]]
            if v != 0:
                for j in range(len(row)):
                    row[j] += v * w[j]


@njit(parallel=True, **HOW)
def row_dots(g: Array, W: Array, starts: Array, latent: Array, out: Array) -> None:
    """<g[n], W[latent]> at every slot."""
    for i in prange(len(g)):
        row = g[i]
        for slot in range(starts[i], starts[i + 1]):
            out[slot] = _dot(row, W[latent[slot]])


@njit(parallel=True, **HOW)
def missed(
    target: Array,
    starts: Array,
    latent: Array,
    value: Array,
    W: Array,
    ends: Array,
    factor: Array,
    square: Array,
    g: Array,
    dots: Array,
) -> None:
    """Compute the residual of each row after the latents before ends[l], for every l, and the gradients of its squares.

    e[l] = target - sum of value W[latent] over latents < ends[l]; square[l, n] = |e[l]|²; g[l, n] = sum of factor[m]
    e[m] over m >= l, the gradient for latents from ends[l - 1] on; dots = <g[l of the latent, n], W[latent]>, 0 at
    empty slots. One pass, since a row's k rows of W come from far and are still in the cache for the dots.
    """
    for i in prange(len(target)):
        left = target[i].copy()
        for level in range(len(ends)):
            first = ends[level - 1] if level else 0
            for slot in range(starts[i], starts[i + 1]):
                v, f = value[slot], latent[slot]
                if (v != 0) & (f >= first) & (f < ends[level]):  # `&`: one branch instead of three
                    w = W[f]
                    for j in range(len(w)):
                        left[j] -= v * w[j]
            square[level, i] = _dot(left, left)
            for j in range(len(left)):
                g[level, i, j] = factor[level] * left[j]
        # From the last level back: g[l] sums the later ones, since an early latent is part of every later prefix.
        for level in range(len(ends) - 2, -1, -1):
            for j in range(len(left)):
                g[level, i, j] += g[level + 1, i, j]
        for level in range(len(ends)):
            first, row = ends[level - 1] if level else 0, g[level, i]
            for slot in range(starts[i], starts[i + 1]):
                f = latent[slot]
                if (f >= first) & (f < ends[level]):
                    dots[slot] = _dot(row, W[f]) if value[slot] != 0 else np.float32(0)


@njit(**HOW)
def by_latent(starts: Array, latent: Array, width: int) -> tuple[Array, Array, Array]:
    """Return the slots in order of latent, then row (a counting sort): slot, row, and each latent's first slot."""
    begin = np.zeros(width + 1, np.int64)
    for slot in range(len(latent)):
        begin[latent[slot] + 1] += 1
    for f in range(width):
        begin[f + 1] += begin[f]
    to = begin[:-1].copy()
    order, row = np.empty(len(latent), np.int64), np.empty(len(latent), np.int64)
    for i in range(len(starts) - 1):
        for slot in range(starts[i], starts[i + 1]):
            f = latent[slot]
            order[to[f]], row[to[f]] = slot, i
            to[f] += 1
    return order, row, begin


@njit(**HOW)
def _shares(begin: Array, tasks: int) -> Array:
    """Return cuts of the latents that give every task about as many slots, an idle latent counting as one."""
    # A latent's row of the sum must be written even where it has no slot, which costs about one slot. Few latents fire
    # often: equal counts of latents would leave most threads waiting for one.
    work = begin + np.arange(len(begin))
    return np.searchsorted(work, work[0] + (work[-1] - work[0]) * np.arange(tasks + 1) / tasks)


@njit(parallel=True, **HOW)
def sum_by_latent(order: Array, row: Array, begin: Array, weight: Array, rows: Array, out: Array) -> None:
    """out[f] = sum of weight rows[row] over the slots of latent f."""
    shares = _shares(begin, TASKS)
    for task in prange(TASKS):
        for f in range(shares[task], min(shares[task + 1], len(out))):
            total = out[f]  # one task owns the latent, so no two threads add to it and the order of the sum is fixed
            total[:] = 0
            for p in range(begin[f], begin[f + 1]):
                v, x = weight[order[p]], rows[row[p]]
                if v != 0:
                    for j in range(len(total)):
                        total[j] += v * x[j]


@njit(parallel=True, **HOW)
def two_sums_by_latent(
    order: Array,
    row: Array,
    begin: Array,
    weight_a: Array,
    rows_a: Array,
    out_a: Array,
    weight_b: Array,
    rows_b: Array,
    out_b: Array,
    sum_b: Array,
) -> None:
    """Compute `sum_by_latent` of two weights in one pass, and the sums of the second weight alone."""
    shares = _shares(begin, TASKS)
    for task in prange(TASKS):
        for f in range(shares[task], min(shares[task + 1], len(out_a))):
            a, b, alone = out_a[f], out_b[f], np.float32(0)
            a[:], b[:] = 0, 0
            for p in range(begin[f], begin[f + 1]):
                v, g, x, y = weight_a[order[p]], weight_b[order[p]], rows_a[row[p]], rows_b[row[p]]
                alone += g
                if (v != 0) | (g != 0):
                    for j in range(len(a)):
                        a[j] += v * x[j]
                        b[j] += g * y[j]
            sum_b[f] = alone


@njit(parallel=True, **HOW)
def gradient_norms(g: Array, w: Array, remove_along: bool, along: Array, square: Array) -> None:
    """Compute |g|² of every row without its component along w, if that is to go; `along` gets the component."""
    for f in prange(len(g)):
        a, b, total = g[f], w[f], np.float32(0)
        # Rows of unit norm: the part of a gradient along its row would only stretch it, and `normalise` takes it back.
        dot = _dot(a, b) if remove_along else np.float32(0)
        for j in range(len(a)):
            total += (a[j] - dot * b[j]) ** 2
        along[f], square[f] = dot, total


@njit(parallel=True, **HOW)
def adam(
    w: Array,
    g: Array,
    along: Array,
    mean: Array,
    square: Array,
    factor: float,
    beta1: float,
    beta2: float,
    rate: float,
    root: float,
    eps: float,
) -> None:
    """Take one Adam step of every row, idle ones too: g becomes factor (g - along w), then the moments and w move."""
    b1, b2, c1, c2 = np.float32(beta1), np.float32(beta2), np.float32(1 - beta1), np.float32(1 - beta2)
    # rate and root hold the bias corrections of Kingma & Ba (2015), which are the same for every number. All are
    # float32, or numba would compute the loop in float64.
    scale, lr, r, e = np.float32(factor), np.float32(rate), np.float32(root), np.float32(eps)
    for f in prange(len(w)):
        row, slope, first, second, a = w[f], g[f], mean[f], square[f], along[f]
        for j in range(len(row)):
            d = scale * (slope[j] - a * row[j])
            first[j] = b1 * first[j] + c1 * d
            second[j] = b2 * second[j] + c2 * d * d
            row[j] -= lr * first[j] / (np.sqrt(second[j]) * r + e)


@njit(parallel=True, **HOW)
def normalise(w: Array) -> None:
    """Give every row norm 1."""
    for f in prange(len(w)):
        row = w[f]
        inverse = np.float32(1) / np.sqrt(_dot(row, row))
        for j in range(len(row)):
            row[j] *= inverse
