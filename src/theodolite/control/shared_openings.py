"""Covariance of the errors of several concepts' mean effects, from the openings that they were measured on together.

A mean over openings errs by the sum of what each opening adds, r_i = (d_i - mean d) / n. Two means on the same openings
err together by sum r_i s_i over the openings that both have: openings of one alone add nothing, so that concepts
without a common opening have covariance 0. Openings are the same where their texts are equal, and those of one group
count as one. What refitting a method adds is taken as independent, since every concept has training texts of its own.

What concepts share beside openings is in no interval of theirs, and not here either: all are conditional on the texts
on which the disturbance is measured.

Shapes: K concepts, S fits, n openings of one concept, c clusters of openings of all concepts.
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Array = np.ndarray


def clusters(openings: Sequence[tuple[Array, Array]]) -> list[Array]:
    """Number the clusters of openings, (n,) for each concept, from its openings' names (n,) and their groups (n,).

    Two openings are of one cluster where their names are equal, or a concept has them in one group, or by a chain of
    both. Groups of different concepts have nothing in common by their names.

    >>> joy, fear = (np.array(["a", "b"]), np.array([0, 1])), (np.array(["b", "c"]), np.array([0, 0]))
    >>> [one.tolist() for one in clusters([joy, fear])]
    [[0, 1], [1, 1]]
    """
    names = np.concatenate([np.asarray(name_n, str) for name_n, _ in openings])
    name_of, n_names = _numbered(names)
    parts, n_groups = [], 0
    for _, group_n in openings:
        group_of, n = _numbered(np.asarray(group_n).astype(str))
        parts.append(n_names + n_groups + group_of)
        n_groups += n
    # a graph of openings and groups, with an edge where a concept has an opening in a group
    edges, size = np.concatenate(parts), n_names + n_groups
    graph = coo_matrix((np.ones(len(names)), (name_of, edges)), shape=(size, size))
    cluster_of_name = connected_components(graph, directed=False)[1][name_of]
    ends = np.cumsum([len(name_n) for name_n, _ in openings])[:-1]
    return np.split(_numbered(cluster_of_name)[0], ends)


def influence(effect_sn: Array) -> Array:
    """Return what each opening adds to the error of the mean over fits and openings, (n,); an unscored one adds 0.

    >>> influence(np.array([[1.0, 2.0, 6.0]])).round(3).tolist()
    [-0.667, -0.333, 1.0]
    """
    effect_sn = np.atleast_2d(np.asarray(effect_sn, float))
    scored_sn = ~np.isnan(effect_sn)
    n_s1 = np.maximum(scored_sn.sum(1, keepdims=True), 1)
    mean_s1 = np.where(scored_sn, effect_sn, 0).sum(1, keepdims=True) / n_s1
    found: Array = (np.where(scored_sn, effect_sn - mean_s1, 0) / n_s1).mean(0)
    return found


def error_covariance(
    influence_k: Sequence[Array], cluster_k: Sequence[Array], sd_rows_k: Array, sd_refits_k: Array
) -> Array:
    """Covariance (K, K) of the errors of K means: the openings' part correlated, that of refits not.

    influence_k, cluster_k: of each concept's openings, (n,), by `influence` and `clusters`. sd_rows_k, sd_refits_k:
    the two parts of each standard error, whose squares stand on the diagonal.

    >>> same, cluster = np.array([-1.0, 0.0, 1.0]), np.arange(3)
    >>> error_covariance([same, same, same], [cluster, cluster, cluster + 3], np.ones(3), np.zeros(3)).round(2).tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    width = 1 + max(int(one.max(initial=0)) for one in cluster_k)
    sums = [np.bincount(c, x, width) for c, x in zip(cluster_k, influence_k, strict=True)]
    sd_rows_k, sd_refits_k = np.asarray(sd_rows_k, float), np.asarray(sd_refits_k, float)
    covariance_kk = _correlation(np.array(sums)) * np.outer(sd_rows_k, sd_rows_k)
    return covariance_kk + np.diag(sd_refits_k**2)


def _correlation(sum_kc: Array) -> Array:
    """Correlation (K, K) of sums over clusters."""
    size_k1 = np.sqrt((sum_kc**2).sum(1, keepdims=True))
    part_kc = np.divide(sum_kc, size_k1, out=np.zeros_like(sum_kc), where=size_k1 > 0)
    return np.where(np.eye(len(part_kc), dtype=bool), 1.0, part_kc @ part_kc.T)


def _numbered(words: Array) -> tuple[Array, int]:
    """Numbers of words in order of their first place, and how many there are."""
    _, first, code = np.unique(words, return_index=True, return_inverse=True)
    rank = np.empty(len(first), int)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[code], len(first)
