"""An instruction in words, with a dial."""

from theodolite.control.control import Control
from theodolite.control.dial import PromptDial
from theodolite.control.instructed import before_text
from theodolite.control.material import Material
from theodolite.control.method import Method


class Prompt(Method):
    """logits + strength * (logits behind the instruction - logits): strength 1 is the undialled prompt.

    The instruction is that of the concept file for the sign, on a line of its own before the text. Steering by a
    prompt is the baseline to beat (Wu et al. 2025, arXiv:2501.17148); the dial lets it be compared at an equal
    disturbance.

    It sees no text and no label. No extra pass and no fit; where it is used, one more pass for each over the text.
    """

    saw = "the instruction, no texts"
    at_depth = False
    needs = ("instruction",)

    def fit(self, material: Material) -> Control:
        """Return the dial of the two instructions."""
        words = material.needed("instruction", "prompt")
        self._done(passes=0, fits=0, parameters=0)
        return PromptDial(material.model, before_text(words.positive), before_text(words.negative))
