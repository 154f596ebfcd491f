"""Texts in, states out: length-bucketed batches, a shared start computed once, no block past the deepest site."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.core.positions import Positions
from theodolite.core.site import Site
from theodolite.models.families import Network
from theodolite.models.prefix import Prefix
from theodolite.models.run import Batch, Effects, run
from theodolite.models.tokens import Tokens

# From here on a larger batch gains little (128 rows run at 93 % of the speed of 256), while padding costs its share
_ENOUGH = 256
_WASTE = 1.1


@dataclass(frozen=True)
class Columns:
    """Tokens of a batch that run, after a shared start: text `index` (n), roles (n, t), which are selected (n, t)."""

    index: np.ndarray
    roles: Tensor
    selected: Tensor

    def rows(self, h_ntd: Tensor) -> Tensor:
        """The selected tokens' states, text after text."""
        return h_ntd[self.selected.to(h_ntd.device)]


Reduce = Callable[[Site, Tensor, Columns], Any]


def sweep(
    network: Network,
    tokens: Tokens,
    selected: Tensor,
    sites: Iterable[Site],
    reduce: Reduce,
    *,
    prefix: Prefix,
    batch_tokens: int,
    effects: Effects | None = None,
) -> Iterator[tuple[Columns, dict[Site, Any]]]:
    """Run every text (padded on the right) once, texts of like length together.

    `reduce` makes of a state (n, t, d) what is kept of it, as soon as the site is reached.
    """
    wanted = list(sites)
    lengths = tokens.lengths
    for index in batches(lengths - prefix.length, batch_tokens):
        part = tokens[index].first(lengths[index].max())
        columns = slice(prefix.length, part.ids.shape[1])
        ran = Columns(index, part.roles[:, columns], selected[index][:, columns])
        batch, past = Batch(index, len(tokens)), prefix.past(len(index))
        kept = run(network, part, wanted, effects, after=past, reduce=_for(ran, reduce), batch=batch)
        yield ran, kept.activations


def _for(columns: Columns, reduce: Reduce) -> Callable[[Site, Tensor], Any]:
    return lambda site, h: reduce(site, h, columns)


def batches(lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Texts by length, cut where a batch would pass `batch_tokens` or, once large enough, waste a tenth on padding.

    >>> [b.tolist() for b in batches(np.array([9, 2, 2, 9]), batch_tokens=20)]
    [[1, 2], [0, 3]]
    """
    order = lengths.argsort(kind="stable")
    cuts, start, used = [], 0, 0
    for i, length in enumerate(lengths[order].tolist()):
        padded = length * (i + 1 - start)
        wasteful = used >= _ENOUGH and padded > _WASTE * (used + length)
        if i > start and (padded > batch_tokens or wasteful):
            cuts.append(i)
            start, used = i, 0
        used += length
    return np.split(order, cuts)


def select(tokens: Tokens, positions: Positions) -> Tensor:
    """Mask (n, t) of the tokens that are read; a text without any is an error."""
    selected = positions.mask(tokens.roles.numpy())
    if (empty := np.flatnonzero(~selected.any(1))).size:
        raise UserError(f"{empty.size} texts have no token at {str(positions)!r}, the first is text {empty[0]}")
    return torch.from_numpy(selected)


def pooled(h_ntd: Tensor, selected_nt: Tensor, how: str) -> Tensor:
    """One float32 row per text from the selected tokens: mean, max or last."""
    chosen = selected_nt.to(h_ntd.device)
    if how == "last":
        last = chosen.shape[1] - 1 - chosen.flip(1).long().argmax(1)
        return h_ntd[torch.arange(len(h_ntd), device=h_ntd.device), last].float()
    if how == "max":
        return h_ntd.masked_fill(~chosen.unsqueeze(-1), -torch.inf).amax(1).float()
    weights_n1t = (chosen / chosen.sum(1, keepdim=True)).unsqueeze(1)
    return (weights_n1t @ h_ntd.float()).squeeze(1)
