"""Token ids of texts, with a role for every token."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from theodolite.core.errors import UserError, unknown
from theodolite.core.language_model import Format
from theodolite.core.positions import Role
from theodolite.models.tokenise import check_texts, control_tokens, encode_chats, encode_texts

MAX_TOKENS = 256  # of a text, where nobody says another number
# Three user texts that share neither first nor last token: what their renderings share is the template
_PROBES = ("alpha", "7 zeta!", "(b")


class Truncated(UserWarning):
    """Texts were cut at the limit that holds where none is given."""


@dataclass(frozen=True)
class Encoding:
    """One text: ids (t) int64, roles (t) int8, whether its content was cut, and the text itself where it is known."""

    ids: np.ndarray
    roles: np.ndarray
    truncated: bool = False
    text: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def extend(self, ids: Sequence[int], role: Role) -> "Encoding":
        """This text with more tokens behind it."""
        more = np.full(len(ids), role, np.int8)
        joined = np.concatenate([self.ids, np.asarray(ids, np.int64)])
        return Encoding(joined, np.concatenate([self.roles, more]), self.truncated, self.text)


@dataclass(frozen=True)
class Tokens:
    """A padded batch: ids (n, t) int64, roles (n, t) int8 (padding is role 0), truncated (n) bool.

    `texts` are those of the user, where all are known; parts of a batch do not keep them.
    """

    ids: Tensor
    roles: Tensor
    truncated: Tensor
    texts: tuple[str, ...] = ()

    @property
    def mask(self) -> Tensor:
        """True at tokens, False at padding; (n, t) bool."""
        return self.roles != Role.PAD

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per text, padding left out; (n) int64."""
        return self.mask.sum(1).numpy()

    @property
    def last_columns(self) -> Tensor:
        """Column of each text's last token; (n) int64."""
        return self.ids.shape[1] - 1 - self.mask.flip(1).long().argmax(1)

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
    tokenizer: Any,
    texts: Sequence[str],
    format: Format = "chat",
    max_tokens: int = MAX_TOKENS,
    context: int | None = None,
) -> list[Encoding]:
    """Tokenise texts as the user's turn of a chat, ready for the answer, or as they are; `auto` is a chat if it can be.

    A chat is rendered and tokenised as a whole, so that tokens that merge across the template's edge stay as the
    model would see them. At most `max_tokens` of a text are kept, or as many as `context` leaves beside the template,
    which always is. The string of a control token in a text is text (see `tokenise`); the token for unknown characters
    gets the role SPECIAL.
    """
    check_texts(texts)
    if not len(texts):
        raise UserError("no texts to encode")
    if max_tokens < 1:
        raise UserError(f"max_tokens={max_tokens} leaves nothing of a text: give at least 1")
    format = settled_format(tokenizer, format)
    if format not in ("chat", "raw"):
        raise unknown("format", format, ["auto", "chat", "raw"])
    most = most_tokens(tokenizer, format, max_tokens, context)
    special = np.array([*control_tokens(tokenizer).values()])
    if format == "raw":
        encoded = [_raw(np.asarray(row, np.int64), special, most) for row in encode_texts(tokenizer, texts)]
        return [replace(row, text=text) for row, text in zip(encoded, texts, strict=True)]
    template = chat_template(tokenizer)
    rows = encode_chats(tokenizer, _chats(texts))
    encoded = [_chat(np.asarray(row, np.int64), template, special, most) for row in rows]
    return [replace(row, text=text) for row, text in zip(encoded, texts, strict=True)]


def most_tokens(tokenizer: Any, format: Format, max_tokens: int, context: int | None) -> int:
    """Return how many tokens of a text are kept: `max_tokens`, or what the context leaves beside the template."""
    if context is None:
        return max_tokens
    if format == "raw":
        around = int(np.isin(encode_texts(tokenizer, ["a"])[0][:1], [*control_tokens(tokenizer).values()]).sum())
    else:
        template = chat_template(tokenizer)
        around = len(template.prefix) + len(template.suffix)
    if around >= context:
        raise UserError(
            f"the chat template alone has {around} tokens, the model's context {context}: use --format raw, "
            "or format='raw' in Python"
        )
    return min(max_tokens, context - around)


def check_ids(encodings: Sequence[Encoding], n_embeddings: int, tokenizer: Any) -> None:
    """Refuse token ids for which the model has no embedding."""
    for i, row in enumerate(encodings):
        if len(row) and int(row.ids.max()) >= n_embeddings:
            raise UserError(
                f"text {i} has the token id {int(row.ids.max())}: the tokenizer has {len(tokenizer)} tokens, the "
                f"model's embedding {n_embeddings} rows; use the tokenizer that belongs to these weights"
            )


def settled_format(tokenizer: Any, format: Format) -> Format:
    """The format itself; of `auto` what it means for this tokenizer."""
    if format != "auto":
        return format
    return "chat" if getattr(tokenizer, "chat_template", None) else "raw"


def chat_template(tokenizer: Any) -> Template:
    """The common start and end of the renderings of unlike texts."""
    probes = encode_chats(tokenizer, _chats(_PROBES))
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
    return Tokens(torch.from_numpy(ids), torch.from_numpy(roles), truncated, tuple(row.text for row in encodings))


def _chats(texts: Sequence[str]) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": text}] for text in texts]


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
