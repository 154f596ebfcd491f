"""The configuration of a model, checked before anything is allocated: a foreign file may ask for any size or code."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from theodolite.core.errors import UserError, first_line
from theodolite.models.families import family_of
from theodolite.models.weight_files import opened

# Sizes that make a network only from 1 on
_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
# A head tied to the embedding is in no file: at most twice the numbers of the files. Beyond 4 no such cause is left,
# and `check_complete` names what differs below it.
_MOST = 4


def check_no_kernel(name: str, file: Path) -> None:
    """Refuse a configuration that names an implementation as `owner/repository`: transformers would fetch its code."""
    try:
        written = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return  # the error is transformers', which names the place
    for key, value in _entries(written):
        if key.endswith("_implementation") and any("/" in word for word in _words(value)):
            raise UserError(
                f"config.json of model {name!r} sets {key} to {value!r}, which is code to be fetched from a hub: "
                "remove that entry"
            )


def check_sizes(name: str, config: Any) -> None:
    """Refuse sizes below 1."""
    text = config.get_text_config()
    for key in _SIZES:
        value = getattr(text, key, 1)
        if not isinstance(value, int) or value < 1:
            raise UserError(f"config.json of model {name!r} has {key} {value!r}: it must be a whole number from 1 on")


def check_extent(name: str, folder: Path, config: Any) -> None:
    """Refuse a configuration of a network that is far larger than its weights, before memory is taken for it.

    Blocks are counted first: thousands of them take minutes even without memory. Of quantised weights, which are
    packed in their own ways, only the blocks are compared.
    """
    shapes = dict(_shapes(folder))
    block = re.compile(rf"(?:^|\.){re.escape(family_of(config).blocks)}\.(\d+)\.")
    held = len({found[1] for key in shapes if (found := block.search(key))})
    text = config.get_text_config()
    wanted = text.num_hidden_layers
    if wanted > _MOST * max(held, 1):
        raise UserError(_larger(name, f"{wanted:,} blocks", f"{held:,}"))
    if getattr(config, "quantization_config", None) is None:
        numbers, stored = _parameters(name, config), sum(map(math.prod, shapes.values()))
        if numbers > _MOST * stored:
            raise UserError(_larger(name, f"{numbers:,} numbers", f"{stored:,}"))


def _larger(name: str, described: str, held: str) -> str:
    return (
        f"config.json of model {name!r} describes {described}, its weights hold {held}: "
        "put config.json and weights of one checkpoint together"
    )


def _parameters(name: str, config: Any) -> int:
    """Number of the network's parameters, counted without memory for them."""
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    except (ValueError, KeyError, ImportError, RuntimeError, TypeError, AttributeError, ArithmeticError) as error:
        why = first_line(error)
        raise UserError(f"transformers cannot make model {name!r} from its config.json: {why}") from error


def _shapes(folder: Path) -> Iterator[tuple[str, list[int]]]:
    for file in opened(folder):
        for key in file.offset_keys():
            yield key, file.get_slice(key).get_shape()


def _entries(written: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, those of inner configurations too."""
    if isinstance(written, dict):
        yield from written.items()
        for value in written.values():
            yield from _entries(value)


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _words(inner)
