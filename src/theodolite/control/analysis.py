"""The stages of a comparison of control methods: concept -> controls -> strengths -> effects -> figures."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from theodolite.control import figures, ground, trust_stage
from theodolite.control.draws import DRAW, other_draws, random_draws
from theodolite.control.effect_table import EFFECTS, effect_table
from theodolite.control.ground import Ground
from theodolite.control.material import Absent, Material
from theodolite.control.measure import SIGNS, Numbers, measure, quality
from theodolite.control.method import control_method
from theodolite.control.null_draws import NULLS
from theodolite.control.opened import load_concept, open_recipe
from theodolite.control.options import OPTIONS, with_options
from theodolite.control.own_table import OF_TABLE, asked_recipe
from theodolite.control.plan import planned
from theodolite.control.policy import Intervened
from theodolite.control.recipe import STEER, SteerRecipe
from theodolite.core.atomic import sweep
from theodolite.core.cache import cache_root
from theodolite.core.code_hash import code_hash
from theodolite.core.errors import UserError
from theodolite.core.run import Run
from theodolite.core.sealed import entry, seal
from theodolite.data import concept_file
from theodolite.data.concept_file import ConceptFile
from theodolite.models.model import Model
from theodolite.study import training_sets
from theodolite.study.analysis import Analysis, Inputs, Stage
from theodolite.study.compare_request import CompareRequest, SteeringOptions
from theodolite.study.opened import model_facts
from theodolite.study.request import pinned_by_content, shared_names
from theodolite.study.stages import Steps
from theodolite.study.subjects import Subjects

CACHE = "steering"
# Code that makes what is kept; a method is found by its name when it runs, and has its own hash beside this
MAKERS = ("theodolite.control.measure", "theodolite.control.draws", "theodolite.control.material")
OTHER_OPTIONS = {"sites", "sae", "methods", "quick", "admit", "alpha"}
_CHUNK = 5  # random draws behind one entry of the cache: what a stop costs


@dataclass
class Steering:
    """State that the stages of one comparison share; each stage sets what later ones read.

    materials: by site and seed. measured: by site and method the numbers, one for each seed. draws, nulls: those of the
    random directions, and of other directions that know nothing of the concept.
    """

    inputs: Inputs
    recipe: SteerRecipe
    run: Run
    subjects: Subjects = field(init=False)
    concept: ConceptFile = field(init=False)
    ground: Ground = field(init=False)
    materials: dict[tuple[str, int], Material] = field(default_factory=dict)
    measured: dict[str, dict[str, list[Numbers]]] = field(default_factory=dict)
    draws: list[Numbers] = field(default_factory=list)
    nulls: dict[str, list[Numbers]] = field(default_factory=dict)

    @property
    def model(self) -> Model:
        """The model under study."""
        return self.subjects.model

    @cached_property
    def makers(self) -> list[str]:
        """Identity of the model and hash of the code, which the cache's keys hold; computed once in a run."""
        return [self.model.identity, code_hash(*MAKERS, _material, _measured)]

    def material(self, site: str, seed: int) -> Material:
        """Return the texts of one seed with their states at a site, read once."""
        if (site, seed) not in self.materials:
            self.materials[site, seed] = _material(self, site, seed)
        return self.materials[site, seed]


def begin(inputs: Inputs) -> Steering:
    """Return the state before the first stage."""
    return Steering(inputs, inputs.recipe, inputs.run)


def _open(state: Steering, tick: Steps) -> None:
    run, asked = state.run, state.recipe
    sweep(cache_root())  # what a killed run left of an entry
    opened = open_recipe(asked, state.inputs.model, state.inputs.machine, tick.tell)
    state.recipe, state.concept, state.subjects = opened.recipe, opened.concept, opened.subjects
    named = state.concept.fields
    run.settle(state.recipe.model_dump(mode="json"))
    run.record("model", model_facts(state.model, asked.format))
    run.record(
        "concept",
        {"name": named.name, "positive": named.positive, "negative": named.negative, "digest": state.concept.digest},
    )
    if asked.quick:
        run.note("quick", 1, "fewer openings, texts and random draws than a run to report: a first look")


def _ground(state: Steering, tick: Steps) -> None:
    tick.tell("openings, neutral texts and classifiers")
    state.ground = ground.open_ground(state.model, state.concept, state.recipe)


