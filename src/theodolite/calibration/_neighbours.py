"""Exact nearest neighbours among the support: squared distances in float64, ties by the lower index."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

Array = np.ndarray
Search = Callable[[Array, int], tuple[Array, Array]]
CAP = 256  # neighbours used, in fitting and in use: the q' that decide are 20 to 100 (2509.12760 uses 2,048)
SPARE = 16  # candidates beyond that, so that rounding in their search rarely decides who is among them
_SUPPORTS, _ANSWERS, _MOST_KEPT = 4, 6, 2**20  # cached: supports, answers of each, numbers in one answer
_BLOCK = 2**17  # coordinates of differences at a time: 1 MB, which stays in the processor's cache
_LARGE = 4096  # support rows from which faiss, where it is installed, finds the candidates


class Neighbours:
    """Support rows (m, d): a search by products finds candidates, differences in float64 give distances and order.

    The distance of equal rows is exactly 0, and neither the order nor a distance depends on how many queries are asked
    at once, nor on whether scikit-learn or faiss (the extra `fast`) found the candidates. Memory is that of the rows,
    twice with faiss, and of a few answers: probability, confidence and reasons are asked of the same rows in turn.

    >>> Neighbours(np.array([[0.0], [3.0], [0.0]])).nearest(np.array([[1.0]]), 2)
    (array([[1., 1.]]), array([[0, 2]]))
    """

    def __init__(self, rows_md: Array) -> None:
        self.rows_md = np.ascontiguousarray(rows_md, dtype=None if rows_md.dtype == np.float32 else np.float64)
        self._search = (len(self.rows_md) >= _LARGE and by_faiss(self.rows_md)) or by_scikit(self.rows_md)
        self._largest = float(np.einsum("md,md->m", self.rows_md, self.rows_md, dtype=np.float64).max())
        self._answers: OrderedDict[tuple[bytes, bool], tuple[Array, Array]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.rows_md)

    def nearest(self, rows: Array, k: int, itself: bool = False) -> tuple[Array, Array]:
        """Return squared distances and indices (n, k), nearest first; k is cut to the size of the support.

        itself: the rows are the support's own, in its order, and none is its own neighbour.
        """
        rows_nd = np.asarray(rows, dtype=np.float64)
        k = min(k, len(self) - itself)
        question = (_digest(rows_nd), itself)
        answer = self._answers.pop(question, None)
        if answer is None or answer[0].shape[1] < k:
            answer = self._nearest(rows_nd, k, itself)
        if answer[0].size <= _MOST_KEPT:
            self._answers[question] = answer
        if len(self._answers) > _ANSWERS:
            self._answers.popitem(last=False)
        return answer[0][:, :k].copy(), answer[1][:, :k].copy()

    def _nearest(self, rows_nd: Array, k: int, itself: bool) -> tuple[Array, Array]:
        some_nc, worst_n = self._search(rows_nd.astype(self.rows_md.dtype), min(k + SPARE, len(self)))
        own_n = np.arange(len(rows_nd)) if itself else np.full(len(rows_nd), -1)
        distance_nk, index_nk = self._ordered(rows_nd, some_nc, own_n, k)
        if some_nc.shape[1] < len(self):
            everyone, room_n = np.arange(len(self))[None], self._rounding(rows_nd)
            for n in np.flatnonzero(distance_nk[:, -1] >= worst_n - room_n):  # ties with who was not found
                one = slice(n, n + 1)
                distance_nk[one], index_nk[one] = self._ordered(rows_nd[one], everyone, own_n[one], k)
        return distance_nk, index_nk

    def _ordered(self, rows_nd: Array, some_nc: Array, own_n: Array, k: int) -> tuple[Array, Array]:
        """Return the k nearest candidates of each row, without the row itself."""
        exact_nc = np.empty(some_nc.shape)
        step = max(1, _BLOCK // (some_nc.shape[1] * rows_nd.shape[1]))
        for block in (slice(start, start + step) for start in range(0, len(rows_nd), step)):
            difference_ncd = self.rows_md[some_nc[block]].astype(np.float64)
            difference_ncd -= rows_nd[block, None]
            exact_nc[block] = np.einsum("ncd,ncd->nc", difference_ncd, difference_ncd)
        exact_nc[some_nc == own_n[:, None]] = np.inf
        order = np.lexsort((some_nc, exact_nc), axis=1)[:, :k]
        return np.take_along_axis(exact_nc, order, 1), np.take_along_axis(some_nc, order, 1)

    def _rounding(self, rows_nd: Array) -> Array:
        """Return a bound, (n,), on the rounding error of a squared distance computed from products in float32."""
        size_n = np.einsum("nd,nd->n", rows_nd, rows_nd) + self._largest
        return 4 * rows_nd.shape[1] * float(np.finfo(np.float32).eps) * size_n


_supports: OrderedDict[bytes, Neighbours] = OrderedDict()


def neighbours(rows_md: Array) -> Neighbours:
    """Return the search among these rows, from a cache of the last four supports where equal rows are in it.

    Many calibrators share a support. The cache outlives them: up to four supports with their answers.
    """
    key = _digest(rows_md)
    found = _supports.pop(key) if key in _supports else Neighbours(rows_md)
    _supports[key] = found
    if len(_supports) > _SUPPORTS:
        _supports.popitem(last=False)
    return found


def _digest(rows: Array) -> bytes:
    return hashlib.sha256(repr((rows.shape, rows.dtype.str)).encode() + np.ascontiguousarray(rows).tobytes()).digest()


def by_scikit(rows_md: Array) -> Search:
    """Return a search by scikit-learn: (rows, n) -> indices of the n nearest, squared distance of the farthest."""
    return partial(_asked_of_scikit, NearestNeighbors(algorithm="brute").fit(rows_md))


def by_faiss(rows_md: Array) -> Search | None:
    """Return a search by faiss' flat index, in float32 about the rows' mean; None where faiss is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    centre_d = rows_md.mean(0, dtype=np.float64)
    index = faiss.IndexFlatL2(rows_md.shape[1])
    index.add((rows_md - centre_d).astype(np.float32))
    return partial(_asked_of_faiss, index, centre_d)


def _asked_of_scikit(fitted: NearestNeighbors, rows_nd: Array, n: int) -> tuple[Array, Array]:
    distance_nc, index_nc = fitted.kneighbors(rows_nd, n)
    return index_nc, distance_nc[:, -1] ** 2


def _asked_of_faiss(index: Any, centre_d: Array, rows_nd: Array, n: int) -> tuple[Array, Array]:
    squared_nc, index_nc = index.search((rows_nd - centre_d).astype(np.float32), n)
    return index_nc, squared_nc[:, -1].astype(np.float64)
