"""The contrast vector of representation engineering."""

from theodolite.control.contrast import ContrastControl
from theodolite.control.control import Control
from theodolite.control.instructed import before_text
from theodolite.control.material import Material
from theodolite.control.method import Method


class ContrastVector(Method):
    """h + strength * (h+ - h-), h+ and h- the states of the same token behind two opposite instructions.

    The contrast vector of Zou et al. (2023, arXiv:2310.01405), with one strength for both signs. It is another vector
    for every text and token, so nothing is fitted.

    It sees no text and no label. No fit; where it is used, two more passes up to the site for each over the text.
    """

    saw = "the two instructions, no texts"
    needs = ("instruction",)

    def fit(self, material: Material) -> Control:
        """Return the control by the contrast of the two instructions."""
        words = material.needed("instruction", "contrast_vector")
        self._done(passes=0, fits=0, parameters=0)
        both = before_text(words.positive), before_text(words.negative)
        return ContrastControl(material.model, "contrast_vector", material.site, *both)
