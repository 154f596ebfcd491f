"""Help, flags and type of a field of a request, declared beside the field for the command line and for Python.

`cli_options` makes options of such fields, `compare_request.by_field` a function's arguments.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any

OPTION = "option"


@dataclass(frozen=True)
class Option:
    """Help, type and flags of a field. type: how the command line reads one value, None where only Python can give it.

    names: its flags, if not the field's name alone. many: a tuple of values, given as one or several.
    """

    help: str
    type: Any = ...
    names: tuple[str, ...] = ()
    many: bool = False


def option(
    words: str, *, cli: Any | EllipsisType = ..., names: tuple[str, ...] = (), many: bool = False
) -> dict[str, Option]:
    """Metadata of a dataclass's field; `cli` is its type on the command line, where it is not that in Python.

    >>> option("number of splits.")["option"].help
    'number of splits.'
    """
    return {OPTION: Option(words, cli, names, many)}


def listed(value: Any) -> tuple[Any, ...] | None:
    """Several values as a tuple, one alone as a tuple of one; None stays, which is "not given".

    A word, a path, a table, a class and an estimator are one value each, though Python can walk over some of them.

    >>> listed("lat"), listed(["lat", "ridge"]), listed(0.9), listed(None)
    (('lat',), ('lat', 'ridge'), (0.9,), None)
    """
    if value is None:
        return None
    one = isinstance(value, str | bytes | Path | type) or not isinstance(value, Iterable)
    return (value,) if one or hasattr(value, "columns") or hasattr(value, "fit") else tuple(value)
