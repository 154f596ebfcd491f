"""Units of work of a comparison of control methods, and the time they take, from one trial of each kind of step."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from theodolite.control import ground
from theodolite.control.behind import at_the_end
from theodolite.control.control import VectorControl
from theodolite.control.damage import cloze_sentences
from theodolite.control.effects import ScoredOpenings, Targets
from theodolite.control.measure import SIGNS
from theodolite.control.method import control_method
from theodolite.control.neutral_texts import TOKENS, neutral_texts
from theodolite.control.null_draws import NULLS, OTHER_CONCEPTS
from theodolite.control.passes import Passes
from theodolite.control.recipe import SteerRecipe
from theodolite.core.seeds import generator
from theodolite.data import concept_file
from theodolite.data.concept_file import ConceptFile
from theodolite.models.generate import Decoding
from theodolite.models.model import Model

TRIAL_TEXTS, TRIAL_OPENINGS, TRIAL_TOKENS = 8, 16, 6
TRIAL_SHARE = 0.05  # of the norm of a state, added in the trial: how much is added costs the same
# Passes over the texts of disturbance until a level is matched. Methods of the default model's core tables took 2.4 a
# level, random directions 2 (they are matched within a tenth).
MATCHING, MATCHING_DRAW = 2.4, 2.0


@dataclass(frozen=True)
class Units:
    """Numbers of things that a comparison measures.

    fits: methods fitted, over sites and training sets. cells: signs and levels of all of them; `written` and `primary`
    of these cells have written text, and all that belongs to the primary level. points: strengths off the levels (the
    whole instruction). curve: further strengths, effects on targets only. draws: levels of random directions;
    `drawn_written` of them with written text. nulls: directions of other nulls.
    """

    fits: int
    cells: int
    primary: int
    written: int
    points: int
    curve: int
    draws: int
    drawn_written: int
    nulls: int


@dataclass(frozen=True)
class Seconds:
    """Measured seconds of one step: a steered pass over one text, the effect at one opening, one written token."""

    text: float
    opening: float
    token: float


def units(recipe: SteerRecipe, present: Sequence[str], has_targets: bool) -> Units:
    """Count what a run will measure.

    present: the methods whose parts are there. A recipe's sites must be spelt out.

    >>> sites = ["blocks.1.resid_post", "blocks.2.resid_post"]
    >>> recipe = SteerRecipe(kind="steer", name="a", title="A", concept="joy", sites=sites)
    >>> found = units(recipe, ["latent", "logit_bias(smoothing=2)"], True)      # the bias is at no depth
    >>> found.fits, found.cells, found.written, found.draws
    (3, 18, 6, 180)
    """
    at_depth = [method for method in present if control_method(method).at_depth]
    fits = recipe.seeds * (len(present) + len(at_depth) * (len(recipe.sites) - 1))
    sides, levels = len(SIGNS), len(recipe.nats)
    of_nulls = [
        min(recipe.nulls, len(concept_file.names()) - 1 if null == OTHER_CONCEPTS else recipe.nulls) for null in NULLS
    ]
    return Units(
        fits=fits,
        cells=fits * sides * levels,
        primary=fits * sides,
        written=fits * sides * (levels if recipe.written_at == "all" else 1),
        points=sides * recipe.seeds * ("prompt" in present),
        curve=fits * sides * recipe.curve,
        draws=recipe.draws + min(recipe.draws, recipe.draws_elsewhere) * (levels - 1),
        drawn_written=min(recipe.draws, recipe.draws_written),
        nulls=sum(of_nulls) if has_targets else 0,
    )


def minutes(recipe: SteerRecipe, concept: ConceptFile, count: Units, each: Seconds) -> dict[str, float]:
    """Return the minutes of each stage: methods with their effects, random directions, other nulls."""
    n = min(len(set(concept.openings)), recipe.openings)
    parts = concept_file.parts(concept, 0)
    read = (len(parts.direction.texts) + len(parts.development.texts)) * len(recipe.sites) * recipe.seeds
    matched, effects = recipe.disturbance_texts * each.text, n * each.opening
    writing = n * recipe.written_tokens * each.token * (1 + recipe.samples)
    # what was written is read twice, plain and steered, for its disturbance and its fluency
    reread = 2 * n * recipe.written_tokens * each.text / TOKENS
    methods = (
        read * each.text
        + count.cells * (MATCHING * matched + effects + ground.DAMAGE_TEXTS * each.text)
        + count.primary * len(cloze_sentences()) * each.text / 2  # they are about half as long
        + count.written * (writing + reread)
        + (count.points + count.curve) * (matched + effects)
        + count.points * writing
    )
    draw = MATCHING_DRAW * matched + effects
    found = {
        "methods": writing + methods,  # the first writing is that of the unchanged model
        "random directions": count.draws * draw + count.drawn_written * writing,
        "other nulls": count.nulls * draw,
    }
    return {stage: seconds / 60 for stage, seconds in found.items()}


def trial(model: Model, concept: ConceptFile, recipe: SteerRecipe) -> Seconds:
    """Time one pass, one effect and some written tokens under a random direction at the site of the contrasts."""
    texts = neutral_texts(concept.name, TRIAL_TEXTS)
    openings = list(dict.fromkeys(concept.openings))[:TRIAL_OPENINGS]
    site = model.site(recipe.site)
    states = model.read(texts, site, pooling="mean", format=recipe.format)[site].rows
    vector = np.asarray(generator(0, "steering cost").normal(size=states.shape[1]))
    control = VectorControl.scaled(model, "trial", site, vector, float(np.linalg.norm(states, axis=1).mean()))
    policy = control.at(TRIAL_SHARE * control.cap / 10)
    passes = Passes.of(model, texts, max_tokens=TOKENS)
    behind = Passes(model, *at_the_end(model, openings, recipe.format))
    targets: Any = concept_file.parts(concept, 0).targets
    both = targets and Targets(tuple(targets.positive), tuple(targets.negative))
    scored = both and ScoredOpenings(model, openings, both, recipe.format, behind)
    how = Decoding(max_new_tokens=TRIAL_TOKENS)
    return Seconds(
        text=_seconds(lambda: passes.kl_of_rows(policy)) / len(texts),
        opening=_seconds(lambda: scored.effect(policy) if scored else behind.log_probs(policy)) / len(openings),
        token=_seconds(lambda: policy.generate(openings, how, format=recipe.format)) / (len(openings) * TRIAL_TOKENS),
    )


def _seconds(work: Callable[[], Any]) -> float:
    """Seconds of some work the second time: the first keeps the states before the site, and warms up."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
