"""Everything that one steered text is asked for, declared once for `theodolite steer` and for Python."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from theodolite.core.errors import UserError
from theodolite.study.option import option

if TYPE_CHECKING:  # torch costs seconds, and --help does not need it
    from theodolite.core.control_file import ControlFile
    from theodolite.models.model import Model

AUTO = "auto"
METHOD = "difference_in_means"
NATS = 0.1  # at 1 nat the default model is past its peak: what is added then damages more than it steers
SUFFIXES = (".safetensors", ".gguf", ".py")  # of what --save can write


@dataclass(frozen=True, kw_only=True)
class SteerRequest:
    """A prompt, what to steer it towards, and how strongly: the options of `theodolite steer`, by the same names.

    >>> SteerRequest("I went to the", "joy", strength=3).amount
    3.0
    """

    prompt: str = field(kw_only=False, metadata=option("the text to continue."))
    toward: "str | Path | ControlFile" = field(
        kw_only=False,
        metadata=option(
            "a concept by name or file (.yaml), your own texts with labels (.csv, .jsonl, ...), RUN:METHOD (a Run "
            "folder and one of its linear methods), or a vector (.safetensors of ours, .gguf of repeng or llama.cpp).",
            cli=str,
            names=("--toward", "--towards"),
        ),
    )
    method: str | None = field(
        default=None,
        metadata=option(
            f"how to steer, for a concept or your own texts (default: {METHOD}): a linear reader's name, latent_set, "
            "logit_bias, ...",
            names=("--with", "--method"),
        ),
    )
    strength: str | float = field(
        default=AUTO,
        metadata=option("auto (disturbs the model by --nats), or a number in the method's own units.", cli=str),
    )
    nats: float = field(
        default=NATS,
        metadata=option("disturbance that auto looks for: mean KL(default || steered) per token of neutral texts."),
    )
    away: bool = field(default=False, metadata=option("away from the concept instead of towards it."))
    tokens: int = field(default=40, metadata=option("number of new tokens."))
    format: Literal["raw", "chat", "auto"] = field(
        default="raw", metadata=option("the prompt as it is, or as a user's turn of a chat.")
    )
    text: str = field(default="text", metadata=option("text column of your own table."))
    label: str = field(default="label", metadata=option("its label column."))
    positive: Sequence[Any] | None = field(
        default=None, metadata=option("labels that count as the concept, by value.", cli=str, many=True)
    )
    group: str | None = field(default=None, metadata=option("its group column."))
    site: str | None = field(
        default=None, metadata=option("where to act, of a concept (default: the depth at which recipes read).")
    )
    seed: int = field(default=0, metadata=option("of the parts of the concept's texts, and of the method."))
    model: "str | Path | Model | None" = field(
        default=None, metadata=option("as for compare (default: smollm2-135m-instruct, or the Run's).", cli=str | None)
    )
    revision: str | None = field(default=None, metadata=option("revision of a Hugging Face id."))
    sae: str = field(
        default="shipped", metadata=option("dictionary for methods that steer by latents, as one --sae of compare.")
    )
    dtype: str = field(default="auto", metadata=option("auto, float32, bfloat16."))
    device: str = field(default="auto", metadata=option("auto, cpu, cuda, cuda:1, mps."))
    save: Path | None = field(
        default=None,
        metadata=option(
            "write the control: .safetensors (ours), .gguf (llama.cpp, at this strength), .py (a transformers hook, at "
            "this strength)."
        ),
    )

    @property
    def amount(self) -> float | None:
        """The strength that was given, None for `auto`."""
        if self.strength == AUTO:
            return None
        try:
            found = float(self.strength)
        except ValueError:
            raise UserError(f"--strength {self.strength!r}: write auto, or a number") from None
        if not math.isfinite(found):
            raise UserError(f"--strength {self.strength}: write auto, or a finite number")
        return found

    @property
    def sign(self) -> Literal[1, -1]:
        """1 towards the concept, -1 away from it."""
        return -1 if self.away else 1

    def check(self) -> None:
        """Refuse what contradicts itself, before anything is loaded."""
        if not self.prompt.strip():
            raise UserError("the prompt is empty: give a text to continue")
        if self.amount is not None and self.away:
            raise UserError(
                f"--strength {self.strength} has a sign of its own: leave out --away, or write --strength auto"
            )
        if not (math.isfinite(self.nats) and 0 < self.nats <= 10):
            raise UserError(f"--nats {self.nats}: give a number above 0 and up to 10")
        if self.tokens < 1:
            raise UserError(f"--tokens {self.tokens}: give at least 1")
        if self.save is not None and Path(self.save).suffix not in SUFFIXES:
            raise UserError(f"--save {str(self.save)!r}: end the name in {', '.join(SUFFIXES)}")
