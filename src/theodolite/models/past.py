"""The columns that a pass continues from: keys and values of attention, and what interventions keep of them."""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from theodolite.core.block_order import BlockOrder
from theodolite.models.arrange import new_cache
from theodolite.models.families import Network


class Memory:
    """Values that interventions keep from one pass over a batch of texts to the next; each is a row per text.

    It belongs to one batch of one call, as the key/value cache does, so nothing of it reaches another.
    """

    def __init__(self, kept: dict[Any, Tensor] | None = None) -> None:
        self._kept = dict(kept or {})

    def get(self, key: Any) -> Tensor | None:
        """The value kept under a key, None before the first column of a text."""
        return self._kept.get(key)

    def set(self, key: Any, value: Tensor) -> None:
        """Keep a value for the next pass."""
        self._kept[key] = value

    def rows(self, index: Sequence[int]) -> "Memory":
        """The values of some texts, in an order in which one may come several times."""
        return Memory({key: value[torch.tensor(index, device=value.device)] for key, value in self._kept.items()})


@dataclass(frozen=True)
class Past:
    """State that the passes over the first columns of a batch have left for the next pass."""

    cache: DynamicCache
    memory: Memory = field(default_factory=Memory)

    @classmethod
    def empty(cls, network: Network, order: BlockOrder | None = None) -> "Past | None":
        """Nothing yet; None where no block runs, so that every pass has to begin at the first column."""
        cache = new_cache(network, order)
        return None if cache is None else cls(cache)

    @property
    def length(self) -> int:
        """Number of columns that were seen."""
        return int(self.cache.get_seq_length())

    @property
    def is_used(self) -> bool:
        """Return whether any attention has run."""
        layers: list[Any] = self.cache.layers
        return any(layer.is_initialized for layer in layers)

    def rows(self, index: Sequence[int]) -> "Past":
        """The past of some texts, in an order in which one may come several times; this one stays as it is.

        Layers are copied with their counters (a sliding window forgets keys but not how many there were). Keys and
        values of one text alone are views until a batch appends its own.
        """
        cache = copy.copy(self.cache)
        layers: list[Any] = [copy.copy(layer) for layer in self.cache.layers]
        for layer in layers:
            if layer.is_initialized:
                layer.keys, layer.values = (_rows(x, index) for x in (layer.keys, layer.values))
        cache.layers = layers
        return Past(cache, self.memory.rows(index))


def cache_argument(kind: type[nn.Module]) -> str:
    """Name by which the forward pass of a transformers class takes its key/value cache.

    It is `past_key_values`, and `cache` from transformers 5.24 on, which warns of the old name and drops it in 5.40.
    The signature says which, since a model whose code comes with its files may keep the old name.

    >>> from theodolite.toys.tiny_models import tiny_model
    >>> cache_argument(type(tiny_model())) in ("cache", "past_key_values")
    True
    """
    return "cache" if "cache" in inspect.signature(kind.forward).parameters else "past_key_values"


def _rows(x: Tensor, index: Sequence[int]) -> Tensor:
    if len(x) == 1:
        return x.expand(len(index), *[-1] * (x.ndim - 1))
    return x[torch.tensor(index, device=x.device)]
