"""Cells of a table as what they mean: texts as written, labels and groups by value."""

import re
import unicodedata
from typing import Any

import numpy as np
import pandas as pd

from theodolite.core.errors import UserError, unknown

BINARY = {"0": 0, "1": 1, "False": 0, "True": 1}  # labels by value that need no `positive`
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_WHOLE = re.compile(r"\+?(-?\d+)(?:\.0*)?")  # also 1.0, as pandas writes a whole number beside a missing one


def column(table: pd.DataFrame, name: str, origin: str, remedy: str) -> pd.Series:
    """One column by name; an unknown name or one that two columns bear is an error that ends with the remedy."""
    if name not in table.columns:
        raise UserError(f"{unknown(f'column of {origin}', name, map(str, table.columns))}; {remedy}")
    found = table[name]
    if isinstance(found, pd.DataFrame):
        raise UserError(f"{origin} has {found.shape[1]} columns called {name!r}: rename all but one")
    return found


def texts(cells: pd.Series, origin: str) -> pd.Series:
    """The strings of a text column, unchanged; a missing cell is "".

    A number, a date or a list is refused, with its row: the program that made it a number has already turned 00001
    into 1, and nothing here can turn it back.

    >>> texts(pd.Series(["00001", None, " NA "], name="text"), "mine.csv").tolist()
    ['00001', '', ' NA ']
    """
    cells = cells.astype(object)
    missing = cells.isna()
    other = ~missing & ~cells.map(lambda cell: isinstance(cell, str))
    if other.any():
        row = other.idxmax()
        raise UserError(
            f"{origin}: row {row} of column {str(cells.name)!r} (the first row is 0) is {_kind(cells[row])}, not a "
            "string: texts must be strings, exactly as the model is to read them"
        )
    found = cells.mask(missing, "").astype(object)
    refuse_half_characters(found, origin)
    return found


def refuse_half_characters(cells: pd.Series, origin: str) -> None:
    """Refuse a string with a lone surrogate: no encoding can write it and no tokenizer read it."""
    broken = cells.map(lambda cell: isinstance(cell, str) and _LONE_SURROGATE.search(cell) is not None)
    if broken.any():
        row = broken.astype(bool).idxmax()
        place = _LONE_SURROGATE.search(cells[row])
        assert place is not None
        raise UserError(
            f"{origin}: row {row} of column {str(cells.name)!r} (the first row is 0) has half a character at position "
            f"{place.start()}, the lone surrogate U+{ord(place[0]):04X}: write the whole character, or remove it"
        )


def refuse_lists(cells: pd.Series, origin: str) -> None:
    """Refuse a list or an object as a label: of two words in one cell, neither is the row's label."""
    several = cells.astype(object).map(lambda cell: isinstance(cell, list | dict | np.ndarray))
    if several.any():
        row = several.idxmax()
        raise UserError(
            f"{origin}: row {row} of column {str(cells.name)!r} (the first row is 0) is {_kind(cells[row])}, and a "
            "label is one value: write a column that says 0 or 1"
        )


def simplified(word: str) -> str:
    """Return a word as a reader sees it: no case, one form of each character, nothing invisible, single spaces.

    >>> simplified("Cafe\u0301"), simplified("yes\u200b"), simplified("not\u00a0 harmful") == simplified("Not harmful")
    ('café', 'yes', True)
    """
    seen = " ".join(word.casefold().split())
    seen = "".join(c for c in seen if unicodedata.category(c) not in ("Cf", "Cc") and not "\ufe00" <= c <= "\ufe0f")
    return unicodedata.normalize("NFC", seen)


def word(value: Any) -> str | None:
    """A label by its value: 1, 1.0, " 1 " and "1" are one word, as are True and "true"; None where it is missing.

    >>> [word(value) for value in (1, 1.0, " 1.0 ", "+1", -1, True, "true", "01", "yes ", float("nan"), " ")]
    ['1', '1', '1', '1', '-1', 'True', 'True', '01', 'yes', None, None]
    """
    if (
        value is None
        or value is pd.NA
        or value is pd.NaT
        or (isinstance(value, float | np.floating) and value != value)
    ):
        return None
    text = str(value).strip()
    if found := _WHOLE.fullmatch(text):
        return found[1]
    return text.capitalize() if text.casefold() in ("true", "false") else text or None


def words(cells: pd.Series) -> pd.Series:
    """Every cell by its value; object dtype, None where it is missing."""
    return pd.Series([word(cell) for cell in cells.astype(object)], index=cells.index, name=cells.name, dtype=object)


def is_nested(value: Any) -> bool:
    """Return whether a cell holds cells."""
    return isinstance(value, dict | list)


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
