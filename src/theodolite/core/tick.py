"""How far a long step has come: `tick(done, total)`, as often as it likes."""

from collections.abc import Callable

Tick = Callable[[int, int], None]
