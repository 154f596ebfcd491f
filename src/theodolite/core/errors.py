"""Errors a user can act on: what is wrong, which value, what to do."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input. The command line prints its one message without a traceback and exits with 2."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that does not exist, with the nearest names that do.

    >>> str(unknown("recipe", "harmful-intend", ["harmful-intent", "truth"]))
    "unknown recipe 'harmful-intend': did you mean 'harmful-intent'? (known: harmful-intent, truth)"
    """
    known = sorted(known)
    near = did_you_mean(name, known)
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
    near = difflib.get_close_matches(name, list(known), n=n, cutoff=0.5)
    return f"did you mean {', '.join(map(repr, near))}?" if near else ""


def first_line(error: BaseException) -> str:
    """The first line of what a library says; its name where it says nothing.

    >>> first_line(ValueError("no header\\nin line 3")), first_line(KeyError()), first_line(OSError(" "))
    ('no header', 'KeyError()', "OSError(' ')")
    """
    return (str(error).strip() or repr(error)).splitlines()[0]


class Damaged(UserError):
    """A file of a cache or store is missing or is not what was written; whoever can make it again does so."""
