"""The dry run of a comparison of control methods: what it would measure, and about how long that takes."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from scipy.stats import norm

from theodolite.control.cost import TRIAL_OPENINGS, TRIAL_TEXTS, Units, minutes, trial, units
from theodolite.control.measure import SIGNS
from theodolite.control.method import control_method
from theodolite.control.neutral_texts import TOKENS
from theodolite.control.opened import Opened, open_recipe
from theodolite.control.recipe import SteerRecipe
from theodolite.control.statistics import FEWEST_FITS
from theodolite.core.verdict import LEVEL, POWER
from theodolite.models.model import Model
from theodolite.study.hardware import Machine

_GB = 1e9
_COPIES = 3  # of predictions at once: of the unchanged model, of a steered one, and their logarithms


@dataclass(frozen=True, repr=False)
class SteerPlan:
    """Units of work of a comparison, minutes by stage, gigabytes of predictions, and the difference to be found.

    openings: how many the concept has, up to those that the recipe asks for. absent: methods that lack a part, each
    with the part. detectable: smallest difference between two methods that is found with 80 % power, in standard
    deviations of the difference between openings; NaN where there will be no interval.
    """

    recipe: SteerRecipe
    units: Units
    minutes: Mapping[str, float]
    openings: int
    has_targets: bool
    absent: Mapping[str, str]
    dictionaries: tuple[str, ...]
    gigabytes: float
    detectable: float

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    @property
    def minutes_in_all(self) -> float:
        """Minutes of the whole run, with nothing of it cached."""
        return sum(self.minutes.values())

    def lines(self) -> Iterator[str]:
        """Yield the plan as text, in about ten lines; the whole recipe is `plan.recipe`."""
        recipe, count = self.recipe, self.units
        yield (
            f"{recipe.name}: {recipe.model} at {', '.join(recipe.sites)}, format: {recipe.format}, training sets: "
            f"{recipe.seeds}"
        )
        yield f"methods: {', '.join(method for method in recipe.methods if method not in self.absent)}"
        if self.absent:
            yield "left out: " + "; ".join(f"{method}, for want of {part}" for method, part in self.absent.items())
        levels = ", ".join(f"{nats:g}" for nats in recipe.nats)
        yield (
            f"measured: {count.fits:,} fits at {levels} nats of disturbance on {len(SIGNS)} signs, so {count.cells:,} "
            f"cells, {count.written:,} of them with written text" + self._beside()
        )
        targets = "with targets" if self.has_targets else "without targets, so classifiers of written text alone"
        yield (
            f"on: {self.openings:,} openings {targets}; {recipe.written_tokens} new tokens behind each, greedy"
            + (f" and in {recipe.samples} samples" if recipe.samples else "")
            + f"; disturbance on {recipe.disturbance_texts} texts of {TOKENS} tokens"
        )
        yield f"chance: {count.draws:,} levels of {recipe.draws} random directions, {count.nulls} of other nulls"
        yield "dictionaries: " + ("; ".join(self.dictionaries) or "none at these sites, so nothing changes latents")
        yield self._time()
        yield f"memory: about {self.gigabytes:.1f} GB for predictions, beside the model and the dictionaries"
        yield self._difference()

    def _beside(self) -> str:
        count = self.units
        further = [
            f"{n:,} {words}"
            for n, words in ((count.points, "points of the whole instruction"), (count.curve, "strengths of curves"))
            if n
        ]
        return f"; {' and '.join(further)}" if further else ""

    def _time(self) -> str:
        parts = ", ".join(f"{stage} {n:.1f}" for stage, n in self.minutes.items())
        beside = " without selective steering" if self.recipe.admit is not None else ""
        return (
            f"time: about {self.minutes_in_all:.1f} min{beside}, nothing of it cached: {parts} (each step timed on "
            f"{TRIAL_TEXTS} texts and up to {TRIAL_OPENINGS} openings; what methods train by themselves comes on top)"
        )

    def _difference(self) -> str:
        if math.isnan(self.detectable):
            return (
                f"no interval and no verdict: 2 training sets are too few for one (--seeds 1 for intervals about one "
                f"fit, --seeds {FEWEST_FITS} for intervals over training sets)"
            )
        beside = "" if self.recipe.seeds > 1 else ", about the one training set"
        family = max(len(self.recipe.contrasts), 1)
        return (
            f"smallest difference between two methods found with {POWER:.0%} power: {self.detectable:.2f} standard "
            f"deviations of the difference between openings{beside} (first step of Holm's correction for {family} "
            f"contrast{'s' if family > 1 else ''})"
        )


def planned(recipe: SteerRecipe, model: Model | None, machine: Machine) -> SteerPlan:
    """Return the plan of a recipe; the model is opened and a few steps are timed, and nothing is written."""
    found = open_recipe(recipe, model, machine)
    recipe, concept = found.recipe, found.concept
    absent = _absent(found)
    present = [method for method in recipe.methods if method not in absent]
    openings, has_targets = min(len(set(concept.openings)), recipe.openings), concept.fields.targets is not None
    count = units(recipe, present, has_targets)
    rows = recipe.disturbance_texts * TOKENS
    vocabulary = int(found.subjects.model.network.module.get_input_embeddings().num_embeddings)
    return SteerPlan(
        recipe,
        count,
        minutes(recipe, concept, count, trial(found.subjects.model, concept, recipe)),
        openings,
        has_targets,
        absent,
        tuple(f"{one.name} at {one.site}, {one.dictionary.width:,} latents" for one in found.subjects.dictionaries),
        _COPIES * rows * vocabulary * 4 / _GB,
        _detectable(openings, len(recipe.contrasts), recipe.seeds),
    )


def _absent(found: Opened) -> dict[str, str]:
    """Return the methods that lack a part at the site of the contrasts, each with the name of the part."""
    here = found.subjects.at(found.recipe.site)
    there = {
        "dictionary": bool(here),
        "control_dictionary": any(one.control for one in here),
        "instruction": found.concept.fields.instruction is not None,
    }
    lacking = {
        method: [part for part in control_method(method).needs if not there.get(part, True)]
        for method in found.recipe.methods
    }
    words = {
        "dictionary": "a dictionary",
        "control_dictionary": "a control dictionary",
        "instruction": "an instruction",
    }
    return {method: words[parts[0]] for method, parts in lacking.items() if parts}


def _detectable(n: int, contrasts: int, seeds: int) -> float:
    """Smallest paired difference found with 80 % power, in standard deviations; what refitting adds is not known."""
    if 1 < seeds < FEWEST_FITS:
        return math.nan
    reach = norm.ppf(1 - LEVEL / 2 / max(contrasts, 1)) + norm.ppf(POWER)
    return float(reach / math.sqrt(n))
