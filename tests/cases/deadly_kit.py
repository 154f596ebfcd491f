"""A build whose worker is killed on the way, for tests of maps; pickled by value: workers need no test module."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Deadly:
    """Wraps a build: its worker is killed as it begins one unit, `times` times; `log` gets an empty file per try.

    As it dies it notes which units of the store were finished, in the file `finished`.
    """

    build: Callable[[], Callable[[Any], Any]]
    log: Path
    number: int
    times: int

    def __call__(self) -> Callable[[Any], Any]:
        read = self.build()

        def work(unit: Any) -> Any:
            tries = len(list(self.log.glob(f"{unit.number}-*")))
            (self.log / f"{unit.number}-{tries}").touch()
            if unit.number == self.number and tries < self.times:
                (self.log / "finished").write_text("\n".join(map(str, unit.store.units())))
                os.kill(os.getpid(), signal.SIGKILL)
            return read(unit)

        return work

    def tries(self) -> dict[int, int]:
        """How often each unit was begun."""
        begun = [int(path.name.partition("-")[0]) for path in self.log.glob("*-*")]
        return {number: begun.count(number) for number in begun}

    def finished(self) -> list[int]:
        """Units that were finished as the worker died last."""
        return [int(line) for line in (self.log / "finished").read_text().split()]
