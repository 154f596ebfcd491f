"""MLP neurons, as many as the latent set has latents."""

import numpy as np

from theodolite.control.control import Control, NeuronControl
from theodolite.control.latent_choice import k_sparse_set
from theodolite.control.material import Absent, Material
from theodolite.control.method import Method
from theodolite.core.errors import UserError
from theodolite.core.reader import class_means
from theodolite.core.site import Site
from theodolite.readers.k_sparse import KSparse


class Neurons(Method):
    """Strength s adds s times the class-mean difference of k neurons at `mlp_act` of the site's block.

    Neurons are ranked as `k_sparse` ranks columns: difference in class means in units of the deviation. k: how many; by
    default as many as `latent_set` chooses from the same texts, so that both have the same number of parameters.

    It sees training texts and labels, and through k also the development texts. Extra passes: one per training text to
    read the neurons; where the latent set says k, its passes and fits as well.
    """

    saw = "training texts and labels; development texts and labels for k"

    def __init__(self, k: int | None = None) -> None:
        self.k = k
        # without k the latent set of a dictionary says how many
        self.needs = () if k is not None else ("dictionary", "development")

    def fit(self, material: Material) -> Control:
        """Return the control of the chosen neurons."""
        if material.site.block is None:
            raise UserError(
                f"neurons: {str(material.site)!r} lies in no block; give a site such as 'blocks.N.resid_post'"
            )
        rows, site = material.training, Site(material.site.block, "mlp_act")
        k, passes, fits = self._count(material)
        states = material.read(rows, site)
        # the probe's ranking alone is used: its weights play no role in what is added
        neurons = KSparse(k=k).fit(states, rows.labels).latents_.tolist()
        negative_d, positive_d = class_means(states, rows.labels)
        change = (positive_d - negative_d)[neurons].astype(np.float32)
        self._done(passes=passes + rows.n, fits=fits + 1, k=len(neurons), neurons=neurons, parameters=len(neurons))
        return NeuronControl(material.model, "neurons", site, neurons, change, states.shape[1])

    def _count(self, material: Material) -> tuple[int, int, int]:
        """Return k, and the passes and fits that it took to find it."""
        if self.k is not None:
            if self.k < 1:
                raise UserError(f"neurons: k={self.k} is no number of neurons: give 1 or more")
            return self.k, 0, 0
        if material.dictionary is None:
            raise Absent("neurons are as many as a dictionary's latent set, and there is none: write neurons(k=16)")
        chosen = k_sparse_set(material, material.dictionary, None, "neurons")
        return len(chosen.latents), material.training.n + material.needed("development", "neurons").n, chosen.fits
