"""The stage of selective steering in a comparison: outcomes of its own prompts, one selection for each method."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from theodolite.calibration.certified import needed
from theodolite.control.calibrate import TOLERANCE
from theodolite.control.control import Control, VectorControl
from theodolite.control.effects import ScoredOpenings, Targets
from theodolite.control.ground import DAMAGE_TEXTS, Ground
from theodolite.control.material import Material
from theodolite.control.measure import Numbers
from theodolite.control.method import control_method
from theodolite.control.moves import LeftSupport, left_support, random_widths, right_moves
from theodolite.control.nulls import random_directions
from theodolite.control.policy import Intervened, Policy
from theodolite.control.recipe import SteerRecipe
from theodolite.control.trust import SHARES, Prompts, select_steering
from theodolite.control.trust_figures import facts, figures, rows
from theodolite.control.trust_prompts import QUICK_N, N, trust_prompts
from theodolite.core.code_hash import code_hash
from theodolite.core.errors import UserError
from theodolite.data.concept_file import ConceptFile
from theodolite.data.near_duplicates import clusters
from theodolite.selection.protocol import DELTA

Array = np.ndarray
NAME = "trust"  # of the artefact, and of the entries of the cache
SIGN, SPLIT = 1, "+"  # towards the concept
_CHUNK = 10  # random draws behind one entry of the cache
# Returns what a unit of work found: from the cache if it is there, else by doing it
Keep = Callable[[list[Any], Callable[[], Numbers]], Numbers]


@dataclass(frozen=True, eq=False)
class Before:
    """Findings of earlier stages: the material of the first training set, and the numbers of methods and draws."""

    recipe: SteerRecipe
    concept: ConceptFile
    ground: Ground
    material: Material
    measured: Mapping[str, Numbers]
    draws: Sequence[Numbers]


@dataclass(frozen=True, eq=False)
class Asked:
    """Prompts with their unsteered states at the site of the recipe, and their targets; `kind` says where from."""

    prompts: Prompts
    scored: ScoredOpenings
    kind: str

    @property
    def digest(self) -> str:
        """sha256 over the prompts and targets; the model has a hash of its own."""
        about = [list(self.prompts.texts), *self.scored.targets.all, len(self.scored.targets.positive)]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def check(concept: ConceptFile, recipe: SteerRecipe) -> None:
    """Refuse, before the model runs, a concept without targets, or with fewer prompts than a certificate takes."""
    if concept.fields.targets is None:
        raise UserError(
            f"--admit needs targets, whose log-odds say whether a prompt moved, and concept {concept.name!r} has none: "
            "add `targets` to its file, or leave out --admit"
        )
    assert recipe.admit is not None
    prompts, _ = _prompts(concept, recipe)
    least = int(np.ceil(needed(recipe.admit, DELTA) / SHARES[2]))
    if len(prompts) < least:
        raise UserError(
            f"--admit {recipe.admit:g} takes {least} prompts beside the {recipe.openings} scored openings, and concept "
            f"{concept.name!r} has {len(prompts)}: give more openings, or a lower --alpha"
        )


def select(before: Before, keep: Keep, tell: Callable[[str], None]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return rows of task "trust-steer" and facts (`artefacts/trust.json`) of every method that has a strength.

    Every cell is a method at the primary level and sign +, fitted on the first training set. A method whose strength
    could not be matched has no cell; its reason is in the facts.
    """
    recipe, asked = before.recipe, ask(before)
    tell("random directions on prompts of their own")
    effect_mn = random_effects(before, asked, keep)
    width_n, lines, about = random_widths(effect_mn), [], {}
    for method, numbers in before.measured.items():
        tell(f"selective steering: {method}")
        if not numbers["cells"]:
            about[method] = {"verdict": "not matched", "why": "no dial"}
            continue
        cell = _primary(numbers["cells"], recipe, SPLIT)
        if cell["reason"]:
            about[method] = {"verdict": "not matched", "why": cell["reason"]}
            continue
        # the code of the method beside that of this module: it is found by name, not imported
        unit = [method, code_hash(*control_method(method).made_by()), cell["strength"]]
        moved = _kept(keep, asked, unit, partial(steered, before, asked, method, cell))
        # strengths are matched within a tolerance, which is part of the budget
        budget = recipe.primary * (1 + TOLERANCE)
        outcome_n = right_moves(_array(moved["effect"]), SIGN, width_n, nats=cell["kl"], budget=budget)
        assert recipe.admit is not None
        found = select_steering(outcome_n, asked.prompts, alpha=recipe.admit, delta=DELTA)
        shown, left = figures(found, asked.prompts), _left(moved["left"])
        shared = {"method": method, "site": numbers["site"], "split": SPLIT, "nats": recipe.primary}
        lines += rows(found, shown, shared | {"strength": cell["strength"]}, left)
        about[method] = facts(found, shown, budget=recipe.primary, left=left)
    return lines, {
        "alpha": recipe.admit,
        "delta": DELTA,
        "nats": recipe.primary,
        "split": SPLIT,
        "prompts": len(asked.prompts.texts),
        "kind": asked.kind,
        "draws": len(effect_mn),
        "band": float(np.median(width_n)),
        "methods": about,
    }


