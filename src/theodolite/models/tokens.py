"""From texts to token ids in which every token has a role."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from theodolite.core.errors import UserError, unknown
from theodolite.core.positions import Role

Format = Literal["auto", "chat", "raw"]
MAX_TOKENS = 256  # of a text, where nobody says another number
# Three user texts that share neither first nor last token: what their renderings share is the template
_PROBES = ("alpha", "7 zeta!", "(b")


class Truncated(UserWarning):
    """Texts were cut at the limit that holds where none is given."""


@dataclass(frozen=True)
class Encoding:
    """One text: ids (t) int64, roles (t) int8, and whether its content was cut."""

    ids: np.ndarray
    roles: np.ndarray
    truncated: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def extend(self, ids: Sequence[int], role: Role) -> "Encoding":
        """This text with more tokens behind it."""
        more = np.full(len(ids), role, np.int8)
        joined = np.concatenate([self.ids, np.asarray(ids, np.int64)])
        return Encoding(joined, np.concatenate([self.roles, more]), self.truncated)


@dataclass(frozen=True)
class Tokens:
    """A padded batch: ids (n, t) int64, roles (n, t) int8 (padding is role 0), truncated (n) bool."""

    ids: Tensor
    roles: Tensor
    truncated: Tensor

    @property
    def mask(self) -> Tensor:
        """True at tokens, False at padding; (n, t) bool."""
        return self.roles != Role.PAD

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per text, padding left out; (n) int64."""
        return self.mask.sum(1).numpy()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Any) -> "Tokens":
        return Tokens(self.ids[rows], self.roles[rows], self.truncated[rows])

    def first(self, width: int) -> "Tokens":
        """The first `width` columns."""
        return Tokens(self.ids[:, :width], self.roles[:, :width], self.truncated)


@dataclass(frozen=True)
class Template:
    """The constant token ids around the user's text in a chat rendering."""

    prefix: list[int]
    suffix: list[int]


def encode(
    tokenizer: Any, texts: Sequence[str], format: Format = "chat", max_tokens: int = MAX_TOKENS
) -> list[Encoding]:
    """Tokenise texts as the user's turn of a chat, ready for the answer, or as they are; `auto` is a chat if it can be.

    A chat is rendered and tokenised as a whole, so that tokens that merge across the template's edge stay as the
    model would see them. At most `max_tokens` of a text are kept; the template behind it always is. Special tokens
    that a text contains get the role SPECIAL.
    """
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"text {i} is {type(text).__name__}, not str")
    if not len(texts):
        raise UserError("no texts to encode")
    if max_tokens < 1:
        raise UserError(f"max_tokens={max_tokens} leaves nothing of a text: give at least 1")
    special = np.array(tokenizer.all_special_ids)
    format = settled_format(tokenizer, format)
    if format == "raw":
        ids = tokenizer(list(texts), verbose=False)["input_ids"]
        return [_raw(np.asarray(row, np.int64), special, max_tokens) for row in ids]
    if format != "chat":
        raise unknown("format", format, ["auto", "chat", "raw"])
    template = chat_template(tokenizer)
    return [_chat(np.asarray(row, np.int64), template, special, max_tokens) for row in _render(tokenizer, texts)]


def settled_format(tokenizer: Any, format: Format) -> Format:
    """The format itself; of `auto` what it means for this tokenizer."""
    if format != "auto":
        return format
    return "chat" if getattr(tokenizer, "chat_template", None) else "raw"


def chat_template(tokenizer: Any) -> Template:
    """What the renderings of unlike texts have in common at their two ends."""
    probes = _render(tokenizer, _PROBES)
    prefix = probes[0][: common_prefix(probes)]
    suffix = probes[0][len(probes[0]) - common_prefix([row[::-1] for row in probes]) :]
    return Template(prefix, suffix)


def common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """Length of the longest common start.

    >>> common_prefix([[1, 2, 3], [1, 2, 4, 5]])
    2
    """
    first, last = min(map(list, rows)), max(map(list, rows))  # in lexical order all others lie between these two
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def pad(encodings: Sequence[Encoding], pad_id: int, side: Literal["left", "right"] = "right") -> Tokens:
    """One batch from texts of different length."""
    width = max(map(len, encodings))
    ids = np.full((len(encodings), width), pad_id, np.int64)
    roles = np.full((len(encodings), width), Role.PAD, np.int8)
    for i, row in enumerate(encodings):
        columns = slice(width - len(row), None) if side == "left" else slice(0, len(row))
        ids[i, columns], roles[i, columns] = row.ids, row.roles
    truncated = torch.tensor([row.truncated for row in encodings])
    return Tokens(torch.from_numpy(ids), torch.from_numpy(roles), truncated)


def _render(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    if not getattr(tokenizer, "chat_template", None):
        raise UserError("this model's tokenizer has no chat template: use format='raw'")
    chats = [[{"role": "user", "content": text}] for text in texts]
    rendered = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
    return tokenizer(rendered, add_special_tokens=False, verbose=False)["input_ids"]


def _raw(ids: np.ndarray, special: np.ndarray, max_tokens: int) -> Encoding:
    """Roles of a raw text; what the tokenizer puts in front (a BOS) does not count against `max_tokens`."""
    is_special = np.isin(ids, special)
    bos = int(len(ids) > 0 and is_special[0])
    kept = ids[: bos + max_tokens]
    roles = np.where(is_special[: len(kept)], Role.SPECIAL, Role.CONTENT).astype(np.int8)
    if len(kept) and not bos:
        roles[0] = Role.FIRST
    return Encoding(kept, roles, len(kept) < len(ids))


def _chat(ids: np.ndarray, template: Template, special: np.ndarray, max_tokens: int) -> Encoding:
    """Roles of a rendered chat; a template token that merged with the text counts as content."""
    start = common_prefix([ids.tolist()[: len(template.prefix)], template.prefix])
    rest = ids[start:]
    behind = common_prefix([rest[::-1].tolist()[: len(template.suffix)], template.suffix[::-1]])
    content, suffix = np.split(rest, [len(rest) - behind])
    kept = content[:max_tokens]
    role_of = np.where(np.isin(kept, special), Role.SPECIAL, Role.CONTENT)
    roles = np.concatenate([np.full(start, Role.PREFIX), role_of, np.full(behind, Role.SUFFIX)]).astype(np.int8)
    return Encoding(np.concatenate([ids[:start], kept, suffix]), roles, len(kept) < len(content))
