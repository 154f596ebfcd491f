"""Recipe of kind `debate`: pairs of a reading and a steering comparison of one concept, and which method is which."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from theodolite.control.recipe import CONTRASTS
from theodolite.core.errors import UserError
from theodolite.core.methods import parse
from theodolite.core.recipe import BaseRecipe, Contrast
from theodolite.core.strict import Strict

DEBATE = "debate"
# Which reader reads what a method of control changes. Prompting without examples, as the control's instruction has none
READERS = {
    "difference_in_means": "difference_in_means",
    "logistic": "logistic",
    "latent": "k_sparse(k=1)@latents",
    "latent_set": "k_sparse@latents",
    "frozen_encoder_latent_set": "k_sparse@control",
    "prompt": "prompting(column=zero_shot)",
}
NEURON_METHOD = "neurons"
NEURON_READER = "k_sparse@state"  # at `mlp_act` of the block of the reading recipe's site
NEURON_PART = "mlp_act"


class Pair(Strict):
    """One concept with the recipe that steers on it and, where there is one, the recipe that reads it."""

    concept: str
    steering: str
    reading: str | None = None


class DebateRecipe(BaseRecipe):
    """Everything that a debate needs: `pairs` of comparisons, made by themselves or found among the finished Runs.

    `readers`: by method of control, the reader that is its counterpart. `neurons`: whether a reader of the MLP neurons
    before the matched site is compared as the counterpart of the method `neurons`, in a reading Run of its own.
    `contrasts` between methods of control, fixed beforehand, with the `margin` in nats within which two effects count
    as equivalent. `model`, `revision`, `dtype`, `dictionaries` and `quick` go to every comparison; None leaves its own.
    `files` are the digests of the comparisons' recipes and of weights that no name pins.
    """

    kind: Literal["debate"]
    pairs: list[Pair] = Field(min_length=1)
    readers: dict[str, str] = Field(default_factory=lambda: dict(READERS))
    neurons: bool = True
    contrasts: list[Contrast] = Field(default_factory=lambda: list(CONTRASTS))
    margin: float = Field(default=0.2, gt=0)
    model: str | None = None
    revision: str | None = None
    dtype: str | None = None
    dictionaries: list[str] | None = None
    quick: bool = False
    files: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        names = [pair.concept for pair in self.pairs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"concept {twice[0]!r} stands in two pairs: name it once")
        if NEURON_METHOD in self.readers:
            raise UserError(f"readers names {NEURON_METHOD!r}, whose reader is {NEURON_READER}: leave it out there")
        for reader in self.readers.values():
            parse(reader)  # an unknown name is an error now, not after the comparisons
        return self

    def beside(self, folder: Path) -> Self:
        """Return the recipe with its own recipe files taken from its folder."""

        def placed(name: str | None) -> str | None:
            return str(folder / name) if name is not None and Path(name).suffix in {".yaml", ".yml"} else name

        pairs = [
            pair.model_copy(update={"steering": placed(pair.steering), "reading": placed(pair.reading)})
            for pair in self.pairs
        ]
        return self.model_copy(update={"pairs": pairs})

    @property
    def spine(self) -> list[str]:
        """Concepts that are both read and changed: contrasts are decided on them, in one family."""
        return [pair.concept for pair in self.pairs if pair.reading is not None]