def _measure(state: Steering, tick: Steps) -> None:
    recipe, absent = state.recipe, set[tuple[str, str]]()
    work = [(s, m, seed) for s in recipe.sites for m in recipe.methods for seed in range(recipe.seeds)]
    each = len(SIGNS) * len(recipe.nats)  # cells of a method
    for number, (site, method, seed) in enumerate(work):
        cells = partial(_tick_cells, tick, f"{method}, {site}", number * each, len(work) * each)
        cells(0)
        if {(site, method), (recipe.site, method)} & absent:
            continue
        if site != recipe.site and not control_method(method).at_depth:  # measured once, at the first site
            continue
        made_by = code_hash(*control_method(method).made_by())
        try:
            found = _kept(state, site, [method, seed, made_by], partial(_measured, state, site, method, seed, cells))
        except Absent as error:
            at = "" if site == recipe.site else f" at {site}"
            state.run.note("absent", 1, f"{method}{at}: {error}")
            absent.add((site, method))
            # fits on some of the training sets alone can be compared with nothing
            state.measured.get(site, {}).pop(method, None)
            continue
        state.measured.setdefault(site, {}).setdefault(method, []).append(found)
    if not state.measured.get(recipe.site):
        why = "; ".join(note["text"] for note in state.run.notes if note["kind"] == "absent")
        raise UserError(f"none of the methods could be fitted ({why}): choose others with --methods")
    state.run.begin()  # openings, targets and methods are known to be usable: only now may a run be replaced


def _tick_cells(tick: Steps, step: str, before: int, total: int, done: int) -> None:
    """Report cells done of all methods, so that the time left is that of the stage."""
    tick.tell(step, before + done, total)


def _measured(state: Steering, site: str, method: str, seed: int, tick: Callable[[int], None]) -> Numbers:
    fitted, material = control_method(method), state.material(site, seed)
    control = fitted.fit(material)
    if fitted.at_depth != (control.site is not None and control.site.part != "logits"):
        raise TypeError(f"{method} has at_depth={fitted.at_depth} and changes {control.site or 'no site'}: declare it")
    numbers = measure(control, state.ground, state.recipe, tick)
    return numbers | {"about": fitted.describe()}


def _draw(state: Steering, tick: Steps) -> None:
    """Measure random directions at the site, from the first training set."""
    recipe = state.recipe
    for start in range(0, recipe.draws, _CHUNK):
        chunk = range(start, min(start + _CHUNK, recipe.draws))
        tick(start, recipe.draws)
        make = partial(random_draws, state.material(recipe.site, 0), state.ground, recipe, chunk)
        state.draws += _kept_draws(state, [DRAW, *chunk], make)


def _null(state: Steering, tick: Steps) -> None:
    """Measure directions of other nulls at the primary level, as a method would be, on the first training set."""
    recipe = state.recipe
    for number, null in enumerate(NULLS):
        tick(number, len(NULLS))
        tick.tell(null, number, len(NULLS))
        make = partial(other_draws, null, state.material(recipe.site, 0), state.ground, recipe)
        state.nulls[null] = _kept_draws(state, [null, recipe.nulls], make)


def _kept_draws(state: Steering, about: list[Any], make: Callable[[], list[Numbers]]) -> list[Numbers]:
    found: list[Numbers] = _kept(state, state.recipe.site, about, lambda: {"draws": make()})["draws"]
    return found


def _conclude(state: Steering, tick: Steps) -> None:
    recipe = state.recipe
    training = concept_file.training_sets(state.concept, recipe.seeds)
    training_sets.record({"": training}, state.run)
    at = [
        figures.Measured(recipe, state.ground, state.measured[site], training)
        for site in recipe.sites
        if site in state.measured
    ]
    first = replace(at[0], draws=state.draws, nulls=state.nulls, unsteered=_unsteered(state))
    rows, facts = figures.conclude(first, at[1:])
    shared = _shared(state)
    state.run.add_rows(shared | row for row in rows)
    state.run.write_json("steering", facts)
    state.run.write_table(EFFECTS, effect_table(first))


def _unsteered(state: Steering) -> Numbers:
    """Fluency and repetition of what the unchanged model writes behind the openings."""
    ground, recipe = state.ground, state.recipe

    def made() -> Numbers:
        found = quality(Intervened(state.model), ground.default, ground, recipe)
        return {name: values for name, values in found.items() if name != "kl_on_policy"}  # it is 0

    return _kept(state, recipe.site, ["unsteered"], made)


