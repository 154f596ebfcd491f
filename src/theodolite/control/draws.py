"""Null draws of a comparison, each matched and measured as a method is: random directions, and those of other nulls."""

from collections.abc import Iterable

import numpy as np

from theodolite.control.control import CAP, VectorControl
from theodolite.control.ground import DAMAGE_TEXTS, Ground
from theodolite.control.material import Material
from theodolite.control.measure import Numbers, measure_draw
from theodolite.control.null_draws import null_directions
from theodolite.control.nulls import random_directions
from theodolite.control.recipe import SteerRecipe

DRAW = "random_direction"


def random_draws(material: Material, ground: Ground, recipe: SteerRecipe, chunk: Iterable[int]) -> list[Numbers]:
    """Measure the random directions of these numbers: draws from the covariance within the classes of the training set.

    All are measured at the primary level; the first ones of all also at the others, and with written text.
    """
    vectors = random_directions(material.training.rows, recipe.draws, label_n=material.training.labels)
    others = [nats for nats in recipe.nats if nats != recipe.primary]
    draws: list[Numbers] = []
    for i in chunk:
        levels = [recipe.primary, *(others if i < recipe.draws_elsewhere else ())]
        control = _control(DRAW, vectors[i] / np.linalg.norm(vectors[i]), material)
        # directions differ little in strength: the search begins where that of the one before has ended
        first = draws[-1]["cells"][0]["strength"] if draws else None
        draws.append(measure_draw(control, ground, recipe, levels, written=i < recipe.draws_written, first=first))
    return draws


def other_draws(null: str, material: Material, ground: Ground, recipe: SteerRecipe) -> list[Numbers]:
    """Measure the directions of another null at the primary level, each with its name."""
    skip = recipe.disturbance_texts + DAMAGE_TEXTS
    vectors = null_directions(null, material, recipe.nulls, concept=ground.concept.name, skip=skip)
    return [
        {"of": name} | measure_draw(_control(null, vector, material), ground, recipe, [recipe.primary])
        for name, vector in vectors.items()
    ]


def _control(method: str, vector: np.ndarray, material: Material) -> VectorControl:
    return VectorControl(material.model, method, material.site, vector, CAP * material.class_distance)
