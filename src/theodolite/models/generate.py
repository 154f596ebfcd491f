"""Generation as repeated runs: the same hooks, the same positions, with or without a key/value cache."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from theodolite.core.errors import UserError
from theodolite.core.positions import Role
from theodolite.core.seeds import child_seed
from theodolite.models.families import Network
from theodolite.models.run import Batch, Effects, context, run
from theodolite.models.sweep import batches
from theodolite.models.tokens import Encoding, Tokens, pad


@torch.no_grad()
def generate(
    network: Network,
    prompts: Sequence[Encoding],
    *,
    max_new_tokens: int,
    effects: Effects | None = None,
    stop_ids: Sequence[int] = (),
    temperature: float = 0.0,
    seed: int = 0,
    use_cache: bool = True,
    batch_tokens: int | None = None,
) -> list[list[int]]:
    """New token ids per prompt, up to and without a stop token.

    Greedy at temperature 0. A sample depends on the seed and its own prompt, not on the batch. Positions are resolved
    against the prompt and what follows it, so that the cache changes the speed and nothing else. Prompts of like
    length run together, as many as `batch_tokens` hold with their answers at full length (None: all at once).
    """
    if not 0 <= temperature < np.inf:
        raise UserError(f"temperature={temperature} is no number from 0 on: give 0 for the likeliest token, or more")
    effects = effects or Effects(())
    longest = max(map(len, prompts))
    if longest + max_new_tokens - 1 > (limit := context(network.module)):  # the last new token is not read
        raise UserError(
            f"the longest prompt has {longest} tokens: {max_new_tokens} new ones behind it exceed the model's context "
            f"of {limit}; lower max_new_tokens or max_tokens"
        )
    lengths = np.array([len(row) + max_new_tokens for row in prompts])
    new: list[list[int]] = [[] for _ in prompts]
    for index in batches(lengths, batch_tokens) if batch_tokens else [np.arange(len(prompts))]:
        chosen = np.sort(index)
        together = [prompts[i] for i in chosen]
        batch = Batch(chosen, len(prompts), skipped=longest - max(map(len, together)))
        draws = [torch.Generator().manual_seed(child_seed(seed, *row.ids.tolist())) for row in together]
        cache = DynamicCache(config=network.module.config) if use_cache else None
        answers = _batch(network, together, batch, max_new_tokens, effects, stop_ids, temperature, draws, cache)
        for i, answer in zip(chosen, answers, strict=True):
            new[i] = answer
    effects.check()
    return new


def _batch(
    network: Network,
    prompts: Sequence[Encoding],
    batch: Batch,
    max_new_tokens: int,
    effects: Effects,
    stop_ids: Sequence[int],
    temperature: float,
    draws: list[torch.Generator],
    cache: Any,
) -> list[list[int]]:
    """New tokens of prompts that run together, one step for all at a time."""
    tokens = pad(prompts, pad_id=0, side="left")
    new: list[list[int]] = [[] for _ in prompts]
    running = [True] * len(prompts)
    for _ in range(max_new_tokens):
        logits = run(network, tokens, effects=effects, logits=True, last_only=True, cache=cache, batch=batch).logits
        assert logits is not None
        chosen = _choose(logits[:, -1].float().cpu(), temperature, draws)
        for i, token in enumerate(chosen):
            running[i] = running[i] and token not in stop_ids
            if running[i]:
                new[i].append(token)
        if not any(running):
            break
        tokens = _append(tokens, chosen, running)
    return new


def _choose(logits_nv: Tensor, temperature: float, draws: list[torch.Generator]) -> list[int]:
    if temperature == 0:
        return logits_nv.argmax(-1).tolist()
    probabilities = (logits_nv / temperature).softmax(-1)
    return [int(torch.multinomial(p, 1, generator=g)) for p, g in zip(probabilities, draws, strict=True)]


def _append(tokens: Tokens, chosen: list[int], running: list[bool]) -> Tokens:
    """One more column; a text that has stopped is padded."""
    roles = torch.tensor([[Role.GENERATED if on else Role.PAD] for on in running], dtype=torch.int8)
    ids = torch.cat([tokens.ids, torch.tensor(chosen).unsqueeze(1)], dim=1)
    return Tokens(ids, torch.cat([tokens.roles, roles], dim=1), tokens.truncated)
