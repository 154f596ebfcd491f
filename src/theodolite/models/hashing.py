"""One hash for one set of weights, the same whether they lie in files or in memory."""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from theodolite.models import offload
from theodolite.models.weight_files import opened, weight_files

# A file changed so short a time before it was hashed may be changed again within one tick of its clock
RACY = 2.0
_SHA256 = re.compile(r"[0-9a-f]{64}")
_hashes: dict[tuple[Any, ...], str] = {}  # of this process, by the state of the files


def folder_hash(folder: Path) -> str:
    """The hash of a folder's weights: over tensor names, dtypes, shapes and bytes, not over file layout.

    Sharding, header order and files that are not the model's (see `weight_files`) do not change it; config, tokenizer
    and revision are not in it. It reads every byte (.2 s for 540 MB on 2 cores, in parallel), which is also what finds
    a damaged file; once per process while no file is touched: inode, size and the times of change are compared.
    """
    state = _state(folder)
    if state in _hashes:
        return _hashes[state]
    homes: dict[str, Any] = {}
    for file in opened(folder):
        homes |= dict.fromkeys(file.offset_keys(), file)
    found = _combined(homes, lambda name: homes[name].get_tensor(name))
    if state == _state(folder) and all(time.time() - changed > RACY for *_, changed in state):
        _hashes[state] = found
    return found


def _state(folder: Path) -> tuple[Any, ...]:
    """Path, inode, size and times of change of the weight files; any write to one of them moves its time of change."""
    stats = [(path, path.stat()) for path in weight_files(folder)]
    return tuple(
        (str(path.resolve()), s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns / 1e9) for path, s in stats
    )


def blobs(folder: Path) -> str:
    """One sha256 over the names of a snapshot's weight files and the sha256 that the hub's cache calls them by.

    "" for any other folder: its files do not say what they hold. The names alone do not find a damaged file.
    """
    named = [(path.name, path.resolve().name) for path in weight_files(folder) if path.is_symlink()]
    if len(named) != len(weight_files(folder)) or not all(_SHA256.fullmatch(blob) for _, blob in named):
        return ""
    return hashlib.sha256("".join(f"{name} {blob}\n" for name, blob in named).encode()).hexdigest()


def model_hash(model: torch.nn.Module) -> str:
    """The hash of a model in memory; equal to its folder's where the names and the dtype are those of the file.

    Of tied weights the first name counts, as in the file. An offloaded part is read from where it lies.
    """
    tensors: dict[str, torch.Tensor] = {}
    seen: set[tuple[int, tuple[int, ...]]] = set()
    for name, tensor in model.state_dict().items():
        if tensor.is_meta:  # it has no place in memory by which a tied one could be known
            if name != _tied(model):
                tensors[name] = tensor
            continue
        place = (tensor.data_ptr(), tuple(tensor.shape))
        if place not in seen:
            tensors[name] = tensor
        seen.add(place)
    return _combined(tensors, lambda name: offload.present(model, name, tensors[name]))


def _tied(model: Any) -> str:
    """Name of the head's weights where the configuration ties them to the embedding's, else ""."""
    config = getattr(model, "config", None)
    if config is None or not config.get_text_config().tie_word_embeddings:
        return ""
    head = model.get_output_embeddings()
    return next((f"{name}.weight" for name, part in model.named_modules() if part is head), "")


def _combined(names: Iterable[str], get: Callable[[str], torch.Tensor]) -> str:
    """sha256 over one line per tensor, in the order of names; hashlib lets threads run side by side."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        lines = pool.map(lambda name: tensor_line(name, get(name)), sorted(names))
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def tensor_line(name: str, tensor: torch.Tensor) -> str:
    """Name, dtype, shape and sha256 of the bytes of a tensor."""
    raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return f"{name} {tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(raw).hexdigest()}\n"
