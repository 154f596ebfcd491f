"""A set of latents of the frozen-encoder control dictionary."""

from typing import Any

from theodolite.control.material import Material
from theodolite.control.methods.latent_set import LatentSet


class FrozenEncoderLatentSet(LatentSet):
    """`latent_set` on the dictionary whose encoder was drawn at random and never trained.

    All is as in `latent_set`: the same choice of latents and of k, the same strengths. What `latent_set` gains over it
    is what training the encoder gained.
    """

    needs = ("control_dictionary",)
    name = "frozen_encoder_latent_set"

    def _dictionary(self, material: Material) -> Any:
        return material.needed("control_dictionary", self.name)