def ask(before: Before) -> Asked:
    """Return the prompts of this stage with their states before any edit; near-copies are one group."""
    recipe, model = before.recipe, before.ground.model
    texts, kind = _prompts(before.concept, recipe)
    named = before.concept.fields.targets
    assert named is not None, "checked before the model ran"
    scored = ScoredOpenings(model, texts, Targets(tuple(named.positive), tuple(named.negative)), recipe.format)
    prompts = Prompts(_states(before, texts), scored.base, texts, clusters(texts))
    return Asked(prompts, scored, kind)


def random_effects(before: Before, asked: Asked, keep: Keep) -> Array:
    """Return effects (m, n) of the matched random draws on the prompts, at the strengths that were found for them."""
    policies, found = list(random_policies(before)), []
    for start in range(0, len(policies), _CHUNK):
        chunk = policies[start : start + _CHUNK]
        about = ["draws", [(number, strength) for number, strength, _ in chunk]]
        found += _kept(keep, asked, about, partial(_effects, asked, [policy for *_, policy in chunk]))["effects"]
    if not found:
        raise UserError("no random direction reached the primary disturbance: ask for more with `draws`")
    return _array(found)


def random_policies(before: Before) -> Iterator[tuple[int, float, Policy]]:
    """Yield number, strength and policy of every random draw that reached the primary level."""
    material, recipe = before.material, before.recipe
    vectors = random_directions(material.training.rows, recipe.draws, label_n=material.training.labels)
    for number, (vector, draw) in enumerate(zip(vectors, before.draws, strict=True)):
        cell = _primary(draw["cells"], recipe)
        if not cell["reason"]:
            # without a cap: the strength was found under one
            control = VectorControl(before.ground.model, "random_direction", material.site, vector)
            yield number, cell["strength"], control.at(cell["strength"])


def steered(before: Before, asked: Asked, method: str, cell: Mapping[str, Any]) -> Numbers:
    """Return effects (n) of one method on the prompts, and which of their states left the support, as JSON."""
    control = control_method(method).fit(before.material)
    policy = control.at(cell["strength"])
    left = _support(before, asked, control, policy)
    told = None if left is None else asdict(left) | {"after_n": left.after_n.tolist()}
    return {"effect": _effect(asked, policy), "left": told}


def _support(before: Before, asked: Asked, control: Control, policy: Policy) -> LeftSupport | None:
    """Compare edited states with unsteered ones; None for a control that changes no state inside the model.

    Every second prompt is a reference for the others: states of the training texts, which end with a full stop, are
    far from all states in the middle of a sentence.
    """
    if control.site is None or control.site.block is None or not isinstance(policy, Intervened):
        return None
    plain_nd = asked.prompts.state_nd
    after_nd = _states(before, asked.prompts.texts, policy)
    return left_support(plain_nd[::2], plain_nd[1::2], after_nd[1::2])


def _states(before: Before, texts: Sequence[str], policy: Intervened | None = None) -> Array:
    """States (n, d) at the last token of each text at the recipe's site, behind the changes of a policy."""
    model, recipe = before.ground.model, before.recipe
    changes: Any = policy.interventions if policy else ()
    how: dict[str, Any] = {"positions": "all", "pooling": "last", "format": recipe.format}
    found = model.read(list(texts), recipe.site, interventions=changes, **how)
    return np.asarray(found[model.site(recipe.site)].rows, float)


def _prompts(concept: ConceptFile, recipe: SteerRecipe) -> tuple[list[str], str]:
    scored = list(dict.fromkeys(concept.openings))[: recipe.openings]
    used = recipe.disturbance_texts + DAMAGE_TEXTS
    return trust_prompts(concept, scored, used, QUICK_N if recipe.quick else N)


def _primary(cells: Sequence[Mapping[str, Any]], recipe: SteerRecipe, split: str | None = None) -> Mapping[str, Any]:
    """Cell of the primary level; random draws have one sign, which their cells do not name."""
    return next(one for one in cells if one["nats"] == recipe.primary and one.get("split") == split)


def _kept(keep: Keep, asked: Asked, about: list[Any], make: Callable[[], Numbers]) -> Numbers:
    """Keep a unit under the prompts and the code that it depends on, beside what every unit depends on."""
    return keep([NAME, asked.digest, code_hash(__name__), *about], make)


def _effects(asked: Asked, policies: Sequence[Policy]) -> Numbers:
    return {"effects": [_effect(asked, policy) for policy in policies]}


def _effect(asked: Asked, policy: Policy) -> list[float | None]:
    return [float(x) if np.isfinite(x) else None for x in asked.scored.effect(policy)]


def _left(told: Mapping[str, Any] | None) -> LeftSupport | None:
    return None if told is None else LeftSupport(np.array(told["after_n"], bool), told["before"], told["limit"])


def _array(values: Any) -> Array:
    """Numbers of JSON, NaN for null."""
    return np.array(values, float)