def _trust(state: Steering, tick: Steps) -> None:
    """Select the prompts to steer, for each method of the first training set."""
    recipe = state.recipe
    first = {method: numbers[0] for method, numbers in state.measured[recipe.site].items()}
    material = state.material(recipe.site, 0)
    before = trust_stage.Before(recipe, state.concept, state.ground, material, first, state.draws)
    rows, facts = trust_stage.select(before, partial(_kept, state, recipe.site), tick.tell)
    if rows:
        shared = _shared(state)
        state.run.add_rows(shared | row for row in rows)
    state.run.write_json(trust_stage.NAME, facts)


def _shared(state: Steering) -> dict[str, Any]:
    """Columns that all rows of a run have; the hash of the weights takes a tenth of a second, so call it once."""
    about = {"model": state.model.name, "model_hash": state.model.hash}
    return about | {"dataset": state.concept.name, "positions": "all"}


def _material(state: Steering, at: str, seed: int) -> Material:
    """Return the texts of one seed with their states at a site; dictionaries of a site take turns among seeds."""
    model, site = state.model, state.model.site(at)
    parts = concept_file.parts(state.concept, seed)
    here = state.subjects.at(at)
    dictionary = here[seed % len(here)] if here else None

    return Material.of(
        model,
        site,
        parts.direction,
        parts.development,
        dictionary=dictionary.dictionary if dictionary else None,
        control_dictionary=dictionary.control if dictionary else None,
        seed=seed,
        instruction=state.concept.fields.instruction,
        format=state.recipe.format,
    )


def _kept(state: Steering, site: str, about: list[Any], make: Callable[[], Numbers]) -> Numbers:
    """Return what a unit of work found, from the cache where it is there whole: a stopped run goes on from here."""
    recipe = state.recipe
    prints = [s.dictionary.fingerprint() for s in state.subjects.at(site)]
    prints += [s.control.fingerprint() for s in state.subjects.at(site) if s.control is not None]
    # what changes no number of a unit; a table of the user's is in the digest of the concept
    left_out = {"name", "title", "concept", "table", "site", "sites", "methods", "contrasts", "margin", "seeds"}
    left_out |= {"secondary", "draws", "nulls", "quick", "full", "admit", "files"}
    asked = recipe.model_dump(mode="json", exclude=left_out)
    choices = state.ground.choices is not None
    parts = [
        [site, *about, choices],
        asked,
        state.concept.digest,
        ground.packaged_digest(),
        state.makers,
        prints,
        _threads(),
    ]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    record = cache_root() / CACHE / f"{key[:32]}.json"
    found: Numbers | None = entry(record, key, "steering", state.run.note)
    if found is None:
        seal(record, key, facts=make())
        found = entry(record, key, "steering", state.run.note)  # as it is read later: a rerun has the same numbers
    assert found is not None
    return found


def _threads() -> int:
    """Number of threads that multiply matrices: with another number sums are rounded otherwise."""
    return torch.get_num_threads()


def _resolve(request: CompareRequest, weights: str) -> SteerRecipe:
    recipe = with_options(asked_recipe(request), request)
    files = pinned_by_content(recipe.model, recipe.dictionaries, weights)
    if Path(recipe.concept).suffix:
        files[f"concept {recipe.concept}"] = load_concept(recipe).digest
    return recipe.model_copy(update={"files": files})


def _paths(recipe: SteerRecipe) -> Mapping[str, str]:
    named = [recipe.model, recipe.concept, *recipe.dictionaries]
    named += [name for name in (recipe.table.openings, recipe.table.targets) if name] if recipe.table else []
    return shared_names([name for name in named if Path(name).is_absolute() or Path(name).exists()])


ANALYSIS: Analysis[Steering] = Analysis(
    STEER,
    SteerRecipe,
    begin,
    (
        Stage("model and concept", _open),
        Stage("openings and texts", _ground),
        Stage("strengths and effects", _measure),
        Stage("random directions", _draw, lambda state: state.recipe.draws > 0),
        Stage("other nulls", _null, lambda state: state.recipe.nulls > 0 and state.ground.scored is not None),
        Stage("intervals", _conclude),
        Stage("selective steering", _trust, lambda state: state.recipe.admit is not None),
    ),
    tasks=frozenset(
        {"steer", "steer-contrast", "steer-null", "steer-damage", "steer-curve", "steer-ceiling", "trust-steer"}
    ),
    options=frozenset({each.name for each in fields(SteeringOptions)} | OF_TABLE | OPTIONS.keys() | OTHER_OPTIONS),
    resolve=_resolve,
    plan=planned,
    paths=_paths,
)
