"""Measurement of one control: strengths for each level of disturbance, effects, written text, damage."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from theodolite.control.calibrate import BUDGET, NATS, PLACES, Calibrated, Curve, calibrate, calibrate_levels
from theodolite.control.classifiers import written_effect
from theodolite.control.control import Control
from theodolite.control.damage import distinct_2, fluency, loops, predicted
from theodolite.control.dial import PromptDial
from theodolite.control.direct import direct_share
from theodolite.control.disturbance import firing_share, kl_acting, over_generations
from theodolite.control.effects import ScoredOpenings, margins
from theodolite.control.ground import Ground, greedy, samples
from theodolite.control.policy import Intervened, Policy
from theodolite.control.recipe import SteerRecipe
from theodolite.core.errors import UserError
from theodolite.models.generate import Generation

SIGNS = {"+": 1, "-": -1}
Numbers = dict[str, Any]  # what a cache entry holds: JSON
CURVE = (0.01, 1.0)  # nats between which the strengths of a curve lie
# A random direction counts as matched within a tenth of the level: its effect then errs by a twentieth, far less than
# random directions differ from each other.
_DRAW_TOLERANCE = 0.1
_DRAW_TRIES = 4


def measure(control: Control, ground: Ground, recipe: SteerRecipe, tick: Callable[[int], None]) -> Numbers:
    """Return all numbers of one fitted control, as JSON, and what they cost.

    `cells`, one for each sign and level: strength, kl and reason of the calibration; a cell that was not matched has
    nothing else; `tick` is told how many are done. `points`: what a control does at strength 1 of each sign where that
    is a point of its own, namely one without a dial, and the whole instruction. `curve`: effects at further strengths.
    """
    found: list[Calibrated] = []
    ground.disturbance.forget()  # what a control costs, and its budget, depend on no control before it
    if control.has_dial:
        # a level more needs its share of passes more
        budget = BUDGET * max(1.0, len(recipe.nats) / len(NATS))
        found = calibrate_levels(control, ground.disturbance, recipe.nats, SIGNS.values(), budget=budget)
    cells = []
    for number, (one, split) in enumerate(zip(found, _splits(recipe) if found else [], strict=True)):
        cells.append(_cell(control, one, split, ground, recipe))
        tick(number + 1)
    points = [_point(control, split, ground, recipe) for split in SIGNS] if _has_points(control) else []
    numbers = {"cells": cells, "points": points, "curve": curve(control, cells, ground, recipe.curve)}
    return {
        "cap": _finite(control.cap),
        "site": str(control.site or ""),
        "spent": sum(one.spent for one in found),
        **numbers,
    }


def curve(control: Control, cells: list[Numbers], ground: Ground, n: int) -> list[Numbers]:
    """Return disturbance and effects on targets at n strengths of each sign, in equal ratios from .01 nat upwards.

    Nothing is matched anew: the lower end lies on a line of log KL against log strength through the calibrated points,
    the upper one is the calibrated strength whose disturbance is nearest to 1 nat. A sign without any has no curve.
    """
    found = []
    for split, sign in SIGNS.items() if n else ():
        known = {
            abs(one["strength"]): one["kl"]
            for one in cells
            if one["split"] == split and one["reason"] in ("", "cap") and one["kl"] > 0 and one["strength"]
        }
        for strength in _between(known, n):
            policy = control.at(sign * strength)
            kl = float(ground.disturbance.kl_of_rows(policy).mean())
            effects = {name: _listed(effect) for name, effect in on_targets(policy, ground).items()}
            found.append({"split": split, "strength": sign * strength, "kl": _finite(kl), "effects": effects})
    return found


def _between(kl_at: dict[float, float], n: int) -> list[float]:
    """Strengths from where the disturbance is about .01 nat to the known one at which it is nearest to 1 nat."""
    if not kl_at:
        return []
    sizes = sorted(kl_at)
    # a small edit disturbs by the square of its strength
    power = 2.0
    if len(sizes) > 1:
        power = math.log(kl_at[sizes[1]] / kl_at[sizes[0]]) / math.log(sizes[1] / sizes[0])
    low = sizes[0] * (CURVE[0] / kl_at[sizes[0]]) ** (1 / max(power, 1.0))
    high = min(sizes, key=lambda size: abs(math.log(kl_at[size] / CURVE[1])))
    return [float(one) for one in np.geomspace(min(low, sizes[0]), high, n)]


def _has_points(control: Control) -> bool:
    """Return whether strength 1 stands for something by itself: no dial, or the whole instruction."""
    return not control.has_dial or isinstance(control, PromptDial)


def _point(control: Control, split: str, ground: Ground, recipe: SteerRecipe) -> Numbers:
    policy = control.at(float(SIGNS[split]))
    kl = float(ground.disturbance.kl_of_rows(policy).mean())
    effects = _on_written(policy, _write(policy, ground, recipe), ground, recipe) | on_targets(policy, ground)
    return {
        "split": split,
        "strength": float(SIGNS[split]),
        "kl": _finite(kl),
        "effects": {name: _listed(effect) for name, effect in effects.items()},
    }


def measure_draw(
    control: Control,
    ground: Ground,
    recipe: SteerRecipe,
    levels: list[float],
    *,
    written: bool = False,
    first: float | None = None,
) -> Numbers:
    """Return strength, kl and mean effects of a null direction at some levels, one sign: its opposite is a draw too.

    first: the strength to begin the search at, as another draw had it at the first of the levels. written: whether
    text is written too, at the primary level. An unmatched level has no effects.
    """
    start = ground.disturbance.spent
    side, cells = Curve(control, ground.disturbance), []
    for nats in levels:
        one = calibrate(side, nats, first=first, tries=_DRAW_TRIES, tolerance=_DRAW_TOLERANCE)
        cell: Numbers = {"nats": nats, "strength": one.strength, "kl": one.kl, "reason": one.reason}
        if one.reached:
            policy = control.at(one.strength)
            effects = on_targets(policy, ground)
            if written and nats == recipe.primary:
                effects |= _on_written(policy, _write(policy, ground, recipe), ground, recipe)
            cell |= {name: float(np.mean(effect)) for name, effect in effects.items()}
        cells.append(cell)
    return {"spent": round(side.passes.spent - start, PLACES), "cells": cells}


def _splits(recipe: SteerRecipe) -> list[str]:
    """Sign of each cell, in the order of `calibrate_levels`."""
    return [split for split in SIGNS for _ in recipe.nats]


def _cell(control: Control, one: Calibrated, split: str, ground: Ground, recipe: SteerRecipe) -> Numbers:
    cell: Numbers = {"split": split, "nats": one.nats, "strength": one.strength, "kl": one.kl, "reason": one.reason}
    if not one.reached:
        return cell
    policy = control.at(one.strength)
    first_nv = ground.behind.log_probs(policy)
    effects = on_targets(policy, ground, first_nv)
    after = predicted(policy, ground.damage)
    cell["ce"] = _listed(after.loss)
    if ground.choices is not None:
        effects["effect_choices"] = _on_choices(policy, ground.choices)
    if one.nats == recipe.primary:
        cell |= {"top1": _listed(after.top1)} | _at_primary(policy, ground, first_nv)
    if one.nats == recipe.primary or recipe.written_at == "all":
        written = _write(policy, ground, recipe)
        effects |= _on_written(policy, written, ground, recipe)
        cell |= quality(policy, written, ground, recipe)
    return cell | {"effects": {name: _listed(effect) for name, effect in effects.items()}}


def _at_primary(policy: Policy, ground: Ground, first_nv: torch.Tensor) -> Numbers:
    """Return what is measured at the primary level alone: damage in detail, other concepts, and where the edit acts."""
    cell: Numbers = {"cloze": _listed(predicted(policy, ground.cloze).nats)}
    cell["others"] = _on_others(ground, first_nv)
    cell |= {
        "kl_acting": _finite(kl_acting(policy, ground.disturbance)),
        "firing_share": _finite(firing_share(policy, ground.disturbance)),
    }
    return cell | {"direct_share": _direct(policy, ground)}


def on_targets(policy: Policy, ground: Ground, first_nv: torch.Tensor | None = None) -> dict[str, np.ndarray]:
    """Effects (n,) on the log-odds of the targets, and of those that share no word with the training texts.

    first_nv: log-probabilities (n, vocabulary) behind the openings, where they are known already.
    """
    both = {"effect_targets": ground.scored, "effect_unseen": ground.unseen}
    scored = {name: openings for name, openings in both.items() if openings is not None}
    if scored and first_nv is None:
        first_nv = ground.behind.log_probs(policy)  # one pass for both
    return {name: openings.effect(policy, first_nv) for name, openings in scored.items()}


def _on_choices(policy: Policy, questions: ScoredOpenings) -> np.ndarray:
    """Effects (questions) on the preference for the answer with the concept, over both orders of the answers."""
    after, before = (margins(score).preference for score in (questions.score(policy), questions.base))
    return after - before


def _on_others(ground: Ground, first_nv: torch.Tensor) -> dict[str, list[float | None]]:
    """Effects (n,) of the same edit on the log-odds of other concepts' single-token targets, by concept."""
    both = first_nv, ground.behind.clean
    found = {}
    for name, (positive, negative) in ground.others.items():
        after, before = (_odds(x, positive) - _odds(x, negative) for x in both)
        found[name] = _listed((after - before).double().cpu().numpy())
    return found


