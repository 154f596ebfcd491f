"""Token positions: one language for reading and for intervening, resolved against the role of every token."""

import re
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from theodolite.core.errors import UserError, unknown

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

POOLINGS = ("mean", "last", "max")


class Role(IntEnum):
    """The role of a token in its sequence.

    FIRST is the first token of a raw text without a BOS: an attention sink, 50 to 150 times larger than the others,
    and therefore no content. GENERATED tokens follow the prompt.
    """

    PAD = 0
    SPECIAL = 1
    PREFIX = 2
    CONTENT = 3
    SUFFIX = 4
    FIRST = 5
    GENERATED = 6


_WORDS: dict[str, tuple[Role, ...]] = {role.name.lower(): (role,) for role in Role if role is not Role.PAD}
_WORDS["all"] = tuple(role for role in Role if role is not Role.PAD)
_WORDS["prompt"] = tuple(role for role in _WORDS["all"] if role is not Role.GENERATED)
_TERM = re.compile(r"([a-z]+)(?:\[(-?\d+)?(?:(:)(-?\d+)?)?\])?")


@dataclass(frozen=True)
class _Term:
    """One word with an optional Python slice of the tokens that the word selects, row by row."""

    word: str
    slice: tuple[int | None, int | None] | None = None

    def mask(self, roles_nt: np.ndarray) -> np.ndarray:
        selected_nt = np.isin(roles_nt, _WORDS[self.word])
        if self.slice is None:
            return selected_nt
        start, stop = self.slice
        rank_nt = selected_nt.cumsum(1) - 1
        total_n1 = selected_nt.sum(1, keepdims=True)
        if start is not None:
            selected_nt = selected_nt & (rank_nt >= (start if start >= 0 else total_n1 + start))
        if stop is not None:
            selected_nt = selected_nt & (rank_nt < (stop if stop >= 0 else total_n1 + stop))
        return selected_nt


@dataclass(frozen=True)
class Positions:
    """A choice of tokens: words, each with an optional index or slice, joined by `+`.

    Words: all, prompt (all but the generated), last (short for prompt[-1]), content, prefix, suffix, special, first,
    generated. Positions are resolved against the whole sequence, so that `last` stays the last token of the prompt
    while text is generated; `last+generated` is every token that predicts a new one.

    >>> roles = np.array([[2, 2, 3, 3, 4, 0]], np.int8)
    >>> Positions.parse("content").mask(roles).astype(int)
    array([[0, 0, 1, 1, 0, 0]])
    >>> Positions.parse("last+content[0]").mask(roles).astype(int)
    array([[0, 0, 1, 0, 1, 0]])
    """

    text: str
    per_text: ClassVar[bool] = False  # whether equal texts may have other tokens chosen

    def __post_init__(self) -> None:
        self._terms()

    @classmethod
    def parse(cls, text: "str | Positions") -> "Positions":
        """Positions from their text form; Positions are returned as they are."""
        if isinstance(text, Positions):
            return text
        if not isinstance(text, str):
            raise UserError(f"positions are {text!r}: give words such as 'content', or Positions.span or where")
        if text.lstrip().startswith("{"):
            from theodolite.core.token_choice import TextSpan, TokenNumbers

            return (TokenNumbers if '"tokens"' in text else TextSpan)(text)
        return cls(text.replace(" ", ""))

    @classmethod
    def span(cls, span: Any) -> "Positions":
        """Return the tokens that hold a string of the user's text, wherever it stands, or characters (start, stop).

        A list has one of these for each text of a call. A text without such a token is an error.

        >>> str(Positions.span("Paris")), Positions.parse('{"span": [3, 8]}') == Positions.span((3, 8))
        ('{"span": "Paris"}', True)
        """
        from theodolite.core.token_choice import TextSpan

        return TextSpan.of(span)

    @classmethod
    def where(cls, mask: Any) -> "Positions":
        """Return the tokens at which a mask is true: one row for each text of a call, from its first token on.

        >>> str(Positions.where([[False, True, True], [True]]))
        '{"tokens": [[1, 2], [0]]}'
        """
        from theodolite.core.token_choice import TokenNumbers

        return TokenNumbers.of(mask)

    def __str__(self) -> str:
        return self.text

    def mask(self, roles_nt: np.ndarray, rows: np.ndarray | None = None, n_texts: int | None = None) -> np.ndarray:
        """True where a token is selected; padding never is. `rows`: the numbers of these texts among the `n_texts` of
        their call."""
        return np.logical_or.reduce([term.mask(roles_nt) for term in self._terms()])

    def _terms(self) -> list[_Term]:
        return [_parse_term(part, self.text) for part in self.text.split("+")]


