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
    """Help, type and flags of a field.

    cli: type of one value on the command line; ... takes the field's own, None keeps the field out of the command line.
    names: its flags; empty for the field's name alone. many: the field is a tuple, of which one value or several are
    given.
    """

    help: str
    cli: Any = ...
    names: tuple[str, ...] = ()
    many: bool = False


def option(
    help: str,  # noqa: A002 (the name of the field)
    *,
    cli: Any | EllipsisType = ...,
    names: tuple[str, ...] = (),
    many: bool = False,
) -> dict[str, Option]:
    """Return the metadata of a dataclass's field; the arguments are the fields of `Option`.

    >>> option("number of splits.")["option"].help
    'number of splits.'
    """
    return {OPTION: Option(help, cli, names, many)}


def listed(value: Any) -> tuple[Any, ...] | None:
    """Return several values as a tuple and one alone as a tuple of one; None, which means "not given", stays None.

    A string, a path, a table, a class and an estimator are one value each, though Python can iterate over some.

    >>> listed("lat"), listed(["lat", "ridge"]), listed(0.9), listed(None)
    (('lat',), ('lat', 'ridge'), (0.9,), None)
    """
    if value is None:
        return None
    one = isinstance(value, str | bytes | Path | type) or not isinstance(value, Iterable)
    return (value,) if one or hasattr(value, "columns") or hasattr(value, "fit") else tuple(value)
