"""Text of a file or a Run on its way to a terminal or a spreadsheet: what would be obeyed there is shown instead."""

import re
from csv import QUOTE_MINIMAL, QUOTE_NONNUMERIC
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # pandas costs half a second, and every command prints
    import pandas as pd

# C0 and C1 controls but tab and newline (escape sequences begin with them), and marks that turn the order of text round
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_FORMULA = re.compile(r"[=+\-@\t\r\n']")  # what makes a spreadsheet compute a cell, and our own mark
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


def visible(text: str) -> str:
    r"""Return `text` with control characters written as escapes, so that it cannot steer a terminal.

    >>> visible("a\x1b[2Jb\n")
    'a\\x1b[2Jb\n'
    """
    return _CONTROL.sub(lambda m: m[0].encode("unicode_escape").decode("ascii"), text)


def neutral(frame: "pd.DataFrame") -> "pd.DataFrame":
    """A table for CSV in which no text cell, and no column name, is a formula to a spreadsheet.

    Text that begins with = + - @ ' or a tab or line break gets one apostrophe in front; removing one leading
    apostrophe gives every text back. Text that is a plain number (-1.5) stays as it is, and so do number columns.
    """
    columns = {}
    for place in range(frame.shape[1]):
        column = frame.iloc[:, place]
        columns[place] = column.map(neutral_cell, na_action="ignore") if _holds_text(column) else column
    found = frame.copy(deep=False)
    for place, column in columns.items():
        found.isetitem(place, column)
    return found.set_axis([neutral_cell(name) for name in frame.columns], axis=1)


def csv(frame: "pd.DataFrame", **how: Any) -> str:
    """The CSV text of a neutral table; `how` goes to pandas.

    Text with a carriage return is put in quotes, which Python 3.11 leaves out: a spreadsheet ends the row there, and
    what follows would be a cell of its own.
    """
    found = neutral(frame)
    columns = (found.iloc[:, i] for i in range(found.shape[1]))
    texts = (cell for column in columns if _holds_text(column) for cell in column.unique() if isinstance(cell, str))
    broken = any("\r" in text for text in texts)
    quoting = QUOTE_NONNUMERIC if broken else QUOTE_MINIMAL
    return str(found.to_csv(quoting=quoting, lineterminator="\n", **how))


def _holds_text(column: "pd.Series") -> bool:
    """Return whether a column is of another kind than numbers and times."""
    return column.dtype.kind not in "biufcmM"


def neutral_cell(value: object) -> object:
    """One cell or column name of `neutral`.

    >>> neutral_cell("=1+1"), neutral_cell("-1.5"), neutral_cell("'quoted"), neutral_cell(-2)
    ("'=1+1", '-1.5', "''quoted", -2)
    """
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return "'" + value
    return value
