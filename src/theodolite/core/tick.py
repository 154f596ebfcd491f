"""Progress of a long step: `tick(done, total)`, called as often as the step likes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

Tick = Callable[[int, int], None]
Tell = Callable[[str, int, int], None]  # what is being done, units done, units in all (0: not known)
EVERY = 200  # units between two reports of `told`


def silent(what: str, done: int, total: int) -> None:
    """Report nothing: the default in Python, where the caller decides what to print."""


def told(items: Iterable[T], what: str, tell: Tell) -> Iterator[T]:
    """Yield the items one by one, and tell how many have been taken.

    >>> list(told("abc", "letters", print))
    letters 0 3
    letters 3 3
    ['a', 'b', 'c']
    """
    total = len(items) if isinstance(items, Sequence) else 0
    done = 0
    tell(what, 0, total)
    for done, item in enumerate(items, 1):
        yield item
        if done % EVERY == 0 and done != total:
            tell(what, done, total)
    if done:
        tell(what, done, total or done)
