"""The command line of `theodolite train`, and the kinds of options that it shares with the other commands."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

Many = Annotated[list[str] | None, Parameter(consume_multiple=True)]
Sites = Annotated[list[str] | None, Parameter(name=["--sites", "--site"], consume_multiple=True)]
TextFormat = Literal["raw", "chat"]
Control = Literal["encoder", "decoder", "soft_decoder", "none"]


def train(
    recipe: str | None = None,
    *,
    sae: Many = None,
    controls: Annotated[list[Control] | None, Parameter(consume_multiple=True)] = None,
    model: str = "smollm2-135m-instruct",
    revision: str | None = None,
    data: Path | None = None,
    text: str = "text",
    format: TextFormat = "raw",
    sites: Sites = None,
    seed: Annotated[list[int] | None, Parameter(consume_multiple=True)] = None,
    tokens: int | None = None,
    width: Annotated[list[int] | None, Parameter(consume_multiple=True)] = None,
    k: int = 32,
    out: Path | None = None,
    device: str = "auto",
    device_map: str | None = None,
    dtype: str = "auto",
    batch_tokens: int | None = None,
    prefetch: Annotated[bool | None, Parameter(negative="--no-prefetch")] = None,
    dry_run: bool = False,
) -> None:
    """Train dictionaries (by default a TopK and its frozen-encoder control) at each site in one pass; the same command
    resumes.

    Parameters
    ----------
    recipe
        the text they are trained on: text-chat (default), text-only, or a corpus recipe file.
    sae
        any number of dictionaries, each a name with options: topk "jumprelu(target_l0=32, width=8192)", or your own as
        file.py:Class.
    controls
        controls that each gets, by the part that stays frozen: encoder (default), decoder, soft_decoder, or none.
    model
        as for compare.
    revision
        revision of a Hugging Face id.
    data
        your own text instead of a recipe: a CSV, TSV, JSONL, JSON, Parquet or txt file; or a folder of harvested rows.
    text
        its text column.
    format
        whether its texts are raw or prompts for the model's chat template.
    sites
        one or more sites (default: the three depths at which recipes read); two read together as A->B (transcoder) or
        A+B (crosscoder).
    seed
        of initialisation and order (default: 0); several train side by side on the same rows.
    tokens
        how many activations to see (default: 2,000,000).
    width
        number of latents (default: 4096), one or several, of every dictionary that does not say its own.
    k
        latents active per token, likewise.
    out
        folder (default: the cache, where compare finds it).
    device
        auto, cpu, cuda.
    device_map
        spread a large model: auto, balanced, sequential, or a .json file with the device of each module.
    dtype
        auto, float32, bfloat16.
    batch_tokens
        tokens in a batch of the model (default: what fits in memory).
    prefetch
        read the next block of rows while this one is trained on (default: on a GPU).
    dry_run
        print tokens, gigabytes and minutes only.
    """
    # every option is a field of the request, by the same name
    _trained({name: value for name, value in locals().items() if value is not None})


def _trained(options: dict[str, Any]) -> None:
    from theodolite.dictionaries.training.tracking import told
    from theodolite.report import terminal
    from theodolite.study import training

    if "controls" in options:
        options["controls"] = [control for control in options["controls"] if control != "none"]
    request = training.TrainRequest(**options)
    with terminal.progress() as progress:
        lines = training.train(request, progress=progress, watch=lambda line: progress.say(told(line)))
    terminal.say(lines)
