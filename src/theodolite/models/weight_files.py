"""Weight files of a folder, and the check that they are the weights its configuration describes."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from theodolite.core.errors import UserError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
# Constants that older checkpoints store beside the weights: masks, rotary frequencies
_CONSTANTS = re.compile(r"(^|\.)(masked_bias|attn\.bias|attention\.bias|rotary_emb\.inv_freq)$")
_IMAGES = re.compile(r"(model\.)?(vision_tower|multi_modal_projector)\.")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors that transformers loads: `model.safetensors`, else the shards that its index names.

    Other safetensors in the folder (a second layout, an adapter, a checkpoint) are not the model's.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if not (folder / INDEX).is_file():
        raise UserError(f"{folder} holds no weights: neither {SINGLE} nor {INDEX}")
    try:
        names = set(json.loads((folder / INDEX).read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{folder / INDEX} is damaged: fetch it again") from None
    if bad := [name for name in names if not isinstance(name, str) or Path(name).name != name]:
        raise UserError(f"{folder / INDEX} names {bad[0]!r}, which is no file name: fetch it again")
    if missing := sorted(name for name in names if not (folder / name).is_file()):
        raise UserError(f"{folder} lacks {missing[0]}, one of the {len(names)} files that {INDEX} names: fetch it")
    return [folder / name for name in sorted(names)]


def opened(folder: Path) -> Iterator[Any]:
    """The safetensors of `weight_files`, open one after the other; a damaged one is an error that names it."""
    for path in weight_files(folder):
        try:
            file = safe_open(path, framework="pt")
        except SafetensorError as error:
            raise UserError(
                f"{path} is damaged or no safetensors file ({error}): delete it and fetch it again"
            ) from None
        yield file


def check_no_adapter(name: str, folder: Path) -> None:
    """Refuse a folder with an adapter: the weights beside it are not those of the model that its owner means."""
    for file in ADAPTERS:
        if (folder / file).is_file():
            raise UserError(
                f"model {name!r} has an adapter ({file}), which is not applied here: merge it into the weights "
                f"(peft: merge_and_unload) and save them to a folder of their own, or remove {file} to use the weights "
                "without it"
            )


def check_complete(name: str, report: Mapping[str, Any], *, images: bool = False) -> None:
    """Refuse weights that are not exactly those of the configuration, by transformers' report of a load.

    Missing tensors would stay at random numbers, tensors without a place would be left out. A head that is tied to
    the embedding may be missing. images: parts that read images are left out on purpose.
    """
    odd = [key for key in report.get("unexpected_keys", ()) if not _CONSTANTS.search(key)]
    odd = [key for key in odd if not (images and _IMAGES.match(key))]
    shapes = sorted((key, tuple(found), tuple(wanted)) for key, found, wanted in report.get("mismatched_keys", ()))
    complaints = []
    if missing := report.get("missing_keys", ()):
        complaints.append(f"lack {_named(missing)}, which would stay random numbers")
    if odd:
        complaints.append(f"hold {_named(odd)}, for which the model has no place")
    if shapes:
        key, found, wanted = shapes[0]
        complaints.append(f"have {key!r} with shape {found} in place of {wanted} ({len(shapes)} such tensors)")
    if complaints:
        raise UserError(
            f"the weights of model {name!r} are not those that its configuration describes: they "
            f"{' and '.join(complaints)}; put config.json and weights of one checkpoint together"
        )


def _named(keys: Collection[str]) -> str:
    """Count of tensors with the names of the first three."""
    first = sorted(keys)[:3]
    more = ", ..." if len(keys) > len(first) else ""
    return f"{len(keys)} tensor{'s' if len(keys) > 1 else ''} ({', '.join(first)}{more})"
