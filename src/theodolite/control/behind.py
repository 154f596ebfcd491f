"""Openings with tokens behind them, ready for teacher-forced passes.

Shapes: n texts, t tokens, r rows (targets of all texts, text after text), V vocabulary.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.core.language_model import Format
from theodolite.core.positions import Role
from theodolite.models.model import Model
from theodolite.models.run import context
from theodolite.models.tokens import MAX_TOKENS, Encoding, Tokens, encode, pad


def encoded(model: Model, openings: Sequence[str], format: Format = "raw") -> list[Encoding]:
    """Openings as tokens; one too long is an error, since what follows it would follow something else."""
    found = encode(model.tokenizer, openings, format, MAX_TOKENS, context(model.network.module))
    model.check_ids(found)
    for i, row in enumerate(found):
        if row.truncated:
            raise UserError(f"opening {i} has more than {model.most_tokens(format, MAX_TOKENS)} tokens: shorten it")
        if not len(row):
            raise UserError(f"opening {i} has no token: what is to follow it needs at least one before it")
    return found


def at_the_end(model: Model, openings: Sequence[str], format: Format = "raw") -> tuple[Tokens, Tensor]:
    """Tokens (n, t) of openings, and their last tokens as targets (n, t) bool.

    >>> from theodolite.toys.tiny_models import byte_tokenizer, tiny_model
    >>> at_the_end(Model(tiny_model(), byte_tokenizer()), ["ab", "a"])[1].int().tolist()
    [[0, 1], [1, 0]]
    """
    tokens = pad(encoded(model, openings, format), model.tokenizer.pad_token_id or 0)
    return tokens, torch.arange(tokens.ids.shape[1]) == tokens.last_columns[:, None]


def joined(
    model: Model, openings: Sequence[str], ids: Sequence[Sequence[int]], format: Format = "raw", skip: int = 0
) -> tuple[Tokens, Tensor]:
    """Tokens (n, t) of each opening and the ids behind it, and the targets (n, t) bool after which these are predicted.

    skip: number of the ids, from the first, that are not to be predicted. Each text needs more ids than that.

    >>> from theodolite.toys.tiny_models import byte_tokenizer, tiny_model
    >>> tokens, targets = joined(Model(tiny_model(), byte_tokenizer()), ["ab"], [[7, 8]])
    >>> tokens.ids.tolist()[0][-3:], targets.tolist()[0][-3:]
    ([68, 7, 8], [True, True, False])
    """
    rows = [row.extend(more, Role.GENERATED) for row, more in zip(encoded(model, openings, format), ids, strict=True)]
    model.check_ids(rows)
    if (longest := max(map(len, rows))) > (most := context(model.network.module)):
        raise UserError(f"an opening with what follows has {longest} tokens, the model's context {most}: shorten it")
    tokens = pad(rows, model.tokenizer.pad_token_id or 0)
    targets = torch.zeros(tokens.ids.shape, dtype=torch.bool)
    for i, (row, more) in enumerate(zip(rows, ids, strict=True)):
        targets[i, len(row) - len(more) - 1 + skip : len(row) - 1] = True
    return tokens, targets


def next_ids(tokens: Tokens, targets: Tensor) -> np.ndarray:
    """Token that follows each target, (r,); -1 behind the last token of a text.

    >>> from theodolite.toys.tiny_models import byte_tokenizer, tiny_model
    >>> tokens = Model(tiny_model(), byte_tokenizer()).tokens("ab", format="raw")
    >>> next_ids(tokens, tokens.mask).tolist()[-2:] == [int(tokens.ids[0, -1]), -1]
    True
    """
    ids_nt, mask_nt = tokens.ids, tokens.mask
    following_nt = torch.full_like(ids_nt, -1)
    following_nt[:, :-1] = torch.where(mask_nt[:, 1:], ids_nt[:, 1:], -1)
    return following_nt[targets].numpy()
