"""A set of latents, chosen by a k-sparse probe."""

from typing import Any, ClassVar

from theodolite.control.control import Control, LatentControl
from theodolite.control.latent_choice import k_sparse_set
from theodolite.control.material import Material
from theodolite.control.method import Method


class LatentSet(Method):
    """Strength s raises k latents together, each by s times the 99th percentile of its firing, with its probe's sign.

    The latents are those of the `k_sparse` reader: largest difference in class means in units of the deviation
    (Gurnee et al. 2023, arXiv:2305.01610; Kantamneni et al. 2025, arXiv:2502.16681), signs from its logistic weights.
    k: how many; by default the one of 1, 2, 4, ..., 64 with the largest AUROC of that reader on the development texts,
    the smallest of equal ones.

    It sees training texts and labels, and development texts and labels for k. Extra passes: one per text of both, to
    encode latents on single tokens. One fit per k.
    """

    saw = "training texts and labels; development texts and labels for k"
    needs = ("dictionary",)
    name: ClassVar[str] = "latent_set"

    def __init__(self, k: int | None = None) -> None:
        self.k = k

    def fit(self, material: Material) -> Control:
        """Return the control of the chosen latents."""
        dictionary = self._dictionary(material)
        chosen = k_sparse_set(material, dictionary, self.k, self.name)
        levels = material.latents(material.training, dictionary).p99[chosen.latents]
        extra = 0 if self.k is not None or material.development is None else material.development.n
        k, signs = len(chosen.latents), chosen.signs.astype(int).tolist()
        self._done(
            passes=material.training.n + extra,
            fits=chosen.fits,
            k=k,
            latents=chosen.latents,
            signs=signs,
            parameters=k,
        )
        site, model = material.site, material.model
        return LatentControl(model, self.name, site, dictionary, chosen.latents, levels, chosen.signs, adds=True)

    def _dictionary(self, material: Material) -> Any:
        return material.needed("dictionary", self.name)
