"""One value where a list of values is expected."""

from collections.abc import Iterable
from typing import Any


def several(values: Any) -> list[Any]:
    """Return a list: of one value alone (a string, a Site, an Intervention), or of every item of an iterable.

    >>> several("hello"), several(["hello", "you"]), several(())
    (['hello'], ['hello', 'you'], [])
    """
    return list(values) if isinstance(values, Iterable) and not isinstance(values, str | bytes) else [values]
