"""The command line of `theodolite cache`: list the cache by kind of file, and clear it."""

import sys
from typing import Annotated

from cyclopts import App, Parameter

from theodolite.core.cache import cache_root
from theodolite.core.cache_contents import KINDS, TRAINED, chosen, clear, contents
from theodolite.core.errors import UserError

cache = App(name="cache", help="List or clear the cache (THEODOLITE_CACHE, or ~/.cache/theodolite).")


@cache.command(name="list")
def show() -> None:
    """List the files of the cache by kind: files, size, and how long ago the newest and the oldest were written."""
    from theodolite.report import terminal
    from theodolite.report.numbers import count

    held, root = contents(cache_root()), cache_root()
    lines = [f"{'kind':13}{'files':>9}{'size':>10}  {'newest':>8} {'oldest':>8}  "]
    for each in held:
        size, ages = file_size(each.bytes), f"{age(each.newest):>8} {age(each.oldest):>8}"
        lines.append(f"{each.kind:13}{count(each.files):>9}{size:>10}  {ages}  {KINDS[each.kind]}")
    total = file_size(sum(each.bytes for each in held))
    terminal.say([*lines, f"{total} in {root}"] if held else [f"nothing in {root}"])


@cache.command(name="clear")
def remove(kinds: Annotated[list[str], Parameter(consume_multiple=True)], *, yes: bool = False) -> None:
    """Remove cached files, which are made or fetched again when they are needed; no Run is touched.

    Parameters
    ----------
    kinds
        kinds as `theodolite cache list` names them, or all (all but dictionaries, which are removed only by name).
    yes
        do not ask.
    """
    from theodolite.report import terminal

    root, wanted = cache_root(), chosen(kinds)
    held = [each for each in contents(root) if each.kind in wanted]
    if held and not yes:
        terminal.say(f"{each.kind:13}{file_size(each.bytes):>10}  {KINDS[each.kind]}" for each in held)
        _ask(f"Remove these from {root}? [y/N] ")
    freed = clear(root, wanted)
    left = f"; {TRAINED} stay: name them to remove them" if "all" in kinds and TRAINED not in wanted else ""
    terminal.say([f"removed {file_size(freed)} from {root}{left}"])


def _ask(question: str) -> None:
    """Return after the answer yes; any other answer, or no terminal to ask at, raises UserError."""
    if not sys.stdin.isatty():
        raise UserError("this is not a terminal, so nobody can be asked: give --yes to remove them")
    if input(question).strip().lower() not in ("y", "yes"):
        raise UserError("nothing was removed")


def file_size(size: float) -> str:
    """Write a number of bytes in GB, MB or kB.

    >>> file_size(2_340_000), file_size(1_200_000_000), file_size(300)
    ('2.3 MB', '1.2 GB', '0.3 kB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / 1e3:.1f} kB"


def age(seconds: float) -> str:
    """Write an age in whole days, hours or minutes, rounded down.

    >>> age(30), age(7200), age(3.5 * 86400)
    ('0 min', '2 h', '3 days')
    """
    if seconds >= 2 * 86400:
        return f"{seconds // 86400:.0f} days"
    return f"{seconds // 3600:.0f} h" if seconds >= 3600 else f"{max(seconds, 0) // 60:.0f} min"
