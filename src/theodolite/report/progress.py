"""How far a run is: one line per stage in a terminal, and a line now and then in a log file."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from theodolite.core.visible import visible
from theodolite.report.numbers import count, duration

Clock = Callable[[], float]
EVERY = 15.0  # seconds between the lines of a log


@dataclass
class Stage:
    """One stage of a run as far as it has come; its units may be counted anew, from download to tokens to fits."""

    name: str
    clock: Clock
    done: int = 0
    total: int = 0
    started: float = field(init=False)
    counted: tuple[float, int] = field(init=False)  # when the present count began, and at which unit

    def __post_init__(self) -> None:
        self.started = self.clock()
        self.counted = (self.started, 0)

    def tick(self, done: int, total: int) -> None:
        """Take note of a report; another total, or fewer units than before, begins a new count."""
        if total != self.total or done < self.done:
            self.counted = (self.clock(), done)
        self.done, self.total = done, total

    @property
    def seconds(self) -> float:
        """Time since the stage began."""
        return self.clock() - self.started

    @property
    def left(self) -> float | None:
        """Seconds to go at the speed of the present count; None before its first unit is through."""
        since, first = self.counted
        if not first < self.done < self.total:
            return None
        return (self.clock() - since) / (self.done - first) * (self.total - self.done)

    def words(self) -> str:
        """Units, time so far, time left."""
        units = [f"{count(self.done)}/{count(self.total)}"] if self.total > 1 else []
        left = [] if self.left is None else [f"about {duration(self.left)} left"]
        return ", ".join([*units, duration(self.seconds), *left])


class Display:
    """Called with (stage, units done, units in all); total 0 means not known, another name ends the stage before."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.stage: Stage | None = None

    def __call__(self, name: str, done: int, total: int) -> None:
        if self.stage is None or self.stage.name != name:
            self.end()
            self.stage = Stage(name, self.clock)
            self.begun(self.stage)
        self.stage.tick(done, total)
        self.ticked(self.stage)

    def say(self, lines: Iterable[str]) -> None:
        """Print lines that stay, beside the present stage."""

    def end(self) -> None:
        """The present stage is complete."""
        if self.stage is not None:
            self.ended(self.stage)
        self.stage = None

    def begun(self, stage: Stage) -> None:
        """A stage was named for the first time."""

    def ticked(self, stage: Stage) -> None:
        """A stage reported."""

    def ended(self, stage: Stage) -> None:
        """A stage is over."""


class Lines(Display):
    """For logs: a line when a stage ends, and while it lasts at most one every fifteen seconds."""

    def __init__(self, console: Console, clock: Clock) -> None:
        super().__init__(clock)
        self.console = console
        self.last = clock()

    def say(self, lines: Iterable[str]) -> None:
        self._print("\n".join(lines))

    def ticked(self, stage: Stage) -> None:
        if self.clock() - self.last >= EVERY:
            self._print(f"{stage.name} ... {stage.words()}")

    def ended(self, stage: Stage) -> None:
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

    def begun(self, stage: Stage) -> None:
        self.task = self.bars.add_task(stage.name, total=None, stage=stage)

    def ticked(self, stage: Stage) -> None:
        self.bars.update(self.task, completed=stage.done, total=stage.total or None)

    def ended(self, stage: Stage) -> None:
        self.bars.update(self.task, completed=1, total=1, over=duration(stage.seconds))


class _Words(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields.get("over") or task.fields["stage"].words())


@contextmanager
def progress(console: Console | None = None, clock: Clock = time.monotonic) -> Iterator[Display]:
    """A display on standard error; a stage in which the block fails or is interrupted is not called complete."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        display: Display = Lines(console, clock)
        yield display
        display.end()
        return
    columns = (
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}", markup=False),
        BarColumn(24),
        _Words(),
    )
    with Progress(*columns, console=console) as bars:
        display = Bars(bars, clock)
        yield display
        display.end()
