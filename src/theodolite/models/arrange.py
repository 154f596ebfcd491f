"""Blocks of a network in another order for the length of a pass, and the key/value cache that such a pass needs."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import DynamicCache

from theodolite.core.block_order import BlockOrder
from theodolite.core.errors import UserError
from theodolite.core.site import Site
from theodolite.models.families import Network

_ENDS_OF_BLOCK = ("resid_pre", "resid_post")


class _SkippedBlock(nn.Module):
    """Module at a depth where no block runs: returns the stream unchanged, or a stream that was computed before."""

    def __init__(self, state: Tensor | None = None) -> None:
        super().__init__()
        self._state = state  # not a buffer: it does not belong to the model

    def forward(self, hidden_states: Tensor, *args: Any, **options: Any) -> Tensor:
        return hidden_states if self._state is None else self._state


class _SharedBlock(nn.Module):
    """Module for one depth of a block that runs at several depths, so that each depth has hooks of its own."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self._block = [block]  # hidden in a list: as a submodule its parameters would count once more

    def forward(self, *args: Any, **options: Any) -> Any:
        return self._block[0](*args, **options)


class _OrderedCache(DynamicCache):
    """Keys and values by depth, for the depths at which a block runs.

    A block asks for its cache by its own number, which here is not its depth: one block may run at two depths.
    """

    layers: list[Any]

    def __init__(self, config: Any, blocks: Sequence[int]) -> None:
        super().__init__(config=config)
        kinds = self.layers  # full attention or a sliding window, each block's own
        self.layers = [copy.copy(kinds[block]) for block in blocks]  # still empty: nothing is shared
        self._places: dict[int, list[int]] = {}
        for place, block in enumerate(blocks):
            self._places.setdefault(block, []).append(place)
        self._turns = dict.fromkeys(self._places, 0)

    def __copy__(self) -> "_OrderedCache":
        new = object.__new__(type(self))
        new.__dict__ = self.__dict__ | {"_turns": dict(self._turns)}
        return new

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **options: Any) -> Any:
        places, turn = self._places[layer_idx], self._turns[layer_idx]
        self._turns[layer_idx] = (turn + 1) % len(places)  # a pass runs the depths in order
        return super().update(key_states, value_states, places[turn], *args, **options)


def new_cache(network: Network, order: BlockOrder | None = None) -> DynamicCache | None:
    """Return an empty key/value cache for passes in an order; None where no block runs."""
    config = network.module.config
    if order is None:
        return DynamicCache(config=config)
    running = [block for block in order.over(network.n_blocks) if block is not None]
    return _OrderedCache(config, running) if running else None


@contextmanager
def arranged(network: Network, order: BlockOrder | None, start: int = 0, state: Tensor | None = None) -> Iterator[None]:
    """Let blocks run in an order inside; with `start`, skip the blocks before it and begin with the stream `state`.

    The list of blocks is shared by all threads, so the network's lock is held. The list is restored at the end, also
    after an error.
    """
    if order is None and not start:
        yield
        return
    with network.lock:
        blocks, config = network.blocks, network.module.base_model.config
        own, kinds = list(blocks), getattr(config, "layer_types", None)
        wanted = order.over(len(own)) if order else [*range(len(own))]
        wanted = [None if depth < start else block for depth, block in enumerate(wanted)]
        try:
            for depth, block in enumerate(wanted):
                if block is None:
                    blocks[depth] = _SkippedBlock(state if depth == start - 1 else None)
                elif wanted.count(block) > 1:
                    blocks[depth] = _SharedBlock(own[block])
                elif block != depth:
                    blocks[depth] = own[block]
            if kinds is not None:  # a block keeps its own kind of attention: the body chooses masks by depth
                config.layer_types = [kinds[depth if block is None else block] for depth, block in enumerate(wanted)]
            yield
        finally:
            for depth, module in enumerate(own):
                blocks[depth] = module
            if kinds is not None:
                config.layer_types = kinds


def check_sites(order: BlockOrder | None, sites: Sequence[Site], n_blocks: int) -> None:
    """Refuse sites inside a place where no block runs, or where one runs that has another place too."""
    if order is None:
        return
    wanted = order.over(n_blocks)
    for site in sites:
        if site.block is None or site.part in _ENDS_OF_BLOCK:
            continue
        block = wanted[site.block]
        if block is None:
            raise UserError(f"{str(site)!r} is not computed: {order} skips block {site.block}")
        if wanted.count(block) > 1:
            raise UserError(
                f"{str(site)!r} is inside block {block}, which {order} runs at {wanted.count(block)} depths: of such "
                "a block only resid_pre and resid_post can be read or changed"
            )
