"""The start that texts share, computed once: its keys and values are handed to every batch."""

import copy
from typing import Any

import numpy as np
from torch import Tensor
from transformers import DynamicCache

from theodolite.core.positions import Role
from theodolite.core.site import Site
from theodolite.models.families import Network
from theodolite.models.run import run
from theodolite.models.tokens import Tokens

_SHARED = 16  # tokens beyond what all texts begin with, from which on two texts begin alike
_WORTH = 256  # tokens that a group has to save: it costs a pass over its start and batches of its own


class Prefix:
    """Keys and values of a constant start (one row of tokens); `length` is 0 where no attention runs over it."""

    def __init__(self, network: Network, start: Tokens, deepest: Site) -> None:
        self._cache = DynamicCache(config=network.module.config)
        if start.ids.shape[1]:
            run(network, start, [deepest], cache=self._cache)
        # blocks past the deepest site never ran; if none did, there is nothing to hand on
        layers: list[Any] = self._cache.layers
        ran = any(layer.is_initialized for layer in layers)
        self.length = start.ids.shape[1] if ran else 0

    def cache(self, n: int) -> DynamicCache | None:
        """A cache for a batch of n texts that continues from the start, or None where nothing is shared.

        Layers are copied with their counters (a sliding window forgets keys but not how many there were); keys and
        values are views until a batch appends its own.
        """
        if not self.length:
            return None
        cache = copy.copy(self._cache)
        layers: list[Any] = [copy.copy(layer) for layer in self._cache.layers]
        for layer in layers:
            if layer.is_initialized:
                layer.keys, layer.values = (x.expand(n, -1, -1, -1) for x in (layer.keys, layer.values))
        cache.layers = layers
        return cache


def shared_start(tokens: Tokens, selected: Tensor) -> Tokens:
    """One row with the template tokens that all texts begin with, up to the first selected token (n, t)."""
    template = (tokens.roles[0] == Role.PREFIX) | (tokens.roles[0] == Role.SPECIAL)
    constant = (tokens.ids == tokens.ids[0]).all(0) & (tokens.roles == tokens.roles[0]).all(0)
    usable = constant & template & ~selected.any(0)
    return tokens[:1].first(int(usable.long().cumprod(0).sum()))


def alike_from_the_start(tokens: Tokens) -> list[np.ndarray]:
    """Texts (padded on the right) in groups, each with more to share than all of them have; the rest is one group.

    In an order that puts equal starts together, a group is a run in which each text shares as much with the next.
    """
    rows = [row.tobytes() for row in tokens.ids.numpy()]
    order = np.array(sorted(range(len(rows)), key=rows.__getitem__))
    ids = tokens.ids.numpy()[order]
    shared = np.logical_and.accumulate(ids[1:] == ids[:-1], axis=1).sum(1)  # by each text and the next
    groups: list[np.ndarray] = []
    rest: list[int] = []
    start = 0
    extra = shared - shared.min(initial=len(ids[0]))
    for stop in [*(np.flatnonzero(extra < _SHARED) + 1).tolist(), len(order)]:
        saves = (stop - start - 1) * min(extra[start : stop - 1], default=0)
        groups.append(order[start:stop]) if saves >= _WORTH else rest.extend(order[start:stop])
        start = stop
    return [*groups, np.array(rest)] if rest else groups
