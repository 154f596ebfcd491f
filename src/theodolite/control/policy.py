"""The next-token distribution of a model under one control at one strength."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from theodolite.core.block_order import BlockOrder
from theodolite.core.intervention import Intervention
from theodolite.core.language_model import Format, Texts
from theodolite.models.generate import Decoding, Generation
from theodolite.models.model import Model

if TYPE_CHECKING:
    from torch import Tensor

    from theodolite.control.passes import Passes


class Predictions(NamedTuple):
    """Log-probabilities (r, vocabulary) in float32 at some targets of passes, and their numbers (r,) among all rows."""

    rows: "Tensor"
    log_probs: "Tensor"


class Policy(Protocol):
    """A distribution over the next token: teacher-forced over fixed tokens, and as a writer of text."""

    def predictions(self, passes: "Passes") -> Iterable[Predictions]:
        """Log-probabilities at the targets of the passes, each row once; batch by batch where that is cheaper."""

    def generate(self, prompts: Texts, how: Decoding, *, format: Format = "raw") -> list[Generation]:
        """New text after each prompt, in the order of the prompts."""


@dataclass(frozen=True, eq=False)
class Intervened:
    """A model with interventions: vectors, latents, neurons, a bias of the logits; without any, the model itself.

    >>> from theodolite.toys.tiny_models import byte_tokenizer, tiny_model
    >>> model = Model(tiny_model(), byte_tokenizer())
    >>> push = Intervention.add("blocks.1.resid_post", [1.0] * 32, 2.0)
    >>> [len(one.ids) for one in Intervened(model, (push,)).generate(["a text"], Decoding(max_new_tokens=3))]
    [3]
    """

    model: Model
    interventions: Sequence[Intervention | BlockOrder] = field(default=())

    def predictions(self, passes: "Passes") -> Iterable[Predictions]:
        return passes.intervened(self.model, self.interventions)

    def generate(self, prompts: Texts, how: Decoding, *, format: Format = "raw") -> list[Generation]:
        return self.model.generations(prompts, how, interventions=self.interventions, format=format)
