"""Near-duplicates: texts whose character 4-gram tf-idf vectors have a cosine of at least .7, found exactly.

A random row split leaks when a data set holds paraphrases and copies: AdvBench repeats itself, JailbreakBench was
partly drawn from it, and the sae-probes files were balanced by repeating rows. Everything that must not straddle a
border (parts of a split, folds, training against shift) goes by the clusters made here.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

THRESHOLD = 0.7
_BITS = 22  # 4-grams are hashed to 2**22 columns, so that texts seen later need no vocabulary


def canonical(text: str) -> str:
    """The form in which texts are compared: lower case, single spaces.

    >>> canonical("  How do I\\n bake?")
    'how do i bake?'
    """
    return " ".join(text.lower().split())


def gram_counts(texts: Sequence[str]) -> sparse.csr_matrix:
    """Counts of each character 4-gram: one row per text, hashed columns; a text under 4 characters is padded."""
    codes = [np.frombuffer(canonical(text).ljust(4).encode("utf-32-le"), dtype=np.uint32) for text in texts]
    lengths = np.array([len(code) for code in codes], dtype=np.int64)
    flat = np.concatenate([*codes, np.zeros(3, np.uint32)]).astype(np.uint64)
    n = len(flat) - 3
    packed = flat[:n] | flat[1 : n + 1] << np.uint64(16) | flat[2 : n + 2] << np.uint64(32) | flat[3:] << np.uint64(48)
    last_start = np.repeat(np.cumsum(lengths) - 4, lengths)  # the last 4-gram that does not reach into the next text
    columns = _mix(packed[np.arange(n) <= last_start])
    indptr = np.concatenate([[0], np.cumsum(lengths - 3)])
    counts = sparse.csr_matrix((np.ones(len(columns), np.float32), columns, indptr), shape=(len(texts), 2**_BITS))
    counts.sum_duplicates()
    return counts


def inverse_frequency(counts: sparse.csr_matrix) -> np.ndarray:
    """Smoothed inverse document frequency of every column, as scikit-learn's TfidfTransformer defines it."""
    document_frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    return (np.log((1 + counts.shape[0]) / (1 + document_frequency)) + 1).astype(np.float32)


def unit_rows(counts: sparse.csr_matrix, idf: np.ndarray) -> sparse.csr_matrix:
    """tf-idf rows of length one, so that a dot product is a cosine."""
    rows = counts.copy()
    rows.data *= idf[rows.indices]
    squares = np.add.reduceat(np.append(rows.data**2, 0), rows.indptr[:-1])
    rows.data /= np.repeat(np.sqrt(squares), np.diff(rows.indptr))
    return rows


def near_pairs(
    left: sparse.csr_matrix, right: sparse.csr_matrix, threshold: float = THRESHOLD, block: int = 256
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Every (i, j, cosine) with cosine(left[i], right[j]) >= threshold, block by block of `left`.

    Common 4-grams make nearly every pair overlap, and cost nearly all the time. They are left out of the first pass:
    with x = common + rare and |y| = 1, x.y >= t needs rare.y >= t - |common| (Bayardo, Ma and Srikant 2007, "Scaling
    up all pairs similarity search"); what passes is computed in full, so no pair is lost.
    """
    rare, common_norm = _without_common(left, right, threshold)
    transposed = right.T.tocsr()
    for start in range(0, left.shape[0], block):
        found = (rare[start : start + block] @ transposed).tocoo()
        i = found.row + start
        possible = found.data >= threshold - common_norm[i] - 1e-5  # float32 sums
        i, j = i[possible], found.col[possible]
        cosine = np.asarray(left[i].multiply(right[j]).sum(axis=1)).ravel()
        near = cosine >= threshold
        yield i[near], j[near], cosine[near]


def clusters(texts: Sequence[str], threshold: float = THRESHOLD, idf: np.ndarray | None = None) -> np.ndarray:
    """Cluster number of each text: connected components of the near-duplicate graph, numbered by first appearance.

    >>> clusters(["how do I bake a cake?", "name a river", "How do I bake a cake"]).tolist()
    [0, 1, 0]
    """
    if not len(texts):
        return np.zeros(0, dtype=np.int64)
    counts = gram_counts(texts)
    rows = unit_rows(counts, inverse_frequency(counts) if idf is None else idf)
    edges = [(i, j) for i, j, _ in near_pairs(rows, rows, threshold)]
    i, j = (np.concatenate(ends) for ends in zip(*edges, strict=True))
    return _components(i, j, len(texts))


def joined_by_group(cluster: np.ndarray, group: Sequence[str]) -> np.ndarray:
    """Clusters merged where rows share a group; the empty string is no group.

    >>> joined_by_group(np.array([0, 1, 2, 3]), ["", "a", "", "a"]).tolist()
    [0, 1, 2, 1]
    """
    rows = np.arange(len(cluster))
    name, number = np.unique(np.asarray(group, dtype=str), return_inverse=True)
    grouped = name[number] != ""
    hub = np.concatenate([len(rows) + cluster, len(rows) + cluster.max(initial=0) + 1 + number[grouped]])
    return _components(np.concatenate([rows, rows[grouped]]), hub, len(rows))


def _components(i: np.ndarray, j: np.ndarray, n: int) -> np.ndarray:
    """Connected component of the first `n` nodes of a graph with edges (i, j), numbered by first appearance."""
    size = max(n, int(max(i.max(initial=0), j.max(initial=0))) + 1)
    graph = sparse.coo_matrix((np.ones(len(i), np.int8), (i, j)), shape=(size, size))
    label = connected_components(graph, directed=False)[1][:n]
    _, first_seen, component = np.unique(label, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first_seen))[component]


def _mix(packed: np.ndarray) -> np.ndarray:
    """Column of each packed 4-gram: the splitmix64 finaliser (a plain multiplication collided in families)."""
    z = (packed ^ packed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return (z >> np.uint64(64 - _BITS)).astype(np.int32)


def _without_common(
    left: sparse.csr_matrix, right: sparse.csr_matrix, threshold: float
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """`left` without each row's most frequent columns, and the norm of what was left out of each row.

    At most 0.7 of the threshold is left out: more would save products but let too many pairs through to be checked.
    """
    frequency = np.bincount(right.indices, minlength=right.shape[1])[left.indices]
    row = np.repeat(np.arange(left.shape[0]), np.diff(left.indptr))
    order = np.lexsort((left.indices, -frequency, row))  # inside each row, frequent columns first
    squares = left.data[order].astype(np.float64) ** 2
    running = np.cumsum(squares)
    before_row = np.concatenate([[0.0], running])[left.indptr[:-1]]
    common = running - before_row[row] <= (0.7 * threshold) ** 2
    norm = np.sqrt(np.bincount(row[common], squares[common], minlength=left.shape[0]))
    keep = order[~common]
    kept = (left.data[keep], (row[~common], left.indices[keep]))
    return sparse.csr_matrix(kept, shape=left.shape), norm
