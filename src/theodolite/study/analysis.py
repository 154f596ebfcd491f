"""Analyses: one for each kind of recipe, with the stages of its run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, TypeVar

from theodolite.core.errors import UserError, unknown
from theodolite.core.installed import entry_points
from theodolite.core.recipe import COMPARE
from theodolite.core.run import Run
from theodolite.core.strict import Strict
from theodolite.models.model import Model
from theodolite.study.hardware import Machine
from theodolite.study.stages import Stages, Steps

GROUP = "theodolite.analyses"  # entry points of other packages, each named as its kind
OWN = {COMPARE: "theodolite.comparison.analysis:ANALYSIS"}
State = TypeVar("State")


@dataclass(frozen=True)
class Inputs:
    """Inputs of every analysis: its recipe, an empty run, where to compute, and a model if one is loaded."""

    recipe: Any
    run: Run
    machine: Machine
    model: Model | None = None


@dataclass(frozen=True)
class Stage(Generic[State]):
    """One named step of an analysis; its time is recorded in the run.

    work: called with the state that the stages share and with what it reports its progress to. wanted: whether the
    recipe asks for this stage.
    """

    name: str
    work: Callable[[State, Steps], None]
    wanted: Callable[[State], bool] = lambda state: True


@dataclass(frozen=True)
class Analysis(Generic[State]):
    """One `kind:` of recipe: the schema of its file, the state that its stages share, and the stages in order."""

    kind: str
    schema: type[Strict]
    begin: Callable[[Inputs], State]
    stages: tuple[Stage[State], ...]
    tasks: frozenset[str] = frozenset()

    def carry_out(self, inputs: Inputs, stages: Stages) -> None:
        """Go through the stages under the lock of the run's folder, and finish the run.

        A request that raises UserError leaves nothing in the folder.
        """
        with inputs.run.alone():
            try:
                inputs.run.tasks = self.tasks
                state = self.begin(inputs)
                for stage in self.stages:
                    if stage.wanted(state):
                        with stages(stage.name) as steps:
                            stage.work(state, steps)
                inputs.run.finish()
            except UserError:
                inputs.run.withdraw()
                raise


class Analyses(Mapping[str, Analysis]):
    """Analyses by kind: ours, and the entry points of installed packages; each is imported on first use.

    >>> "compare" in Analyses()
    True
    """

    def __getitem__(self, kind: str) -> Analysis:
        if kind not in self._places():
            raise unknown("kind of recipe", kind, self._places())
        module, _, name = self._places()[kind].partition(":")
        return getattr(import_module(module), name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places())

    def __len__(self) -> int:
        return len(self._places())

    def _places(self) -> dict[str, str]:
        """Return where each analysis is, as `module:name`; an entry point cannot replace ours."""
        return {entry.name: entry.value for entry in entry_points(group=GROUP)} | OWN
