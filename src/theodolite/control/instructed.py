"""States of texts that stand behind an instruction, on the tokens of the texts alone."""

from typing import Any

import numpy as np
from torch import Tensor

from theodolite.core.positions import Role
from theodolite.core.site import Site
from theodolite.models.tokens import Encoding, Tokens, pad

BETWEEN = "\n\n"  # the instruction, an empty line, then the text


def instructed_states(model: Any, site: Site, instruction: str, tokens: Tokens) -> Tensor:
    """States (n, t, d) at a site of the texts' own tokens when an instruction stands before each text.

    The token ids of the text follow those of the instruction as they are, so that column j is token j of `tokens`
    whatever the tokenizer would merge. Where a text has a beginning-of-sequence token, the instruction's takes its
    place, and its column holds a state of the instruction. One pass over all texts.
    """
    before = model.tokens([instruction + BETWEEN], format="raw")
    head_ids, head_roles = before.ids[0].numpy(), before.roles[0].numpy()
    real = tokens.mask.numpy()
    rows = [(ids[on], roles[on]) for ids, roles, on in zip(tokens.ids.numpy(), tokens.roles.numpy(), real, strict=True)]
    opens = int(starts_a_sequence(tokens).any())  # a tokenizer puts the token before all texts, or before none
    joined = pad(
        [
            Encoding(np.concatenate([head_ids, ids[opens:]]), np.concatenate([head_roles, _inside(roles[opens:])]))
            for ids, roles in rows
        ],
        pad_id=0,
        side="right" if bool(real[:, 0].all()) else "left",
    )
    first = len(head_ids) - opens
    return model.run(joined, capture=site, logits=False)[site][:, first : first + tokens.ids.shape[1]]


def starts_a_sequence(tokens: Tokens) -> Tensor:
    """True (n) where the first token of a text is special: what the tokenizer puts before a raw text."""
    first = tokens.mask.long().argmax(1, keepdim=True)
    return (tokens.roles.gather(1, first) == Role.SPECIAL).squeeze(1)


def _inside(roles: np.ndarray) -> np.ndarray:
    """Roles of a text's tokens behind other ones: its first token is content there."""
    return np.where(roles == Role.FIRST, Role.CONTENT, roles).astype(np.int8)
