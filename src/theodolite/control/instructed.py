"""States of texts that stand behind an instruction, on the tokens of the texts themselves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.core.positions import Role
from theodolite.core.site import Site
from theodolite.models.run import run
from theodolite.models.tokenise import encode_texts
from theodolite.models.tokens import Tokens


def before_text(instruction: str) -> str:
    """Return an instruction as it stands before a text: an empty line lies between them.

    >>> before_text("Write in French.")
    'Write in French.\\n\\n'
    """
    return instruction.rstrip() + "\n\n"


def instructed_states(model: Any, site: Site, instruction: str, tokens: Tokens) -> Tensor:
    """States (n, t, d) at a site of the tokens when an instruction stands before each text.

    The instruction stands behind what opens a text (a beginning-of-sequence token, a chat template), as in the prompt
    dial: end it as it shall meet the text. Ids of the text stay as they are, so that column j is token j of `tokens`
    whatever the tokenizer would merge. One pass over all texts.
    """
    ids = instruction_ids(model, instruction)
    joined = inserted(tokens, ids)
    with torch.no_grad():
        states = run(model.network, joined, [site]).activations[site]
    columns = torch.arange(tokens.ids.shape[1]) + len(ids) * behind_opening(tokens)
    return states.gather(1, columns.to(states.device).unsqueeze(2).expand(-1, -1, states.shape[2]))


def instruction_ids(model: Any, instruction: str) -> list[int]:
    """Token ids of an instruction, without those that open a text."""
    ids = list(encode_texts(model.tokenizer, [instruction], add_special_tokens=False)[0])
    if not ids:
        raise UserError("the instruction has no tokens: give words")
    return ids


def inserted(tokens: Tokens, ids: Sequence[int]) -> Tokens:
    """Return texts with the ids of an instruction behind what opens each; padding stays on its side."""
    behind = behind_opening(tokens)
    width = tokens.ids.shape[1]
    columns = torch.arange(width) + len(ids) * behind
    both = []
    for old, new in ((tokens.ids, torch.tensor(ids)), (tokens.roles, torch.full((len(ids),), int(Role.CONTENT)))):
        # every cell that no token of the text moves to is the instruction's, in its order, row after row
        whole = torch.zeros((len(old), width + len(ids)), dtype=old.dtype)
        is_new = torch.ones_like(whole, dtype=torch.bool).scatter(1, columns, False)
        whole.scatter_(1, columns, old)
        whole[is_new] = new.to(old.dtype).repeat(len(old))
        both.append(whole)
    return Tokens(both[0], both[1], tokens.truncated)


def behind_opening(tokens: Tokens) -> Tensor:
    """True (n, t) from the first token of each text on that neither a special token nor a template opens it with."""
    opening = np.isin(tokens.roles.numpy(), [Role.PAD, Role.SPECIAL, Role.PREFIX])
    return torch.from_numpy(~np.logical_and.accumulate(opening, axis=1))
