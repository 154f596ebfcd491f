"""First principal component of pair differences."""

import numpy as np

from theodolite.control.control import Control, VectorControl
from theodolite.control.material import Examples, Material
from theodolite.control.method import Method
from theodolite.core.errors import UserError
from theodolite.core.reader import class_means
from theodolite.core.seeds import generator


class Pca(Method):
    """h + strength * v, where v is the first component of +-(positive - negative) / 2 over pairs, not centred again.

    repeng's `pca_center` and the PCA of steering-vectors: each member of a pair less the pair's midpoint, so that the
    decomposition is about zero. (repeng's default `pca_diff` centres differences that all have the same order, and so
    subtracts the mean that it seeks; `lat` has them in random order.) The sign is the one under which the positive
    mean lies higher. A pair is a positive and a negative text of one group where a group has both, and else any two
    that the seed draws; each text is in at most one pair.

    It sees training rows, labels and groups. No extra pass; one fit.
    """

    saw = "training rows, labels and groups"

    def fit(self, material: Material) -> Control:
        """Return the control along the component."""
        rows = material.training
        pairs = cross_label_pairs(rows, material.seed)
        difference_pd = np.subtract(*(rows.rows[[pair[side] for pair in pairs]].astype(np.float64) for side in (0, 1)))
        vector_d = np.linalg.svd(difference_pd, full_matrices=False)[2][0]
        negative_d, positive_d = class_means(rows.rows, rows.labels)
        if not difference_pd.any():
            raise UserError(f"the two texts of each of {len(pairs)} pairs have equal states: there is no component")
        vector_d = vector_d if vector_d @ (positive_d - negative_d) >= 0 else -vector_d
        self._done(passes=0, fits=1, parameters=len(vector_d), pairs=len(pairs))
        return VectorControl.scaled(material.model, "pca", material.site, vector_d, material.class_distance)


def cross_label_pairs(examples: Examples, seed: int) -> list[tuple[int, int]]:
    """Return (positive, negative) numbers of texts: within groups as far as they go, the rest drawn by the seed.

    >>> examples = Examples(["a", "b", "c", "d"], [1, 0, 0, 1], ["g", "g", "h", "i"], np.eye(4))
    >>> cross_label_pairs(examples, seed=0)
    [(0, 1), (3, 2)]
    """
    order = examples.canonical[generator(seed, "pairs").permutation(examples.n)]  # the same whatever the order of rows
    left: dict[int, list[int]] = {0: [], 1: []}
    pairs: list[tuple[int, int]] = []
    for group in dict.fromkeys(examples.groups[order].tolist()):
        members = [i for i in order if examples.groups[i] == group]
        sides = {label: [int(i) for i in members if examples.labels[i] == label] for label in (0, 1)}
        shared = min(map(len, sides.values()))
        pairs += zip(sides[1][:shared], sides[0][:shared], strict=True)
        for label in (0, 1):
            left[label] += sides[label][shared:]
    return [*pairs, *zip(left[1], left[0], strict=False)]
