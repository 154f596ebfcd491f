"""Progress of a run: one line per stage in a terminal, and a line now and then in a log file."""

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from theodolite.core.visible import visible
from theodolite.report.numbers import count, duration

Clock = Callable[[], float]
REDRAWN = 0.25  # seconds between two drawings in a notebook
EVERY = 15.0  # seconds between the lines of a log
# A report is late, and the time left not known, once it takes this many times as long as the slowest so far, but not
# before so many seconds.
LATE, PATIENCE = 3.0, 5.0


@dataclass
class StageProgress:
    """One stage of a run as far as it has come; its units may be counted anew, from download to tokens to fits.

    step: what the stage is doing now, "" where it has one thing to do.
    """

    name: str
    clock: Clock
    done: int = 0
    total: int = 0
    step: str = ""
    started: float = field(init=False)
    counted: tuple[float, int] = field(init=False)  # when the present count began, and at which unit
    reported: float = field(init=False)  # when the last unit was through
    slowest: float = 0.0  # seconds between two reports of the present count, at most

    def __post_init__(self) -> None:
        self.started = self.reported = self.clock()
        self.counted = (self.started, 0)

    def tick(self, done: int, total: int, step: str = "") -> None:
        """Take note of a report; another total, or fewer units than before, begins a new count.

        A step that goes on where the last one stopped, out of the same total, continues its count.
        """
        now = self.clock()
        if total != self.total or done < self.done or (step != self.step and done == 0):
            self.counted, self.slowest, self.reported = (now, done), 0.0, now
        elif done > self.done:
            self.slowest, self.reported = max(self.slowest, now - self.reported), now
        self.done, self.total, self.step = done, total, step

    @property
    def seconds(self) -> float:
        """Time since the stage began."""
        return self.clock() - self.started

    @property
    def silence(self) -> float:
        """Seconds since the last unit was through, or since the present count began."""
        return self.clock() - self.reported

    @property
    def late(self) -> bool:
        """Return whether the last report is so long ago that the speed is no longer known."""
        return self.silence > max(LATE * self.slowest, PATIENCE)

    @property
    def left(self) -> float | None:
        """Seconds to go at the speed of the present count, from its last report on.

        None before its first unit is through, and where the next one is so late that the speed is no longer known.
        """
        (since, first), last = self.counted, self.reported
        if self.late or not first < self.done < self.total:
            return None
        return max((last - since) / (self.done - first) * (self.total - self.done) - self.silence, 0.0)

    def words(self) -> str:
        """The step, its units, time so far, time left; or how long ago the last report was."""
        units = [f"{count(self.done)}/{count(self.total)}"] if self.total > 1 else []
        left = [] if self.left is None else [f"about {duration(self.left)} left"]
        late = self.total > 1 and self.late
        quiet = [f"no unit finished for {duration(self.silence)}"] if late else []
        return " ".join(filter(None, [self.step, ", ".join([*units, duration(self.seconds), *left, *quiet])]))


