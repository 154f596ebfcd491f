"""Positions chosen in each text by token numbers or by spans of characters, in place of a role such as `content`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from theodolite.core.errors import UserError
from theodolite.core.positions import Positions, Role

Span = str | tuple[int, int]


@dataclass(frozen=True)
class TokenNumbers(Positions):
    """Chosen tokens of each text of a call, counted from its first token, so that padding plays no part.

    Its text form is JSON: {"tokens": [[0, 3], [2]]} are two tokens of the first text and one of the second.
    """

    per_text: ClassVar[bool] = True

    def __post_init__(self) -> None:
        rows = _loaded(self.text, "tokens")
        well_formed = isinstance(rows, list) and bool(rows) and all(isinstance(row, list) for row in rows)
        if not well_formed or not all(type(i) is int and i >= 0 for row in rows for i in row):
            raise UserError(f"{self.text[:60]!r} is not a list of token numbers (0 or larger) for each text")

    @classmethod
    def of(cls, mask: Any) -> "TokenNumbers":
        """Return the tokens at which masks are true, one mask per text: rows may differ in length."""
        rows = [np.asarray(row) for row in mask]
        if not rows or any(row.ndim != 1 or row.dtype != bool for row in rows):
            raise UserError("a mask of tokens has one row of true and false for each text: (n, t), or n rows")
        if empty := [i for i, row in enumerate(rows) if not row.any()]:
            raise UserError(f"the mask of text {empty[0]} selects no token ({len(empty)} of {len(rows)} texts)")
        return cls(json.dumps({"tokens": [np.flatnonzero(row).tolist() for row in rows]}))

    def mask(self, roles_nt: np.ndarray, rows: np.ndarray | None = None, n_texts: int | None = None) -> np.ndarray:
        numbers = _loaded(self.text, "tokens")
        n_texts, rows = n_texts or len(roles_nt), np.arange(len(roles_nt)) if rows is None else rows
        if len(numbers) != n_texts:
            raise UserError(
                f"positions were made for {len(numbers)} texts, and this call has {n_texts}: make them for these"
            )
        rank_nt = (roles_nt != Role.PAD).cumsum(1) - 1
        chosen = [np.isin(rank, numbers[row]) for rank, row in zip(rank_nt, rows.tolist(), strict=True)]
        return np.stack(chosen) & (roles_nt != Role.PAD)


@dataclass(frozen=True)
class TextSpan(Positions):
    """Tokens that hold some characters of the user's text: every place of a string, or a range of characters.

    A `Model` turns it into token numbers, for which it takes the texts. Its text form is JSON: {"span": "Paris"},
    {"span": [3, 8]} (from character 3 to before 8), or a list of such, one for each text.
    """

    per_text: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.spans(1)  # raises UserError where the text form is not that of spans; how many texts there are is unknown

    @classmethod
    def of(cls, span: Any) -> "TextSpan":
        """Return the positions of a string, of a range (start, stop), or of a list of such for the texts of a call."""
        return cls(json.dumps({"span": span}, ensure_ascii=False))

    def spans(self, n_texts: int) -> list[Span]:
        """Return the span of each of n texts."""
        found = _loaded(self.text, "span")
        one = _span(found)
        if one is not None:
            return [one] * n_texts
        several = [_span(item) for item in found] if isinstance(found, list) else []
        if not several or None in several:
            raise UserError(
                f"{self.text[:60]!r} is not a span of a text: give a string, or two numbers (start, stop) of "
                "characters with start before stop, or a list of such for the texts"
            )
        return [item for item in several if item is not None]

    def within(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Return the ranges of characters that each text has there; a text without any is an error."""
        spans = self.spans(len(texts))
        if len(spans) != len(texts):
            raise UserError(f"{len(spans)} spans were given, and this call has {len(texts)} texts")
        return [_ranges(text, span, number) for number, (text, span) in enumerate(zip(texts, spans, strict=True))]

    def mask(self, roles_nt: np.ndarray, rows: np.ndarray | None = None, n_texts: int | None = None) -> np.ndarray:
        raise UserError(f"{self.text[:60]!r} needs the texts: give it to read, loss, generate or run of a Model")


@lru_cache(maxsize=64)  # every pass of a generation asks for its mask; nobody writes into the result
def _loaded(text: str, key: str) -> Any:
    try:
        form = json.loads(text)
    except ValueError as error:
        raise UserError(f"{text[:60]!r} is not a JSON form of positions: {error}") from None
    if not isinstance(form, dict) or set(form) != {key}:
        raise UserError(f'{text[:60]!r} is not a JSON form of positions: write {{"{key}": ...}}')
    return form[key]


def _span(value: Any) -> Span | None:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list) and len(value) == 2 and all(type(i) is int for i in value) and 0 <= value[0] < value[1]:
        return value[0], value[1]
    return None


def _ranges(text: str, span: Span, number: int) -> list[tuple[int, int]]:
    if isinstance(span, tuple):
        if span[1] > len(text):
            raise UserError(
                f"text {number} has {len(text)} characters: a span from {span[0]} to {span[1]} does not fit"
            )
        return [span]
    found, start = [], text.find(span)
    while start >= 0:
        found.append((start, start + len(span)))
        start = text.find(span, start + 1)
    if not found:
        raise UserError(f"text {number} does not hold {span!r}")
    return found
