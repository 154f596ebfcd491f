"""Everything that one training is asked for, declared once for `theodolite train` and for Python."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from theodolite.core.errors import UserError
from theodolite.core.several import several
from theodolite.study.option import option

if TYPE_CHECKING:  # torch costs seconds, and --help does not need it
    from theodolite.dictionaries.names import Spec

Control = Literal["encoder", "decoder", "soft_decoder", "none"]
SIZE = (4096, 32)  # width and k of the dictionaries that ship


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """Dictionaries to train, their text and their model: the options of `theodolite train`, by the same names.

    One width, seed, site or dictionary alone is a list of one.

    >>> TrainRequest("text-only", seed=3).seeds
    (3,)
    """

    recipe: str | None = field(
        default=None,
        metadata=option("the text they are trained on: text-chat (default), text-only, or a corpus recipe file."),
        kw_only=False,
    )
    sae: str | Sequence[str] = field(
        default=("topk",),
        metadata=option(
            'any number of dictionaries, each a name with options: topk "jumprelu(target_l0=32, width=8192)", or your '
            "own as file.py:Class.",
            cli=str,
            many=True,
        ),
    )
    controls: Sequence[str] = field(
        default=("encoder",),
        metadata=option(
            "controls that each gets, by the part that stays frozen: encoder (default), decoder, soft_decoder, or "
            "none.",
            cli=Control,
            many=True,
        ),
    )
    model: str = field(default="smollm2-135m-instruct", metadata=option("as for compare."))
    revision: str | None = field(default=None, metadata=option("revision of a Hugging Face id."))
    data: Path | None = field(
        default=None,
        metadata=option(
            "your own text instead of a recipe: a CSV, TSV, JSONL, JSON, Parquet or txt file; or a folder of harvested "
            "rows."
        ),
    )
    text: str = field(default="text", metadata=option("its text column."))
    format: str = field(
        default="raw",
        metadata=option(
            "whether its texts are raw or prompts for the model's chat template.", cli=Literal["raw", "chat"]
        ),
    )
    sites: str | Sequence[str] | None = field(
        default=None,
        metadata=option(
            "one or more sites (default: the three depths at which recipes read); two read together as A->B "
            "(transcoder) or A+B (crosscoder).",
            cli=str,
            names=("--sites", "--site"),
            many=True,
        ),
    )
    seed: int | Sequence[int] = field(
        default=0,
        metadata=option(
            "of initialisation and order (default: 0); several train side by side on the same rows.", cli=int, many=True
        ),
    )
    tokens: int | None = field(default=None, metadata=option("how many activations to see (default: 2,000,000)."))
    width: int | Sequence[int] = field(
        default=SIZE[0],
        metadata=option(
            "number of latents (default: 4096), one or several, of every dictionary that does not say its own.",
            cli=int,
            many=True,
        ),
    )
    k: int = field(default=SIZE[1], metadata=option("latents active per token, likewise."))
    out: Path | None = field(default=None, metadata=option("folder (default: the cache, where compare finds it)."))
    device: str = field(default="auto", metadata=option("auto, cpu, cuda."))
    device_map: Any = field(
        default=None,
        metadata=option(
            "spread a large model: auto, balanced, sequential, or a .json file with the device of each module.",
            cli=str | None,
        ),
    )
    dtype: str = field(default="auto", metadata=option("auto, float32, bfloat16."))
    batch_tokens: int | None = field(
        default=None, metadata=option("tokens in a batch of the model (default: what fits in memory).")
    )
    prefetch: bool | None = field(
        default=None,
        metadata=option("read the next block of rows while this one is trained on (default: on a GPU)."),
    )
    dry_run: bool = field(default=False, metadata=option("print tokens, gigabytes and minutes only."))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of initialisation and order."""
        return tuple(several(self.seed))

    def specs(self) -> "list[Spec]":
        """The dictionaries, each with every width that it does not name itself."""
        from theodolite.dictionaries.names import crossed, parse

        return crossed(map(parse, several(self.sae)), tuple(several(self.width)), self.k)

    def check(self) -> None:
        """Refuse what contradicts itself, before anything is loaded."""
        if self.recipe is not None and self.data is not None:
            raise UserError(f"give a corpus recipe ({self.recipe!r}) or --data, not both")
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise UserError(f"--batch-tokens must be 1 or more, got {self.batch_tokens}")