class Display:
    """Called with (stage, units done, units in all); total 0 means not known, another name ends the stage before.

    A name `stage: step` is a step of that stage.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.stage: StageProgress | None = None

    def __call__(self, name: str, done: int, total: int) -> None:
        name, _, step = name.partition(": ")
        if self.stage is None or self.stage.name != name:
            self.end()
            self.stage = StageProgress(name, self.clock)
            self.begun(self.stage)
        self.stage.tick(done, total, step)
        self.ticked(self.stage)

    def say(self, lines: Iterable[str]) -> None:
        """Print lines that stay, beside the present stage."""

    def end(self) -> None:
        """The present stage is complete."""
        if self.stage is not None:
            self.ended(self.stage)
        self.stage = None

    def begun(self, stage: StageProgress) -> None:
        """A stage was named for the first time."""

    def ticked(self, stage: StageProgress) -> None:
        """A stage reported."""

    def ended(self, stage: StageProgress) -> None:
        """A stage is over."""


class Lines(Display):
    """For logs: a line when a stage ends, and while it lasts one every fifteen seconds, also where nothing reports."""

    def __init__(self, console: Console, clock: Clock) -> None:
        super().__init__(clock)
        self.console = console
        self.last = clock()
        self.lock = threading.RLock()  # the heartbeat is a thread of its own

    def say(self, lines: Iterable[str]) -> None:
        self._print("\n".join(lines))

    def __call__(self, name: str, done: int, total: int) -> None:
        with self.lock:
            super().__call__(name, done, total)

    def ticked(self, stage: StageProgress) -> None:
        if self.clock() - self.last >= EVERY:
            self._print(f"{stage.name} ... {stage.words()}")

    def beat(self) -> None:
        """Say where a stage is that has not reported for long."""
        with self.lock:
            if self.stage is not None:
                self.ticked(self.stage)

    def end(self) -> None:
        with self.lock:
            super().end()

    def ended(self, stage: StageProgress) -> None:
        self._print(f"{stage.name}: {duration(stage.seconds)}")

    def _print(self, line: str) -> None:
        self.last = self.clock()
        self.console.print(visible(line), markup=False, highlight=False, soft_wrap=True)


class Bars(Display):
    """For a terminal: a bar per stage, and the time it took once it is over."""

    def __init__(self, bars: Progress, clock: Clock) -> None:
        super().__init__(clock)
        self.bars = bars

    def say(self, lines: Iterable[str]) -> None:
        self.bars.console.print(visible("\n".join(lines)), markup=False, highlight=False, soft_wrap=True)

    def begun(self, stage: StageProgress) -> None:
        self.task = self.bars.add_task(stage.name, total=None, stage=stage)

    def ticked(self, stage: StageProgress) -> None:
        self.bars.update(self.task, completed=stage.done, total=stage.total or None)

    def ended(self, stage: StageProgress) -> None:
        self.bars.update(self.task, completed=1, total=1, over=duration(stage.seconds))


class Cell(Display):
    """For a notebook: one output of the cell, written anew, with a line per stage.

    Rich's bars need ipywidgets there, which no dependency of ours brings; a display that is updated needs IPython only.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.lines: list[str] = []
        self.shown = -math.inf  # when the output was last written
        self.handle: Any = None

    def say(self, lines: Iterable[str]) -> None:
        self.lines += lines
        self._show()

    def ticked(self, stage: StageProgress) -> None:
        if self.clock() - self.shown >= REDRAWN:  # each is a message to the browser
            self._show(f"{stage.name} {_bar(stage)} {stage.words()}")

    def ended(self, stage: StageProgress) -> None:
        self.say([f"{stage.name}: {duration(stage.seconds)}"])

    def _show(self, *present: str) -> None:
        from IPython.display import DisplayHandle

        self.shown = self.clock()
        text = visible("\n".join([*self.lines, *present]))
        data = {"text/plain": text, "text/html": f"<pre>{escape(text)}</pre>"}
        if self.handle is None:
            self.handle = DisplayHandle()
            self.handle.display(data, raw=True)
        else:
            self.handle.update(data, raw=True)


def _bar(stage: StageProgress) -> str:
    """A bar of text, as full as the present count; empty where the total is not known."""
    full = round(24 * min(stage.done / stage.total, 1.0)) if stage.total else 0
    return "█" * full + "░" * (24 - full)


class _Words(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields.get("over") or task.fields["stage"].words())


@contextmanager
def progress(console: Console | None = None, clock: Clock = time.monotonic) -> Iterator[Display]:
    """A display on standard error; a stage in which the block fails or is interrupted is not called complete."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        lines = Lines(console, clock)
        with _beating(lines.beat):
            yield lines
        lines.end()
        return
    columns = (
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}", markup=False),
        BarColumn(24),
        _Words(),
    )
    with Progress(*columns, console=console) as bars:
        display: Display = Bars(bars, clock)
        yield display
        display.end()


@contextmanager
def _beating(beat: Callable[[], None]) -> Iterator[None]:
    """Call `beat` every second until the block ends: a stalled stage cannot speak for itself."""
    over = threading.Event()

    def keep() -> None:
        while not over.wait(1.0):
            beat()

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