def _odds(log_probs_nv: torch.Tensor, ids: list[int]) -> torch.Tensor:
    return log_probs_nv[:, ids].logsumexp(1)


def _direct(policy: Policy, ground: Ground) -> float | None:
    """Share of the effect on the targets' first tokens that goes straight to the unembedding; None without any.

    A token counts once, and one that begins targets of both sides does not tell them apart.
    """
    if ground.scored is None or not isinstance(policy, Intervened):
        return None
    n = len(ground.scored.targets.positive)
    one, other = ({ids[0] for ids in side} for side in (ground.scored.ids[:n], ground.scored.ids[n:]))
    positive, negative = sorted(one - other), sorted(other - one)
    if not positive or not negative:
        return None

    def effect(log_probs: torch.Tensor) -> float:
        return float((_odds(log_probs, positive) - _odds(log_probs, negative)).mean())

    try:
        return _finite(direct_share(policy, ground.scored.passes, effect))
    except UserError:  # an edit inside a block has no straight way
        return None


def _write(policy: Policy, ground: Ground, recipe: SteerRecipe) -> list[Generation]:
    return policy.generate(ground.openings, greedy(recipe), format=recipe.format)


def _on_written(
    policy: Policy, written: list[Generation], ground: Ground, recipe: SteerRecipe
) -> dict[str, np.ndarray]:
    """Effects (n,) by each classifier on what was written greedily, and on the samples that the recipe asks for."""
    texts, before = [one.text for one in written], [one.text for one in ground.default]
    effects = {f"effect_{c.name}": written_effect(c.score, texts, before) for c in ground.classifiers}
    if drawn := [policy.generate(ground.openings, how, format=recipe.format) for how in samples(recipe)]:
        both = [[[one.text for one in each] for each in several] for several in (drawn, ground.sampled)]
        effects |= {f"effect_{c.name}_sampled": written_effect(c.score, *both) for c in ground.classifiers}
    return effects


