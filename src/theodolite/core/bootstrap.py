"""Bootstrap weights over whole groups of rows, made once per data set and shared by every method and seed on it."""

from collections.abc import Sequence

import numpy as np

from theodolite.core.seeds import generator


def bootstrap_weights(grouping: np.ndarray, n_boot: int = 2000, seed: int = 0) -> np.ndarray:
    """Weights (B, n) under which a statistic varies as it would over fresh groups of rows.

    Each group draws an Exp(1) weight: the Bayesian bootstrap (Rubin 1981) of clusters. Unlike counts of a resample, the
    weights are never 0, so no replicate loses a class or a group.

    float32, stored text by text (Fortran order), which is how the metrics read it.

    >>> w = bootstrap_weights(np.array(["a", "a", "b"]), n_boot=4)
    >>> w.shape, bool((w[:, 0] == w[:, 1]).all()), bool((w[:, 0] == w[:, 2]).any())
    ((4, 3), True, False)
    """
    names, code = np.unique(grouping, return_inverse=True)
    draws = generator(seed, "bootstrap").standard_exponential((len(names), n_boot), dtype=np.float32)
    return draws[code].T


def with_crossing(groupings: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The groupings; behind two crossed ones the cells in which they meet, which `crossed_variance` needs."""
    if len(groupings) == 1:
        return list(groupings)
    one, other = (np.unique(g, return_inverse=True)[1] for g in groupings)
    return [*groupings, one * (other.max(initial=0) + 1) + other]


def crossed_variance(parts: np.ndarray) -> float:
    """The variance of a statistic from those over each of `with_crossing`'s groupings.

    For two crossed groupings, such as request x template, it is V_request + V_template - V_cell (Cameron, Gelbach &
    Miller 2011, doi:10.1198/jbes.2010.07136): what neither explains is in all three and counts once. The estimate is
    noisy, so it never falls below the larger of the first two.
    """
    if len(parts) == 1:
        return float(parts[0])
    one, other, cell = parts
    return float(max(one + other - cell, one, other))


def hidden_failures(n_groups: int) -> float:
    """The largest rate of failures (95 %, two-sided) that so many groups without one leave room for.

    Clopper & Pearson (1934); near a metric's end no bootstrap says more, since it has no failure to draw.

    >>> round(hidden_failures(100), 3)
    0.036
    """
    return float(1 - 0.025 ** (1 / max(n_groups, 1)))


def fewest_groups(y: np.ndarray, grouping: np.ndarray) -> int:
    """Groups of the class that has fewer: what a metric of ranks really rests on; 0 without rows."""
    return min((len(np.unique(grouping[y == label])) for label in np.unique(y)), default=0)


def effective_groups(grouping: np.ndarray) -> float:
    """Equal groups whose mean would be as uncertain: (sum n)^2 / sum n^2 over the groups' sizes n (Kish 1965).

    It is the number of groups where they are equal, and falls towards 1 as one of them outweighs the others; t tests
    with clusters of unequal size need it in place of their number (Carter, Schnepel & Steigerwald 2017,
    doi:10.1162/REST_a_00639). 0 without rows.

    >>> effective_groups(np.array(list("aabbcc"))), effective_groups(np.array(list("aaaabc")))
    (3.0, 2.0)
    """
    size = np.unique(grouping, return_counts=True)[1].astype(float)
    return float(size.sum() ** 2 / (size**2).sum()) if len(size) else 0.0


def heaviest(grouping: np.ndarray) -> float:
    """Share of the rows held by the group of a mean's typical squared weight, sum p^3 / sum p^2; 1 / G if equal.

    >>> heaviest(np.array(list("aabb"))), heaviest(np.array([]))
    (0.5, 1.0)
    """
    size = np.unique(grouping, return_counts=True)[1].astype(float)
    share = size / size.sum() if len(size) else np.ones(1)
    return float((share**3).sum() / (share**2).sum())
