"""Selection of a smaller support that gives nearly the same answers."""

import numpy as np
from sklearn.cluster import MiniBatchKMeans

from theodolite.calibration._neighbours import Array, Neighbours


def prototypes(placed_md: Array, label_m: Array, right_m: Array, n: int, seed: int) -> Array:
    """Return the positions of the rows to keep, ascending: all misclassified rows, and about n of the others.

    Misclassified rows end runs of agreeing neighbours: without them similarity would be overstated. Each class keeps
    its share of the correct ones: the rows nearest to the centres of as many k-means clusters.

    >>> rows, label = np.array([[0.0], [0.1], [5.0], [5.1], [9.0], [9.1]]), np.array([0, 0, 0, 0, 1, 1])
    >>> kept = prototypes(rows, label, np.array([1, 1, 1, 1, 1, 0], bool), 3, seed=0)
    >>> len(kept), 4 in kept, 5 in kept
    (4, True, True)
    """
    kept = [np.flatnonzero(~right_m)]
    for c in np.unique(label_m):
        (own,) = np.nonzero(right_m & (label_m == c))
        n_clusters = round(n * len(own) / max(right_m.sum(), 1))
        if n_clusters >= len(own):
            kept.append(own)
        elif n_clusters > 0:
            fitted = MiniBatchKMeans(n_clusters, random_state=seed, n_init=1, batch_size=4096).fit(placed_md[own])
            _, nearest = Neighbours(placed_md[own]).nearest(fitted.cluster_centers_, 1)
            kept.append(own[np.unique(nearest[:, 0])])
    return np.sort(np.concatenate(kept))
