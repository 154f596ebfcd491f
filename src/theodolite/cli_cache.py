"""The command line of `theodolite cache`: what lies in the cache, and its removal."""

import sys
from typing import Annotated

from cyclopts import App, Parameter

from theodolite.core.cache import cache_root
from theodolite.core.cache_contents import KINDS, TRAINED, chosen, clear, contents
from theodolite.core.errors import UserError

cache = App(name="cache", help="What lies in the cache (THEODOLITE_CACHE, or ~/.cache/theodolite), and its removal.")


@cache.command(name="list")
def show() -> None:
    """List the files of the cache by kind: files, size, and how long ago the newest and the oldest were written."""
    from theodolite.report import terminal
    from theodolite.report.numbers import count

    held, root = contents(cache_root()), cache_root()
    lines = [f"{'kind':13}{'files':>9}{'size':>10}  {'newest':>8} {'oldest':>8}  "]
    for each in held:
        size, ages = megabytes(each.bytes), f"{age(each.newest):>8} {age(each.oldest):>8}"
        lines.append(f"{each.kind:13}{count(each.files):>9}{size:>10}  {ages}  {KINDS[each.kind]}")
    total = megabytes(sum(each.bytes for each in held))
    terminal.say([*lines, f"{total} in {root}"] if held else [f"nothing in {root}"])


@cache.command(name="clear")
def remove(kinds: Annotated[list[str], Parameter(consume_multiple=True)], *, yes: bool = False) -> None:
    """Remove what is made or fetched again when it is needed; no Run is touched.

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
        terminal.say(f"{each.kind:13}{megabytes(each.bytes):>10}  {KINDS[each.kind]}" for each in held)
        _ask(f"Remove these from {root}? [y/N] ")
    freed = clear(root, wanted)
    left = f"; {TRAINED} stay: name them to remove them" if "all" in kinds and TRAINED not in wanted else ""
    terminal.say([f"removed {megabytes(freed)} from {root}{left}"])


def _ask(question: str) -> None:
    """Go on after a yes only; where nobody can answer, that is an error."""
    if not sys.stdin.isatty():
        raise UserError("nobody is there to ask: give --yes to remove them")
    if input(question).strip().lower() not in ("y", "yes"):
        raise UserError("nothing was removed")


def megabytes(size: float) -> str:
    """Bytes in a unit that a person reads.

    >>> megabytes(2_340_000), megabytes(1_200_000_000), megabytes(300)
    ('2.3 MB', '1.2 GB', '0.3 kB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / 1e3:.1f} kB"


def age(seconds: float) -> str:
    """An age in days, hours or minutes, cut off.

    >>> age(30), age(7200), age(3.5 * 86400)
    ('0 min', '2 h', '3 days')
    """
    if seconds >= 2 * 86400:
        return f"{seconds // 86400:.0f} days"
    return f"{seconds // 3600:.0f} h" if seconds >= 3600 else f"{max(seconds, 0) // 60:.0f} min"
