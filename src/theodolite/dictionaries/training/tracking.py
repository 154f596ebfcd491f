"""Log of a training run: one line of numbers per block, on disk and to whoever else wants it."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from theodolite.core.tick import Tick

Line = dict[str, Any]
Watch = Callable[[Line], None]


class Tracker(Protocol):
    """Part of Weights & Biases that is used: `import wandb; Listeners(tracker=wandb)`, or any such object."""

    def init(self, *, project: str, name: str, config: dict[str, Any]) -> Any: ...

    def log(self, data: dict[str, Any], *, step: int) -> Any: ...

    def finish(self) -> Any: ...


def _silent(done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Listeners:
    """Whoever is told how a training goes; nobody by default.

    progress: activations seen, after every block. measuring: how many dictionaries have their card, after the last
    step. watch: every line of `log.jsonl`. tracker: the same, as Weights & Biases takes it.

    >>> Listeners(watch=print).progress(1, 2)
    """

    progress: Tick = _silent
    measuring: Tick = _silent
    watch: Watch | None = None
    tracker: Tracker | None = None


NOBODY = Listeners()


@dataclass
class Means:
    """Losses of one block's steps, averaged per dictionary, and the seconds that each one's steps took."""

    steps: int = 0
    sums: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, losses: dict[str, Tensor], seconds: float) -> None:
        """Count one step of one dictionary."""
        so_far = self.sums.setdefault(name, {})
        for key, value in losses.items():
            so_far[key] = so_far.get(key, 0) + value.double()
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def of(self, name: str, key: str) -> float:
        """One loss of one dictionary."""
        return float(self.sums[name][key]) / self.steps

    def losses(self, widths: dict[str, int]) -> dict[str, dict[str, float | None]]:
        """Losses by dictionary and name; `dead` is the share of latents."""
        means = {n: {k: float(v) / self.steps for k, v in losses.items()} for n, losses in self.sums.items()}
        for name, found in means.items():
            found["dead"] /= widths[name]
        finite = lambda v: round(v, 5) if math.isfinite(v) else None  # noqa: E731  (JSON has no NaN)
        return {n: {k: finite(v) for k, v in losses.items()} for n, losses in means.items()}


class Log:
    """Hands every line to the file, the tracker and the watcher of a run."""

    def __init__(self, path: Path, listeners: Listeners = NOBODY) -> None:
        self.path, self.tracker, self.watch = path, listeners.tracker, listeners.watch

    def begin(self, request: dict[str, Any]) -> None:
        """Tell the tracker what is trained."""
        if self.tracker is not None:
            self.tracker.init(project="theodolite", name=self.path.parent.name, config=request)

    def write(self, line: Line) -> None:
        """One line per block."""
        with open(self.path, "a", encoding="utf-8") as log:
            log.write(json.dumps(line, allow_nan=False) + "\n")
        if self.tracker is not None:
            flat = {f"{name}/{key}": v for name, losses in line["losses"].items() for key, v in losses.items()}
            whole = {key: v for key, v in line.items() if not isinstance(v, dict)}
            self.tracker.log(whole | {key: v for key, v in flat.items() if v is not None}, step=line["step"])
        if self.watch is not None:
            self.watch(line)

    def end(self) -> None:
        """Tell the tracker that nothing more comes, also after an error."""
        if self.tracker is not None:
            self.tracker.finish()


def told(line: Line) -> list[str]:
    """A line of the log in words, one row per dictionary.

    >>> told({"tokens": 4096, "total": 8192, "left_s": 60, "losses": {"d": {"fvu": .25, "l0": 32, "dead": .01}},
    ...       "activations_per_s": {"d": 2048.4}})
    ['4,096 of 8,192 activations, 60 s left', '  d: FVU 0.250, L0 32.0, dead 1.0 %, 2,048 activations/s']
    """
    rows = [f"{line['tokens']:,} of {line['total']:,} activations, {line['left_s']:,} s left"]
    for name, found in line["losses"].items():
        rate = line["activations_per_s"][name]
        numbers = f"FVU {found['fvu']:.3f}, L0 {found['l0']:.1f}, dead {found['dead']:.1%}".replace("%", " %")
        rows.append(f"  {name}: {numbers}, {rate:,.0f} activations/s")
    return rows
