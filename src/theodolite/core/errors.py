"""Errors a user can act on: what is wrong, which value, what to do."""

import difflib
from collections.abc import Callable, Iterable, Sequence


class UserError(ValueError):
    """Bad input. The command line prints its one message without a traceback and exits with 2."""


def unknown(kind: str, name: str, known: Iterable[str], part: Callable[[str], str] = str) -> UserError:
    """The error for a name that does not exist, with the nearest names that do.

    part: the part of a name by which names are near; by default all of it.

    >>> str(unknown("recipe", "harmful-intend", ["harmful-intent", "truth"]))
    "unknown recipe 'harmful-intend': did you mean 'harmful-intent'? (known: harmful-intent, truth)"
    """
    known = sorted(known)
    close = difflib.get_close_matches(part(name), sorted({part(each) for each in known}), n=1, cutoff=0.5)
    near = _question([each for each in known if part(each) in close])
    return UserError(
        f"unknown {kind} {name!r}"
        + (f": {near}" if near else "")
        + f" (known: {', '.join(repr(word) if ',' in word else word for word in known) or 'none'})"
    )


def did_you_mean(name: str, known: Iterable[str], n: int = 1) -> str:
    """The question that names up to `n` nearest names, or "" where none is near.

    >>> did_you_mean("promts.csv", ["prompts.csv", "labels.csv"]), did_you_mean("xyz", ["prompts.csv"])
    ("did you mean 'prompts.csv'?", '')
    """
    return _question(difflib.get_close_matches(name, list(known), n=n, cutoff=0.5))


def _question(near: Sequence[str]) -> str:
    return f"did you mean {', '.join(map(repr, near))}?" if near else ""


def first_line(error: BaseException) -> str:
    """The first line of what a library says; its name where it says nothing.

    >>> first_line(ValueError("no header\\nin line 3")), first_line(KeyError()), first_line(OSError(" "))
    ('no header', 'KeyError()', "OSError(' ')")
    """
    return (str(error).strip() or repr(error)).splitlines()[0]


class Damaged(UserError):
    """A file of a cache or store is missing or is not what was written; whoever can make it again does so."""
