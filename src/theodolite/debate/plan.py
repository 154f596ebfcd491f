"""The dry run of a debate: the plans of its comparisons, and which of them are finished already."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from theodolite.core.run import Run
from theodolite.debate.nested import KINDS, Wanted, found_among, wanted
from theodolite.debate.recipe import DebateRecipe
from theodolite.models.model import Model
from theodolite.study.analysis import Analyses, Plan
from theodolite.study.claims import RUNS
from theodolite.study.hardware import Machine
from theodolite.study.subjects import compute_dtype


class Timed(Plan, Protocol):
    """A plan that says how many minutes it takes with nothing cached, as those of both kinds of comparison do."""

    @property
    def minutes_in_all(self) -> float: ...


@dataclass(frozen=True)
class PlannedComparison:
    """One comparison of a debate: the Run that is there already, or the plan of a new one."""

    wanted: Wanted
    run: Run | None = None
    plan: Timed | None = None


@dataclass(frozen=True, repr=False)
class DebatePlan:
    """The comparisons of a debate in their order; a finished one takes no time."""

    recipe: DebateRecipe
    parts: tuple[PlannedComparison, ...]

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    @property
    def minutes_in_all(self) -> float:
        """Minutes of all comparisons that are still to be made."""
        return sum(part.plan.minutes_in_all for part in self.parts if part.plan is not None)

    def lines(self) -> Iterator[str]:
        """Yield the sum of the plan, then the plan of each comparison under its name."""
        made = sum(part.run is not None for part in self.parts)
        yield (
            f"{self.recipe.name}: {len(self.parts)} comparisons, {made} of them finished in {RUNS}; the others take "
            f"about {self.minutes_in_all:.1f} min, nothing of them cached"
        )
        for number, part in enumerate(self.parts, 1):
            name = f"{number}. {part.wanted.part} of {part.wanted.concept} ({part.wanted.recipe.name})"
            if part.plan is None:
                yield f"{name}: finished, Run {part.run.id if part.run else ''}"
                continue
            yield f"{name}: about {part.plan.minutes_in_all:.1f} min"
            yield from (f"   {line}" for line in part.plan.lines())


def planned(recipe: DebateRecipe, model: Model | None, machine: Machine) -> DebatePlan:
    """Return the plan of a debate; comparisons of one model open it once."""
    asked = list(wanted(recipe, model.identity if model else ""))
    runs = [found_among([Path(RUNS)], one) for one in asked]
    parts, opened = [], _Models(model, machine)
    for one, run in zip(asked, runs, strict=True):
        if run is not None:
            parts.append(PlannedComparison(one, run=run))
            continue
        plan: Any = Analyses()[KINDS[one.part]].plan
        parts.append(PlannedComparison(one, plan=plan(one.recipe, *opened.of(one.recipe))))
    return DebatePlan(recipe, tuple(parts))


class _Models:
    """The models of the comparisons, each loaded once: several plans time the same one."""

    def __init__(self, given: Model | None, machine: Machine) -> None:
        self.given, self.machine = given, machine
        self.loaded: dict[Any, Model] = {}

    def of(self, recipe: Any) -> tuple[Model, Machine]:
        """Return the model of a recipe, with the machine for what is still to be opened."""
        if self.given is not None:
            return self.given, self.machine
        key = recipe.model, recipe.revision, recipe.dtype
        if key not in self.loaded:
            where: dict[str, Any] = {"device": self.machine.device, "device_map": self.machine.device_map}
            dtype = compute_dtype(recipe.dtype)
            self.loaded[key] = Model.from_pretrained(recipe.model, revision=recipe.revision, dtype=dtype, **where)
        # a model that is loaded is placed already
        return self.loaded[key], replace(self.machine, device_map=None)
