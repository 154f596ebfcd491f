"""Tokens that hold given characters of the user's texts."""

import json
from dataclasses import replace
from typing import Any

import numpy as np

from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.positions import Positions, Role
from theodolite.core.token_choice import TextSpan, TokenNumbers
from theodolite.models.tokenise import encode_with_offsets
from theodolite.models.tokens import Tokens


def found_in(positions: Positions, tokenizer: Any, tokens: Tokens) -> Positions:
    """Return positions as they are, of spans the token numbers; a text whose span has no token is an error.

    A token belongs to a span that it shares a character with, so that a leading space or a merge takes in a neighbour.
    """
    if not isinstance(positions, TextSpan):
        return positions
    if len(tokens.texts) != len(tokens):
        raise UserError(f"{str(positions)[:60]!r} needs the texts of the tokens: make these by model.tokens(texts)")
    ranges, rows = positions.within(tokens.texts), []
    for number, text in enumerate(tokens.texts):
        roles = tokens.roles[number].numpy()
        roles = roles[roles != Role.PAD]
        is_chat = bool(np.isin(roles, [Role.PREFIX, Role.SUFFIX]).any())
        ids, offsets = encode_with_offsets(tokenizer, text, chat=is_chat)
        mine = np.isin(roles, [Role.CONTENT, Role.FIRST, Role.SPECIAL])  # a cut text has lost tokens behind these
        kept = np.flatnonzero(mine)
        starts, stops = offsets[kept].T
        held = np.zeros(len(kept), bool)
        for start, stop in ranges[number]:
            held |= (starts < stop) & (stops > start) & (stops > starts)
        if not held.any():
            raise UserError(f"text {number} has no token at {str(positions)[:60]!r}: it was cut before")
        own = tokens.ids[number][tokens.mask[number]].numpy()
        assert (np.asarray(ids)[kept] == own[kept]).all(), "the text has the tokens that were made of it"
        rows.append(kept[held].tolist())
    return TokenNumbers(json.dumps({"tokens": rows}))


def placed(change: Any, tokenizer: Any, tokens: Tokens) -> Any:
    """Return a change of a pass with its spans as the token numbers that they are in the texts of a call."""
    if not isinstance(change, Intervention) or not any(isinstance(place, TextSpan) for place in change.places()):
        return change
    when = change.when
    if when is not None and when.since is not None:
        when = replace(when, since=found_in(when.since, tokenizer, tokens))
    return replace(change, positions=found_in(change.positions, tokenizer, tokens), when=when)
