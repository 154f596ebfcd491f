"""Memory before it runs out: how much there is, what a model needs, how many tokens fit in a batch."""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from theodolite.core.atomic import read_json
from theodolite.core.errors import UserError, unknown
from theodolite.models import offload
from theodolite.models.weight_files import opened

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
ONE_TEXT = 512
# On a CPU more is slower: small products stay in its cache (d_model 576 on one core runs at 92 GFLOP/s for 256 rows, 72
# for 1,024, 44 for 4,096). On CUDA it is a bound whose effect on speed is not documented.
MOST = {"cpu": 512, "cuda": 65536}
# Behind its prompts a batch runs one token of each text at a time, so that more tokens are more texts and not wider
# products: 100 texts with 24 new tokens took 6.3 s in one batch and 14.3 s in eight of 512 tokens (2 cores, float32).
MOST_WRITTEN = {"cpu": 4096, "cuda": 65536}
_MARGIN = 2.0
MAPS = ("auto", "balanced", "balanced_low_0", "sequential")  # how accelerate divides a model by itself


def available(device: str | torch.device = "cpu") -> int:
    """Bytes that can still be taken on a device; on the CPU the lesser of what the machine and its container leave."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    limits = [n for n in (_meminfo(), _container()) if n is not None]
    return min(limits, default=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)


def weights_bytes(folder: Path, dtype: Any) -> int:
    """Bytes of a folder's weights once loaded; with a torch dtype their floating tensors are converted."""
    return sum(tensor_bytes(folder, dtype).values())


def tensor_bytes(folder: Path, dtype: Any) -> dict[str, int]:
    """Bytes of each of a folder's tensors once loaded, by name."""
    sizes = {}
    for file in opened(folder):
        for name in file.offset_keys():
            part = file.get_slice(name)
            stored = part.get_dtype()
            convert = isinstance(dtype, torch.dtype) and stored in {"F64", "F32", "F16", "BF16"}
            bits = 8 * dtype.itemsize if convert else int(re.sub(r"_.*|\D", "", stored) or 8)
            sizes[name] = math.prod(part.get_shape()) * bits // 8
    return sizes


def check_weights(name: str, needed: int, left: int) -> None:
    """Refuse to load weights that leave no room to run them."""
    if needed + needed // 10 > left:
        raise UserError(
            f"model {name!r} needs {_gib(needed)} for its weights and {_gib(left)} is free: "
            "choose dtype='bfloat16', a smaller model, or another device"
        )


def by_device(sizes: Mapping[str, int], device_map: Mapping[str, Any]) -> dict[str, int]:
    """Bytes that a device map puts on each device; a tensor goes where the longest name that it begins with goes.

    >>> by_device({"a.0.weight": 8, "a.1.weight": 4, "b": 2}, {"a": 0, "a.1": "cpu", "": "disk"})
    {'cuda:0': 8, 'cpu': 4, 'disk': 2}
    """
    found: dict[str, int] = {}
    for name, size in sizes.items():
        homes = [part for part in device_map if not part or name == part or name.startswith(f"{part}.")]
        if not homes:
            raise UserError(f"device_map= names no place for {name!r}: add it, or '' for all that has no other place")
        where = device_map[max(homes, key=len)]
        device = f"cuda:{where}" if isinstance(where, int) else str(where)
        found[device] = found.get(device, 0) + size
    return found


def check_device_map(name: str, sizes: Mapping[str, int], device_map: Any) -> None:
    """Refuse a device map under which weights do not fit: device by device, or all together where accelerate divides.

    `disk` takes any number of bytes. Parts in main memory or on disk are fetched at every pass, which is slow.
    """
    if isinstance(device_map, Mapping):
        for device, needed in by_device(sizes, device_map).items():
            left = needed * 2 if device == "disk" else available(device)
            if needed + needed // 10 > left:
                raise UserError(
                    f"device_map= puts {_gib(needed)} of model {name!r} on {device}, where {_gib(left)} is free: "
                    "move parts to another device, to cpu or to disk, or choose dtype='bfloat16'"
                )
        return
    free = {"cpu": available("cpu")} | {f"cuda:{n}": available(f"cuda:{n}") for n in range(torch.cuda.device_count())}
    needed = sum(sizes.values())
    if needed + needed // 10 > sum(free.values()):
        places = ", ".join(f"{_gib(left)} on {device}" for device, left in free.items())
        raise UserError(
            f"model {name!r} needs {_gib(needed)} for its weights, and free are {places}: choose dtype='bfloat16', a "
            "smaller model, or a device map in a .json file that puts parts on disk"
        )


