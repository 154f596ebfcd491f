"""Two continuations of one prompt side by side: written as they come in a terminal, as lines where output is piped."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.live import Live
from rich.table import Table as Grid
from rich.text import Text

from theodolite.core.visible import visible
from theodolite.report import terminal
from theodolite.report.numbers import NONE, signed

NAMES = ("default", "steered")
STRONGEST = 5  # tokens named below the texts


class Columns(Protocol):
    """Takes each new piece of a text with the name of its column."""

    def __call__(self, name: Any, piece: str) -> None: ...


class _Growing:
    """The texts so far, drawn again with each piece."""

    def __init__(self, live: Live) -> None:
        self._live, self._texts = live, dict.fromkeys(NAMES, "")

    def __call__(self, name: Any, piece: str) -> None:
        self._texts[name] += piece
        self._live.update(_grid(self._texts))


@contextmanager
def columns() -> Iterator[Columns]:
    """Draw two columns that grow; where the output is no terminal, nothing is drawn until `show`."""
    console = terminal._console()
    if not console.is_terminal:
        yield lambda name, piece: None
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        growing = _Growing(live)
        yield growing
        live.refresh()


def show(found: Any) -> None:
    """Print the texts where they were not drawn, each token's divergence, and what the push was."""
    console = terminal._console()
    if console.is_terminal:
        largest = max((kl for _, kl in found.tokens), default=0.0) or 1.0
        shaded = (Text(visible(token), terminal._shade(kl / largest)) for token, kl in found.tokens)
        console.print(Text.assemble("KL per token: ", *shaded))
        strongest = sorted(found.tokens, key=lambda token: -token[1])[:STRONGEST]
        terminal.paragraph("Largest: " + ", ".join(f"{token!r} {kl:.2f}" for token, kl in strongest))
    else:
        terminal.say([f"default: {found.default!r}", f"steered: {found.steered!r}", "KL (nats)  token"])
        terminal.say(f"{kl:9.3f}  {token!r}" for token, kl in found.tokens)
    terminal.paragraph(_sentence(found))


def _sentence(found: Any) -> str:
    where = f" at {found.site}" if found.site is not None else ""
    kl = f"{found.kl:.3f}" if math.isfinite(found.kl) else NONE
    return (
        f"{found.concept}: {found.method}{where}, strength {signed(found.strength)}: {found.nats:.3f} nats per token "
        f"of neutral texts, {kl} of the steered text (KL from the default model)."
    )


def _grid(texts: dict[str, str]) -> Grid:
    grid = Grid(box=None, expand=True)
    for name in NAMES:
        grid.add_column(name, ratio=1, overflow="fold")
    grid.add_row(*(Text(visible(texts[name])) for name in NAMES))
    return grid