@lru_cache(maxsize=256)  # every pass resolves its positions anew
def _parse_term(text: str, whole: str) -> _Term:
    found = _TERM.fullmatch(text)
    if not found or text.endswith("[]"):
        raise UserError(f"{whole!r} are no positions: write words like 'content', 'last', 'suffix[-2:]', joined by '+'")
    word, start, colon, stop = found.groups()
    if word == "last" and "[" in text:
        raise UserError(f"'last' in {whole!r} is one token and takes no index: count in another word, as 'prompt[-2:]'")
    if word == "last":
        return _Term("prompt", (-1, None))
    if word not in _WORDS:
        raise unknown("position", word, [*_WORDS, "last"])
    if "[" not in text:
        return _Term(word)
    first = None if start is None else int(start)
    if colon:
        return _Term(word, (first, None if stop is None else int(stop)))
    assert first is not None
    return _Term(word, (first, None if first == -1 else first + 1))


def pooled_over(positions: Positions, how: str | None) -> Positions:
    """The tokens that a pooling goes over: those of `positions`, but `last` is the last of all, whatever they are.

    In a chat it is the end of the template, where many readers look and the answer begins.
    """
    return Positions("all[-1]") if how == "last" else positions


def check_pooling(how: str) -> str:
    """The pooling, or an error that names the known ones."""
    if how not in POOLINGS:
        raise unknown("pooling", how, POOLINGS)
    return how


def pool(rows_nd: Any, doc_n: np.ndarray, how: str) -> Any:
    """One row per document from rows per token; `doc_n` names each row's document and never decreases.

    `last` takes a document's last row as it is. Otherwise dense arrays give dense float32, and scipy sparse matrices
    csr (latents are encoded per token, then pooled).

    >>> pool(np.array([[1.0], [3.0], [5.0]]), np.array([0, 0, 1]), "mean").ravel().tolist()
    [2.0, 5.0]
    """
    check_pooling(how)
    assert len(doc_n) == rows_nd.shape[0] > 0, "one document number per row"
    assert (np.diff(doc_n) >= 0).all(), "rows of a document lie together"
    starts = np.flatnonzero(np.diff(doc_n, prepend=doc_n[0] - 1))
    counts = np.diff(starts, append=len(doc_n))
    if how == "last":
        return rows_nd[starts + counts - 1]
    if isinstance(rows_nd, np.ndarray):
        wide = rows_nd.astype(np.float32, copy=False)
        if how == "max":
            return np.maximum.reduceat(wide, starts)
        return np.add.reduceat(wide, starts) / counts[:, None].astype(np.float32)
    return _sparse_mean(rows_nd, counts) if how == "mean" else _sparse_max(rows_nd, counts)


def _sparse_mean(rows: Any, counts: np.ndarray) -> "csr_matrix":
    from scipy import sparse

    weights = np.repeat(1 / counts, counts).astype(np.float32)
    indptr = np.concatenate([[0], counts.cumsum()])
    return sparse.csr_matrix(sparse.csr_matrix((weights, np.arange(len(weights)), indptr)) @ rows)


def _sparse_max(rows: Any, counts: np.ndarray) -> "csr_matrix":
    """Maximum per document and column; a column absent from one of a document's rows is 0 there."""
    from scipy import sparse

    entries = rows.tocoo()
    key = np.repeat(np.arange(len(counts)), counts)[entries.row] * rows.shape[1] + entries.col
    order = key.argsort(kind="stable")
    cells, first, present = np.unique(key[order], return_index=True, return_counts=True)
    doc, column = np.divmod(cells, rows.shape[1])
    top = np.maximum.reduceat(entries.data[order], first) if len(first) else entries.data
    top = np.where(present < counts[doc], np.maximum(top, 0), top)
    return sparse.csr_matrix((top, (doc, column)), shape=(len(counts), rows.shape[1]))
