"""Opening of a recipe of kind `steer`: its concept, and the model with the dictionaries at its sites."""

from dataclasses import dataclass, replace
from typing import Any

from theodolite.control import trust_stage
from theodolite.control.method import control_method
from theodolite.control.methods.reader_direction import ReaderDirection
from theodolite.control.options import with_sites
from theodolite.control.purpose import check_purpose
from theodolite.control.recipe import SteerRecipe
from theodolite.core.errors import UserError
from theodolite.core.methods import Method, parse
from theodolite.core.reader import LinearReader
from theodolite.core.tick import Tell, silent
from theodolite.data import concept_file
from theodolite.data.concept_file import ConceptFile
from theodolite.data.file_check import refuse_seen
from theodolite.models.model import Model
from theodolite.study.hardware import Machine
from theodolite.study.subjects import Subjects, open_subjects


@dataclass(frozen=True)
class Opened:
    """A recipe with its sites spelt out, its concept, and the model with the dictionaries at these sites."""

    recipe: SteerRecipe
    concept: ConceptFile
    subjects: Subjects


def open_recipe(asked: SteerRecipe, model: Model | None, machine: Machine, tell: Tell = silent) -> Opened:
    """Open what a recipe names; what is wrong with its concept, its sites or its model is an error here.

    model: one that is loaded already. Nothing is measured, so that a plan and a run refuse the same requests.
    """
    concept = load_concept(asked)
    check_purpose(concept.fields)
    refuse_seen(concept)
    for method in asked.methods:
        _check_direction(method)
    settled: Any = asked  # opening needs the fields of a model and of its sites, which both kinds of recipe have
    subjects = open_subjects(settled, model, machine, tell)
    recipe = with_sites(asked, subjects.model.n_blocks)
    if set(recipe.sites) - {asked.site, *asked.sites}:  # only now are the depths known: open what is there too
        settled = recipe
        subjects = open_subjects(settled, subjects.model, replace(machine, device_map=None), tell)
    for seed in range(asked.seeds):
        concept_file.parts(concept, seed)  # too few texts are an error now
    if asked.admit is not None:
        trust_stage.check(concept, asked)
    return Opened(recipe, concept, subjects)


def reader_of(method: str) -> Method | None:
    """Return the reader along whose direction a method steers; None for a method of control of its own."""
    fitted = control_method(method)
    return parse(fitted.reader) if isinstance(fitted, ReaderDirection) else None


def _check_direction(method: str) -> None:
    """Refuse a reader without a direction before the model is read, not when its turn to be fitted has come."""
    reader = reader_of(method)
    if reader is not None and not (issubclass(reader.cls, LinearReader) and reader.view == "state"):
        raise UserError(
            f"{method!r} has no direction in the state to steer along: take a linear reader of the state, such as "
            "difference_in_means, or latent_set for latents"
        )


def load_concept(recipe: SteerRecipe) -> ConceptFile:
    """Return the concept of a recipe: packaged, of a file, or a table of the user's."""
    if recipe.table is None:
        return concept_file.load(recipe.concept)
    return concept_file.from_table(recipe.concept, **recipe.table.model_dump())
