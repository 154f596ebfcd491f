"""Everything that all controls of one comparison are measured on: openings, targets, texts, classifiers."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from theodolite.control.behind import at_the_end
from theodolite.control.classifiers import ConceptClassifier, fit_classifiers
from theodolite.control.damage import Predicted, cloze_passes, cloze_sentences, predicted
from theodolite.control.effects import Choice, ScoredOpenings, Targets, scored_choices, token_ids
from theodolite.control.neutral_texts import TOKENS, neutral_texts
from theodolite.control.passes import Passes
from theodolite.control.policy import Intervened
from theodolite.control.recipe import SteerRecipe
from theodolite.core.errors import UserError
from theodolite.data import concept_file
from theodolite.data.concept_file import ConceptFile
from theodolite.models.generate import Decoding, Generation
from theodolite.models.model import Model

DAMAGE_TEXTS = 32  # texts for damage, none of which is among those that strengths are matched on


@dataclass(frozen=True, eq=False)
class Ground:
    """Openings (n) with their targets, texts for disturbance and damage, classifiers of written text.

    behind: passes over the ends of the openings. scored, unseen: None where the concept has no such targets. others:
    single-token targets of other concepts, by name, as ids of positive and negative tokens. choices: questions in both
    orders, where the concept has some and the recipe is full. default, sampled: what the unchanged model writes behind
    each opening, greedy and in samples. damaged, cloze_base: losses of the unchanged model.
    """

    model: Model
    concept: ConceptFile
    openings: list[str]
    behind: Passes
    scored: ScoredOpenings | None
    unseen: ScoredOpenings | None
    others: dict[str, tuple[list[int], list[int]]]
    disturbance: Passes
    damage: Passes
    damaged: Predicted
    cloze: Passes
    cloze_base: Predicted
    classifiers: tuple[ConceptClassifier, ...]
    default: list[Generation]
    sampled: list[list[Generation]]
    choices: ScoredOpenings | None

    @property
    def groups(self) -> np.ndarray:
        """Group of each opening: each is its own."""
        return np.arange(len(self.openings))


def open_ground(model: Model, concept: ConceptFile, recipe: SteerRecipe) -> Ground:
    """Open what a recipe measures on; the unchanged model runs over all of it once.

    The classifiers are trained on the classifier part, whose texts no direction of any seed has seen.
    """
    parts = concept_file.parts(concept, 0)
    openings = list(dict.fromkeys(concept.openings))[: recipe.openings]
    if len(openings) < 2:
        raise UserError(f"concept {concept.name!r} has {len(openings)} openings: give at least 2, better 100")
    texts = neutral_texts(concept.name, recipe.disturbance_texts + DAMAGE_TEXTS)
    disturbing, unrelated = texts[: recipe.disturbance_texts], texts[recipe.disturbance_texts :]
    damage, cloze, plain = Passes.of(model, unrelated, max_tokens=TOKENS), cloze_passes(model), Intervened(model)
    labelled = parts.classifier
    behind = Passes(model, *at_the_end(model, openings, recipe.format))
    return Ground(
        model,
        concept,
        openings,
        behind,
        _scored(model, openings, parts.targets, recipe, behind),
        _scored(model, openings, parts.unseen_targets, recipe, behind),
        _others(model, concept.name),
        Passes.of(model, disturbing, max_tokens=TOKENS),
        damage,
        predicted(plain, damage),
        cloze,
        predicted(plain, cloze),
        fit_classifiers(labelled.texts, labelled.labels, labelled.groups),
        plain.generate(openings, greedy(recipe), format=recipe.format),
        [plain.generate(openings, how, format=recipe.format) for how in samples(recipe)],
        _choices(model, concept, recipe),
    )


@cache
def packaged_digest() -> str:
    """Hash of the packaged data that every concept is measured on: texts and targets of the concepts, cloze sentences.

    Code that reads data files does not change with them, so that what was measured is kept under this hash too.
    """
    concepts = {name: concept_file.load(name).digest for name in concept_file.names()}
    return hashlib.sha256(json.dumps([concepts, cloze_sentences()], sort_keys=True).encode()).hexdigest()


def greedy(recipe: SteerRecipe) -> Decoding:
    """Return how text is written once behind each opening."""
    return Decoding(max_new_tokens=recipe.written_tokens)


def samples(recipe: SteerRecipe) -> list[Decoding]:
    """Return how text is drawn behind each opening, a seed for each sample; steered and plain text share the seeds."""
    return [replace(greedy(recipe), temperature=1.0, seed=seed) for seed in range(recipe.samples)]


def _choices(model: Model, concept: ConceptFile, recipe: SteerRecipe) -> ScoredOpenings | None:
    asked = concept.fields.choices if recipe.full else None
    if asked is None:
        return None
    return scored_choices(model, [Choice(one.question, one.positive, one.negative) for one in asked], recipe.format)


def _scored(
    model: Model, openings: Sequence[str], targets: object, recipe: SteerRecipe, behind: Passes
) -> ScoredOpenings | None:
    if targets is None:
        return None
    both = Targets(tuple(targets.positive), tuple(targets.negative))  # type: ignore[attr-defined]
    return ScoredOpenings(model, openings, both, recipe.format, behind)


def _others(model: Model, but: str) -> dict[str, tuple[list[int], list[int]]]:
    """Ids of the single-token targets of the other packaged concepts, where both sides have some."""
    found = {}
    for name in concept_file.names():
        targets = concept_file.load(name).fields.targets
        if name == but or targets is None:
            continue
        sides = [
            [ids[0] for ids in token_ids(model, side) if len(ids) == 1] for side in (targets.positive, targets.negative)
        ]
        if all(sides):
            found[name] = (sides[0], sides[1])
    return found
