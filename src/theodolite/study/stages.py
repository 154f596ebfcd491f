"""Named stages of a run: each is timed, reported while it lasts, and recorded."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from theodolite.core.run import Run
from theodolite.core.tick import Tell


@dataclass(frozen=True)
class Steps:
    """Called with (units done, units in all) of a stage; `tell` also names the step that these are units of."""

    stage: str
    progress: Tell

    def __call__(self, done: int, total: int) -> None:
        self.progress(self.stage, done, total)

    def tell(self, what: str, done: int = 0, total: int = 0) -> None:
        """Report a step inside the stage, as `stage: what`."""
        self.progress(f"{self.stage}: {what}", done, total)


class Stages:
    """`with stages("fitting") as tick:` times the block and forwards `tick(done, total)` to the progress display.

    A stage of several steps names the present one with `tick.tell("reading mine.csv", done, total)`.
    """

    def __init__(self, run: Run, progress: Tell) -> None:
        self.run = run
        self.progress = progress

    @contextmanager
    def __call__(self, name: str) -> Iterator[Steps]:
        start = time.perf_counter()
        self.progress(name, 0, 0)
        yield Steps(name, self.progress)
        self.progress(name, 1, 1)
        self.run.time(name, time.perf_counter() - start, peak_mb())


def peak_mb() -> float:
    """Peak resident memory of this process so far, in MB; NaN on Windows, which does not tell."""
    if sys.platform == "win32":
        return math.nan
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
