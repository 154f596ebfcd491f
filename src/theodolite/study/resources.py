"""Resources that a comparison takes, estimated before it runs: minutes, memory by device, and disk."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theodolite.core.recipe import AUTO, Recipe
from theodolite.core.site import Site
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.ops.tiles import CELLS
from theodolite.models import offload
from theodolite.models.preflight import bytes_per_token
from theodolite.study.subjects import SiteDictionary, Subjects

TRIAL = 16  # texts read and coded, from all places of the training rows
CODED_AT_ONCE = 4096  # rows that a dictionary codes at once
_COPIES = 3  # of a tile of pre-activations while its largest are picked: product, latents, mask
_GB = 1e9


@dataclass(frozen=True)
class Resources:
    """Minutes of reading and coding, gigabytes of memory by device ("cpu" is main memory) and of disk in the cache.

    Fits come on top, in main memory and on the processor.
    """

    minutes_reading: float
    minutes_coding: float
    memory_gb: Mapping[str, float]
    disk_gb: float


def resources(
    recipe: Recipe, subjects: Subjects, texts: Mapping[str, Sequence[str]], batch_tokens: int | None = None
) -> Resources:
    """Minutes, memory and disk of reading these texts by data set, at the recipe's sites and in every block.

    A few texts are read and coded; every text is cut into tokens. Nothing is written.
    """
    model = subjects.model
    how: dict[str, Any] = {"format": recipe.format, "max_tokens": recipe.max_tokens}
    tokens = sum(int(model.tokens(several, **how).mask.sum()) for several in texts.values())
    rows = sum(map(len, texts.values()))
    train = next(iter(texts.values()))
    sample = [train[i] for i in np.unique(np.linspace(0, len(train) - 1, TRIAL).astype(int))]
    seconds, seen = _reading(subjects, sample, how)
    positions = "content" if recipe.positions == AUTO else recipe.positions  # chosen in the run; alike in cost
    x_nd = model.read(sample, recipe.site, positions=positions, pooling=None, **how)[Site.parse(recipe.site)].rows
    costs = _coding(subjects, torch.from_numpy(x_nd), len(sample))
    return Resources(
        minutes_reading=seconds / seen * tokens / 60,
        minutes_coding=sum(cost.seconds for cost in costs) / len(sample) * rows / 60,
        memory_gb=_memory(subjects, batch_tokens),
        disk_gb=_disk(recipe, subjects, rows, tokens, costs) / _GB,
    )


@dataclass(frozen=True)
class _Cost:
    """Seconds to code the sample with one dictionary, and the most latents that are active in one text once pooled."""

    seconds: float
    active: float


def _reading(subjects: Subjects, sample: list[str], how: dict[str, Any]) -> tuple[float, int]:
    """Seconds of one pass over the sample up to the last block, and its tokens; a first text warms up."""
    model = subjects.model
    model.read(sample[:1], subjects.blocks[-1], **how)
    begun = time.perf_counter()
    model.read(sample, subjects.blocks[-1], **how)
    return time.perf_counter() - begun, int(model.tokens(sample, **how).mask.sum())


def _coding(subjects: Subjects, x_nd: Tensor, n_texts: int) -> list[_Cost]:
    """Cost of each dictionary and control; those of one width and rule cost the same."""
    known: dict[Any, _Cost] = {}
    found = []
    for s in subjects.dictionaries:
        for d in filter(None, (s.dictionary, s.control)):
            key = (d.width, d.activation.name, d.refit)
            if key not in known:
                begun = time.perf_counter()
                on_device = d.to(s.device)
                code = [on_device.encode_sparse(x.to(s.device)) for x in x_nd.split(CODED_AT_ONCE)]
                seconds = time.perf_counter() - begun
                active = torch.cat([idx[val != 0] for idx, val in code])
                known[key] = _Cost(seconds, min(len(active) / n_texts, len(active.unique())))
            found.append(known[key])
    return found


def _memory(subjects: Subjects, batch_tokens: int | None) -> dict[str, float]:
    """Gigabytes by device: weights where they lie, a batch where it runs, the largest dictionary where it codes."""
    model, module = subjects.model, subjects.model.network.module
    found = {device: float(n) for device, n in offload.places(module).items() if device != "offloaded"}
    deepest = subjects.model.n_blocks - 1
    batch = (batch_tokens or model.batch_tokens([Site(deepest, "resid_post")])) * bytes_per_token(module, deepest)
    for device in {str(p.device) for p in module.parameters() if not p.is_meta} | {str(offload.entrance(module))}:
        found[device] = found.get(device, 0.0) + batch
    found["cpu"] = found.get("cpu", 0.0) + sum(map(_held, subjects.dictionaries))
    largest = {s.device: 0 for s in subjects.dictionaries}
    for s in subjects.dictionaries:
        copy = 0 if s.device == "cpu" else _bytes(s.dictionary)
        tile = _COPIES * 4 * min(CELLS, CODED_AT_ONCE * s.dictionary.width)
        largest[s.device] = max(largest[s.device], copy + tile)
    for device, n in largest.items():
        found[device] = found.get(device, 0.0) + n
    return {device: n / _GB for device, n in found.items()}


def _held(site_dictionary: SiteDictionary) -> int:
    return sum(_bytes(d) for d in (site_dictionary.dictionary, site_dictionary.control) if d is not None)


def _bytes(dictionary: Dictionary) -> int:
    tensors = (*dictionary.weights().values(), *dictionary.activation.tensors().values())
    return sum(t.numel() * t.element_size() for t in tensors)


def _disk(recipe: Recipe, subjects: Subjects, rows: int, tokens: int, costs: Sequence[_Cost]) -> float:
    """Bytes of harvest and views: pooled rows of every block twice, token rows of the sites, and what is coded.

    A dictionary's latents are kept sparse, with 8 bytes each; its reconstruction and its error are dense.
    """
    model = subjects.model
    pooled = 2 * rows * len(subjects.blocks) * model.d_model * 4
    by_token = tokens * len({recipe.site, *recipe.sites}) * model.d_model * model.dtype.itemsize
    dense = len(subjects.dictionaries) * 2 * rows * model.d_model * 4
    return pooled + by_token + dense + sum(cost.active for cost in costs) * rows * 8
