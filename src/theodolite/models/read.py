"""Rows of activations for texts, in memory."""

import warnings
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from theodolite.core.activations import Activations
from theodolite.core.backoff import Backoff
from theodolite.core.language_model import LanguageModel
from theodolite.core.positions import Positions, check_pooling, pooled_over
from theodolite.core.site import AtSites, Site
from theodolite.models.families import Network
from theodolite.models.prefix import Prefix, shared_start
from theodolite.models.run import Effects
from theodolite.models.sweep import Columns, pooled, select, sweep
from theodolite.models.tokens import Tokens

TOO_LONG = "give a smaller max_tokens=, choose dtype='bfloat16', or a smaller model"


@torch.no_grad()
def read(
    model: LanguageModel,
    tokens: Tokens,
    sites: Iterable[Site],
    positions: Positions,
    pooling: str | None,
    effects: Effects,
    batch_tokens: int,
) -> AtSites[Activations]:
    """States at the chosen tokens (or one pooled row per text) of a `Model`: float32, in the order of the texts."""
    wanted = sorted(set(sites))
    weights = model.hash  # reads all weights, and refuses what they do not describe: once for all sites, and first
    if pooling is not None:
        check_pooling(pooling)
    select(tokens, positions)  # also `last` refuses a text without the tokens that are asked for, as a harvest does
    selected = select(tokens, pooled_over(positions, pooling))
    # an intervention may act on the template: then it must run with every text
    start = tokens[:1].first(0) if effects else shared_start(tokens, selected)
    prefix = Prefix(model.network, start, wanted[-1])

    def keep(site: Site, h: Tensor, columns: Columns) -> Tensor:
        if pooling is not None:
            return pooled(h, columns.selected, pooling).cpu()
        return columns.rows(h).float().cpu()

    def parts_of(size: int) -> list[tuple[Columns, dict[Site, Tensor]]]:
        return list(
            sweep(model.network, tokens, selected, wanted, keep, prefix=prefix, batch_tokens=size, effects=effects)
        )

    batches = Backoff(
        batch_tokens, "tokens per batch", TOO_LONG, lambda kind, n, text: warnings.warn(text, stacklevel=2)
    )
    parts = batches(parts_of, least=int(tokens.lengths.max()))
    effects.check()
    doc = np.concatenate([_docs(columns, pooling) for columns, _ in parts])
    order = doc.argsort(kind="stable")
    rows = {site: torch.cat([kept[site] for _, kept in parts]).numpy()[order] for site in wanted}
    return AtSites(
        {site: Activations(rows[site], doc[order], site, positions, pooling, model.name, weights) for site in wanted}
    )


@torch.inference_mode()
def embed(network: Network, tokens: Tokens) -> np.ndarray:
    """Mean of the input embeddings over the content of each text; (n, d) float32, no block runs."""
    content = select(tokens, Positions("content"))
    module = network.module.get_input_embeddings()
    with network.lock:  # another thread may have its hook on the embedding
        states = module(tokens.ids[content].to(module.weight.device)).float().cpu().numpy()
    starts = np.concatenate([[0], content.sum(1).cumsum(0)[:-1].numpy()])
    return np.add.reduceat(states, starts) / content.sum(1, keepdim=True).numpy().astype(np.float32)


def _docs(columns: Columns, pooling: str | None) -> np.ndarray:
    """The text of each row: once if pooled, else once per selected token."""
    return columns.index if pooling is not None else columns.index.repeat(columns.selected.sum(1).numpy())