def quality(policy: Policy, written: list[Generation], ground: Ground, recipe: SteerRecipe) -> Numbers:
    """Return how text behind the openings reads, which a policy has written, as JSON.

    kl_on_policy: disturbance on this text, in nats a token. By opening: fluency, its loss under the unchanged model;
    distinct2, the share of its pairs of tokens that are new; loops, 1 where it ends in a loop.
    """
    some = [i for i, one in enumerate(written) if one.ids]
    kl, loss = np.full(len(written), np.nan), np.full(len(written), np.nan)
    if some:
        openings, kept = [ground.openings[i] for i in some], [written[i] for i in some]
        changes = policy.interventions if isinstance(policy, Intervened) else ()
        passes = over_generations(ground.model, openings, kept, format=recipe.format, changes=changes)
        kl[some], loss[some] = passes.kl(policy), fluency(passes)
    return {
        "kl_on_policy": _finite(float(np.nanmean(kl))) if some else None,
        "fluency": _listed(loss),
        "distinct2": _listed(np.array([distinct_2(one.ids) for one in written])),
        "loops": _listed(np.array([float(loops(one.ids)) for one in written])),
    }


def _listed(values: np.ndarray) -> list[float | None]:
    """Numbers as JSON, None for NaN."""
    return [_finite(float(value)) for value in values]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
