"""Analyses: one for each kind of recipe, with the stages of its run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from theodolite.core.errors import UserError, unknown
from theodolite.core.installed import entry_points
from theodolite.core.recipe import COMPARE, BaseRecipe, Recipe, read
from theodolite.core.run import Run
from theodolite.study.compare_request import CompareRequest
from theodolite.study.hardware import Machine
from theodolite.study.stages import Stages, Steps

if TYPE_CHECKING:  # torch takes seconds, and a recipe is shown without it
    from theodolite.models.model import Model

GROUP = "theodolite.analyses"  # entry points of other packages, each named as its kind
OWN = {
    COMPARE: "theodolite.comparison.analysis:ANALYSIS",
    "steer": "theodolite.control.analysis:ANALYSIS",
    "debate": "theodolite.debate.analysis:ANALYSIS",
}
State = TypeVar("State")


@dataclass(frozen=True)
class Inputs:
    """Inputs of every analysis: its recipe, an empty run, where to compute, and a model if one is loaded."""

    recipe: Any
    run: Run
    machine: Machine
    model: "Model | None" = None


@dataclass(frozen=True)
class Stage(Generic[State]):
    """One named step of an analysis; its time is recorded in the run.

    work: called with the state that the stages share and with what it reports its progress to. wanted: whether the
    recipe asks for this stage.
    """

    name: str
    work: Callable[[State, Steps], None]
    wanted: Callable[[State], bool] = lambda state: True


class Plan(Protocol):
    """Answer of a dry run: what the analysis would do and cost, as lines of text."""

    def lines(self) -> Iterator[str]: ...


@dataclass(frozen=True)
class Analysis(Generic[State]):
    """One `kind:` of recipe: the schema of its file, the state that its stages share, and the stages in order.

    tasks: the tasks that rows of its Runs may have. options: names of the fields of a request that it takes; others
    are refused. resolve: called with a request and the identity of a model that is loaded ("" without one), returns
    the recipe that is meant; by default that of the file, with the options given in the place of its fields. plan:
    called with recipe, loaded model and machine for a dry run. paths: the paths of this machine that a recipe holds,
    each with the name that a Run writes for it. reopen: raises UserError where a finished Run may not stand for the
    same request any more.
    """

    kind: str
    schema: type[BaseRecipe]
    begin: Callable[[Inputs], State]
    stages: tuple[Stage[State], ...]
    tasks: frozenset[str] = frozenset()
    options: frozenset[str] = frozenset()
    resolve: Callable[[CompareRequest, str], BaseRecipe] | None = None
    plan: Callable[[Any, "Model | None", Machine], Plan] | None = None
    paths: Callable[[Any], Mapping[str, str]] = lambda recipe: {}
    reopen: Callable[[Run], None] = lambda run: None

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


def load_recipe(name: str | Path) -> BaseRecipe:
    """Return a recipe of any kind, shipped or from a file, validated by the schema of its kind.

    >>> load_recipe("truth").kind
    'compare'
    """
    found = read(name)
    # that of a comparison is known without importing its analysis, which takes seconds
    return found.as_schema(Recipe if found.kind == COMPARE else Analyses()[found.kind].schema)


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
