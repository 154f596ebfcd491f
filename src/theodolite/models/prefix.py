"""The start that texts share, computed once: its keys and values are handed to every batch."""

import numpy as np
from torch import Tensor

from theodolite.core.positions import Role
from theodolite.core.site import Site
from theodolite.models.families import Network
from theodolite.models.past import Past
from theodolite.models.run import run
from theodolite.models.tokens import Tokens

_SHARED = 16  # tokens beyond what all texts begin with, from which on two texts begin alike
_LEAST_SAVED = 256  # tokens that a group must save, because it needs a pass over its start and batches of its own


class Prefix:
    """Keys and values of a constant start (one row of tokens); `length` is 0 where no attention runs over it."""

    def __init__(self, network: Network, start: Tokens, deepest: Site) -> None:
        self._past = Past.empty(network)
        assert self._past is not None, "without an order of blocks all of them run"
        if start.ids.shape[1]:
            run(network, start, [deepest], after=self._past)
        # blocks past the deepest site never ran; if none did, there is nothing to hand on
        self.length = start.ids.shape[1] if self._past.is_used else 0

    def past(self, n: int) -> Past | None:
        """Return the past that a batch of n texts continues from, or None where nothing is shared."""
        return self._past.rows([0] * n) if self._past and self.length else None


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
        groups.append(order[start:stop]) if saves >= _LEAST_SAVED else rest.extend(order[start:stop])
        start = stop
    return [*groups, np.array(rest)] if rest else groups