def read_device_map(given: Any) -> Any:
    """A device map as transformers takes it: a word, one device, or a .json file with a device for each module.

    >>> read_device_map("auto"), read_device_map({"": 0})
    ('auto', {'': 0})
    """
    if not isinstance(given, str) or given in MAPS:
        return given
    if given.endswith(".json"):
        found = read_json(Path(given)) if Path(given).is_file() else None
        if not isinstance(found, dict) or not all(isinstance(where, int | str) for where in found.values()):
            raise UserError(f'no device map in {given!r}: write {{"MODULE": 0 or "cpu" or "disk", ...}} there')
        return found
    try:
        torch.device(given)
    except RuntimeError:
        raise unknown("device map", given, [*MAPS, "FILE.json"]) from None
    return {"": given}


def batch_tokens(model: Any, *, deepest_block: int | None, writing: bool = False) -> int:
    """Return how many tokens (padding included) a batch may hold; raises before memory runs out.

    `deepest_block` is the last block that runs (-1: none); None means the whole model with its logits. No gradients.
    The estimate counts what one block holds at its widest, the key/value cache of every block that runs and eight
    float32 captures, and takes half of what is free, up to `MOST`, or `MOST_WRITTEN` for prompts with what is written
    behind them.
    """
    left = min(map(available, _computing(model)))
    fits = int(left / (_MARGIN * bytes_per_token(model, deepest_block)))
    if fits < ONE_TEXT:
        needed = int(_MARGIN * bytes_per_token(model, deepest_block) * ONE_TEXT)
        raise UserError(
            f"one text of {ONE_TEXT} tokens needs about {_gib(needed)} of memory and {_gib(left)} is free: "
            "close other programs, choose dtype='bfloat16' or a smaller model"
        )
    most = MOST_WRITTEN if writing else MOST
    return min(fits, most.get(model.device.type, most["cpu"]))


def _computing(model: Any) -> set[Any]:
    """The devices that hold states during a pass: those of the weights, and where offloaded parts are fetched to."""
    if not isinstance(model, torch.nn.Module):
        return {model.device}
    return {p.device for p in model.parameters() if not p.is_meta} | {offload.entrance(model)}


def bytes_per_token(model: Any, deepest_block: int | None) -> int:
    """The estimate behind `batch_tokens`, from the configuration alone."""
    config, size = model.config.get_text_config(), model.dtype.itemsize
    d = config.hidden_size
    heads = config.num_attention_heads
    d_head = getattr(config, "head_dim", None) or d // heads
    d_kv = (getattr(config, "num_key_value_heads", None) or heads) * d_head
    d_mlp = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * d
    n_blocks = config.num_hidden_layers if deepest_block is None else deepest_block + 1
    block = size * (4 * d + 4 * heads * d_head + 4 * d_mlp)
    cache = size * 2 * d_kv * n_blocks
    captures = 4 * 8 * d
    logits = (size + 4) * config.vocab_size if deepest_block is None else 0
    return block + cache + captures + logits


def _meminfo() -> int | None:
    """MemAvailable of Linux: free memory and what the page cache can give back."""
    if not _MEMINFO.is_file():
        return None
    for line in _MEMINFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _container() -> int | None:
    """Memory that the control group (version 2, else 1) still allows; its page cache counts as free."""
    for limit, used, stat in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        if not (_CGROUP / limit).is_file():
            continue
        most = (_CGROUP / limit).read_text().strip()
        if most == "max":
            return None
        counters = dict(line.split() for line in (_CGROUP / stat).read_text().splitlines())
        return int(most) - int((_CGROUP / used).read_text()) + int(counters.get("inactive_file", 0))
    return None


def _gib(n: float) -> str:
    return f"{n / 2**30:.1f} GiB"
