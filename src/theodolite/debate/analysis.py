"""The stages of a debate: comparisons of readers, comparisons of control methods, and what both say together."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from theodolite.core.errors import UserError
from theodolite.core.run import Run
from theodolite.core.strict import validated
from theodolite.debate.figures import Debate, Side, conclude
from theodolite.debate.joined import Read, read_of, steered_of
from theodolite.debate.nested import NEURONS, READING, STEERING, Wanted, obtained, wanted
from theodolite.debate.plan import planned
from theodolite.debate.recipe import DEBATE, NEURON_METHOD, NEURON_READER, DebateRecipe
from theodolite.study.analysis import Analysis, Inputs, Stage
from theodolite.study.compare_request import CompareRequest
from theodolite.study.option import listed
from theodolite.study.request import shared_names, written
from theodolite.study.stages import Steps


@dataclass
class State:
    """State that the stages share: what is wanted, and the finished Runs by concept and part."""

    inputs: Inputs
    recipe: DebateRecipe
    run: Run
    wanted: list[Wanted] = field(default_factory=list)
    found: dict[tuple[str, str], Run] = field(default_factory=dict)

    def of(self, concept: str, part: str) -> Run | None:
        """Return the Run that plays a part for a concept."""
        return self.found.get((concept, part))


def begin(inputs: Inputs) -> State:
    """Return the state before the first stage; a recipe that is missing or wrong is an error now."""
    model = inputs.model
    return State(inputs, inputs.recipe, inputs.run, list(wanted(inputs.recipe, model.identity if model else "")))


def _read(state: State, tick: Steps) -> None:
    _obtain(state, (READING, NEURONS), tick)


def _steer(state: State, tick: Steps) -> None:
    _obtain(state, (STEERING,), tick)


def _obtain(state: State, parts: tuple[str, ...], tick: Steps) -> None:
    asked = [one for one in state.wanted if one.part in parts]
    for number, one in enumerate(asked):
        name = f"{one.recipe.name} ({number + 1} of {len(asked)})"

        def tell(what: str, done: int, total: int, name: str = name) -> None:
            tick.tell(f"{name}, {what}", done, total)

        beside = state.run.folder.parent
        state.found[one.concept, one.part] = obtained(one, beside, state.inputs.model, state.inputs.machine, tell)


def _join(state: State, tick: Steps) -> None:
    run = state.run
    run.record("model", _model(state.found.values()))
    run.record(
        "runs",
        [
            {
                "concept": concept,
                "part": part,
                "name": one.recipe["name"],
                "id": one.id,
                "digest": one.manifest["digest"],
            }
            for (concept, part), one in state.found.items()
        ],
    )
    if state.recipe.quick:
        run.note("quick", 1, "fewer rows, seeds, methods and openings than a run to report: a first look")
    readers = dict(state.recipe.readers) | ({NEURON_METHOD: NEURON_READER} if state.recipe.neurons else {})
    sides = []
    for pair in state.recipe.pairs:
        steering = state.of(pair.concept, STEERING)
        assert steering is not None
        sides.append(Side(steered_of(steering, pair.concept), _read_side(state, pair.concept)))
    rows, facts = conclude(Debate(sides, readers, state.recipe.contrasts, state.recipe.margin))
    about = run.facts["model"]
    shared = {"model": about["name"], "model_hash": about["hash"]}
    for side in facts["concepts"]:
        for absent in side["absent"]:
            run.note("absent", 1, f"{absent['method']} on {side['concept']}: {absent['why']}")
        if side["shifts"] and side["read_site"] != side["steered_site"]:
            run.note(
                "sites differ",
                1,
                f"{side['concept']} is read at {side['read_site']} and changed at {side['steered_site']}",
            )
    run.begin()  # the Runs belong together and can be read: only now may another debate's be replaced
    run.add_rows(shared | row for row in rows)
    run.write_json("debate", facts)


def _read_side(state: State, concept: str) -> Read | None:
    """Return the AUROCs of a concept; those of the neurons' reader stand beside, on the same texts and splits."""
    reading, neurons = (state.of(concept, part) for part in (READING, NEURONS))
    if reading is None:
        return None
    found = read_of(reading, state.recipe.readers)
    if neurons is None:
        return found
    beside = read_of(neurons, {NEURON_METHOD: NEURON_READER})
    if beside.shifts != found.shifts:
        return found
    return replace(found, estimates={**found.estimates, **beside.estimates}, elsewhere={NEURON_METHOD: beside.site})


def _model(runs: Any) -> dict[str, Any]:
    """Return the facts of the one model that all Runs are of."""
    facts = [dict(run.facts["model"]) for run in runs]
    if len({one["hash"] for one in facts}) > 1:
        names = sorted({str(one["name"]) for one in facts})
        raise UserError(
            f"the comparisons are of other weights ({', '.join(names)}): give one model to all with --model"
        )
    return facts[0]


def _resolve(request: CompareRequest, weights: str) -> DebateRecipe:
    assert isinstance(request.data, str | Path), "only a comparison of readers takes tables and arrays"
    recipe = written(request.data).as_schema(DebateRecipe)
    changes: dict[str, Any] = {
        name: value for name in ("model", "revision", "dtype") if (value := getattr(request, name)) is not None
    }
    if request.sae is not None:
        named = [str(one) for one in listed(request.sae) or ()]
        changes["dictionaries"] = [] if named == ["none"] else named
    if request.quick:
        changes["quick"] = True
    recipe = validated(DebateRecipe, recipe.model_dump() | changes, f"recipe {recipe.name!r}")
    # The digests of what is joined belong to the question: another recipe of the same name asks for something else
    pinned = {f"{one.part} {one.concept}": one.recipe.digest() for one in wanted(recipe, weights)}
    return recipe.model_copy(update={"files": pinned})


def _paths(recipe: DebateRecipe) -> Mapping[str, str]:
    named = [recipe.model, *(recipe.dictionaries or [])]
    named += [name for pair in recipe.pairs for name in (pair.steering, pair.reading)]
    return shared_names([name for name in named if name and (Path(name).is_absolute() or Path(name).exists())])


ANALYSIS: Analysis[State] = Analysis(
    DEBATE,
    DebateRecipe,
    begin,
    (Stage("comparisons of readers", _read), Stage("comparisons of control", _steer), Stage("joining", _join)),
    tasks=frozenset({"debate", "debate-contrast"}),
    options=frozenset({"model", "revision", "dtype", "sae", "quick"}),
    resolve=_resolve,
    plan=planned,
    paths=_paths,
)
