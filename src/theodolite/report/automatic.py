"""Progress that a caller did not ask for: shown where a person looks on, silent in scripts and pipes."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from theodolite.core.tick import Tell, silent
from theodolite.report.progress import Cell, progress


@contextmanager
def automatic(tell: Tell | None) -> Iterator[Tell]:
    """The caller's own progress; without one a display on a terminal or in IPython, and nothing elsewhere.

    >>> with automatic(None) as tell:  # output that is captured is no terminal
    ...     tell("reading", 1, 2)
    """
    if tell is not None:
        yield tell
    elif in_notebook():
        cell = Cell(time.monotonic)
        yield cell
        cell.end()
    elif sys.stderr.isatty() or in_ipython():
        with progress() as display:
            yield display
    else:
        yield silent


def in_notebook() -> bool:
    """Return whether the code runs in a kernel, whose outputs can be written anew; IPython's prompt is a terminal."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def in_ipython() -> bool:
    """Return whether the code runs in a notebook or in IPython's prompt; IPython itself is not imported to find out."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None
