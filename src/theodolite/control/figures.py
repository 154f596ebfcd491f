"""Rows and facts of a comparison of control methods, from the numbers that were measured."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

import numpy as np

from theodolite.control import along, yardsticks
from theodolite.control.damage import crossing
from theodolite.control.furthest import furthest
from theodolite.control.ground import Ground
from theodolite.control.measure import SIGNS, Numbers
from theodolite.control.nulls import Band, band
from theodolite.control.recipe import SteerRecipe
from theodolite.control.statistics import (
    both_signs,
    cell,
    columns,
    contrast,
    decide,
    dose,
    mean_effect,
    share,
    size_elsewhere,
)
from theodolite.core.plain import plain
from theodolite.core.training_sets import TrainingSets

Array = np.ndarray
Row = dict[str, Any]
Bands = dict[tuple[float, str], Band]  # of random directions, by level and metric
PRIMARY_METRICS = ("effect_ngrams", "effect_sentence")  # on greedy text; contrasts are decided by these and on targets
ON_TARGETS = ("effect_targets", "effect_unseen")
METRICS = (*PRIMARY_METRICS, *ON_TARGETS)
ON_QUESTIONS = "effect_choices"  # one effect for each question, not for each opening
# Of the full table alone: written text in samples, and questions in both orders, each with a group of its own
FURTHER = ("effect_ngrams_sampled", "effect_sentence_sampled", ON_QUESTIONS)
BOTH = "both"
USABLE = 0.6  # AUROC that the lower end of a classifier's interval must reach, for its effects to decide anything


@dataclass(frozen=True)
class Measured:
    """Measurements of a comparison at one site: numbers by method, one for each seed, and those of null directions.

    training: what the training sets of the seeds have in common; from three seeds on the intervals are over them.
    draws, nulls: random directions, and those of other nulls by name; at the first site alone. unsteered: fluency and
    repetition of what the unchanged model writes, by opening.
    """

    recipe: SteerRecipe
    ground: Ground
    methods: dict[str, list[Numbers]]
    training: TrainingSets
    draws: list[Numbers] = field(default_factory=list)
    nulls: dict[str, list[Numbers]] = field(default_factory=dict)
    unsteered: dict[str, list[float | None]] = field(default_factory=dict)

    def cells(self, method: str, split: str, nats: float) -> list[Numbers]:
        """Return a method's cells of one sign and level, one for each seed."""
        return [
            one
            for seed in self.methods[method]
            for one in seed["cells"]
            if (one["split"], one["nats"]) == (split, nats)
        ]

    def effects(self, method: str, split: str, nats: float, metric: str) -> Array | None:
        """Return effects (seeds, openings); None where the strength of some seed could not be matched."""
        cells = self.cells(method, split, nats)
        if not cells or not all(metric in one.get("effects", {}) for one in cells):
            return None
        return np.array([one["effects"][metric] for one in cells], float)

    def on_both(self, method: str, nats: float, metric: str) -> Array | None:
        """Return half the distance between the effects of the two signs, (seeds, openings)."""
        plus, minus = (self.effects(method, split, nats, metric) for split in SIGNS)
        return None if plus is None or minus is None else both_signs(plus, minus)


def conclude(found: Measured, elsewhere: Sequence[Measured] = ()) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows of a Run and the facts of its page (`artefacts/steering.json`).

    elsewhere: what was measured at other sites. Its rows say their site; contrasts, nulls and facts are of the first.
    """
    bands, contrasts, nulls = _bands(found), _contrasts(found), _nulls(found)
    rows = [*_effect_rows(found), *_cell_rows(found), *along.rows(found), *_point_rows(found)]
    rows += [*_band_rows(bands), *_null_rows(nulls), *_contrast_rows(contrasts)]
    ceilings = yardsticks.ceilings(found)
    rows += [*yardsticks.ceiling_rows(ceilings), *yardsticks.unsteered_rows(found)]
    for one in elsewhere:
        rows += [*_effect_rows(one), *_cell_rows(one), *along.rows(one)]
    facts = {
        "sites": found.recipe.sites,
        "nulls": nulls,
        "nats": found.recipe.nats,
        "primary": found.recipe.primary,
        "margin": found.recipe.margin,
        "openings": len(found.ground.openings),
        "methods": {method: _about(found, method, bands) for method in found.methods},
        "bands": [{"nats": nats, "metric": metric} | plain(one) for (nats, metric), one in bands.items()],
        "contrasts": contrasts,
        "ceilings": ceilings,
        "furthest": [lead for metric in METRICS if (lead := _furthest(found, metric)) is not None],
        "classifiers": [
            {
                "name": one.name,
                "method": one.method,
                "slope": one.quality.slope,
                "usable": one.quality.auroc.lo >= USABLE,
            }
            | {name: asdict(getattr(one.quality, name)) for name in ("auroc", "ece")}
            for one in found.ground.classifiers
        ],
    }
    return rows, facts


def _effect_rows(found: Measured) -> Iterator[Row]:
    """Mean effect of each method, sign and level, with the shares of openings moved the right and the wrong way."""
    for method in found.methods:
        for nats in found.recipe.nats:
            for metric in (*METRICS, *FURTHER):
                for split, sign in SIGNS.items():
                    if (effect := found.effects(method, split, nats, metric)) is None:
                        continue
                    here = cell(effect, sign, _groups(effect), training=found.training)
                    place = _place(found, method, split, nats)
                    yield place | {"metric": metric} | columns(here.effect)
                    yield place | {"metric": f"{metric}:right_share"} | columns(here.right_share)
                    yield place | {"metric": f"{metric}:wrong_way"} | columns(here.wrong_way)
                if (both := found.on_both(method, nats, metric)) is not None:
                    place = _place(found, method, BOTH, nats)
                    yield (
                        place | {"metric": metric} | columns(mean_effect(both, _groups(both), training=found.training))
                    )


def _cell_rows(found: Measured) -> Iterator[Row]:
    """KL of each cell in several places, rise of losses on unrelated text, and how written text reads."""
    base = {"ce": found.ground.damaged.loss, "top1": found.ground.damaged.top1, "cloze": found.ground.cloze_base.nats}
    for method in found.methods:
        for split in SIGNS:
            for nats in found.recipe.nats:
                if not (cells := found.cells(method, split, nats)):  # a control of one point
                    continue
                place = _place(found, method, split, nats)
                kl = [one["kl"] for one in cells if not one["reason"]]
                matched = {"n": len(kl), "n_unscored": len(cells) - len(kl)}
                yield place | {"metric": "kl", "value": float(np.mean(kl)) if kl else math.nan} | matched
                for name in ("kl_acting", "kl_on_policy", "firing_share", "direct_share"):
                    values = [one[name] for one in cells if one.get(name) is not None]
                    if values:
                        yield place | {"metric": name, "value": float(np.mean(values)), "n": len(values)}
                for name in ("ce", "top1", "cloze", "fluency", "distinct2", "loops"):
                    if not all(name in one for one in cells):
                        continue
                    value = np.array([one[name] for one in cells], float)
                    rise = value - base[name] if name in base else value
                    summary, numbers = (share, value) if name == "loops" else (mean_effect, rise)
                    figure = summary(numbers, _groups(value), training=found.training)
                    yield place | {"task": "steer-damage", "metric": name} | columns(figure)


def _groups(value_sn: Array) -> Array:
    """Group of each opening, question or text: each is its own."""
    return np.arange(value_sn.shape[1])


def _point_rows(found: Measured) -> Iterator[Row]:
    """Disturbance and effects of what has no dial, and of the whole instruction: their nats are not matched, so NaN."""
    for method, seeds in found.methods.items():
        for split in SIGNS:
            points = [one for seed in seeds for one in seed["points"] if one["split"] == split]
            if not points:
                continue
            place: Row = {"task": "steer", "method": method, "split": split, "nats": math.nan, "seed": "all"}
            place |= {"site": seeds[0]["site"], "strength": points[0]["strength"]}
            kl = [one["kl"] for one in points if one["kl"] is not None]
            yield place | {"metric": "kl", "value": float(np.mean(kl)) if kl else math.nan, "n": len(kl)}
            for metric in points[0]["effects"]:
                effect = np.array([one["effects"][metric] for one in points], float)
                here = cell(effect, SIGNS[split], _groups(effect), training=found.training)
                yield place | {"metric": metric} | columns(here.effect)
                yield place | {"metric": f"{metric}:wrong_way"} | columns(here.wrong_way)


def _nulls(found: Measured) -> list[Row]:
    """Band of each other null at the primary level, by metric, and of its draws the one that moved most."""
    lines = []
    for null, draws in found.nulls.items():
        for metric in ON_TARGETS:
            values = np.array([draw["cells"][0].get(metric, np.nan) for draw in draws], float)
            if np.isfinite(values).any():
                most = int(np.nanargmax(abs(values)))
                about = {"null": null, "metric": metric, "nats": found.recipe.primary}
                about |= {"most": float(values[most]), "most_of": draws[most]["of"]}
                about |= {"spent": sum(draw["spent"] for draw in draws)}
                lines.append(about | plain(band(values)))
    return lines


def _null_rows(nulls: Sequence[Row]) -> Iterator[Row]:
    for one in nulls:
        place = {"task": "steer-null", "method": one["null"], "seed": "all", "nats": one["nats"]}
        ends = {"lo": one["lo"], "hi": one["hi"], "n": one["n"], "n_unscored": one["n_left_out"]}
        yield place | {"metric": one["metric"], "value": one["width"]} | ends


def _bands(found: Measured) -> Bands:
    """Band of random directions by level and metric; unmatched draws are left out and counted in it."""
    bands = {}
    for nats in found.recipe.nats:
        for metric in METRICS:
            # text is written for the first draws only: of the others nothing was left out
            asked = found.draws[: found.recipe.draws_written] if metric in PRIMARY_METRICS else found.draws
            cells = [one for draw in asked for one in draw["cells"] if one["nats"] == nats]
            values = np.array([one.get(metric, np.nan) for one in cells], float)
            if np.isfinite(values).any():
                bands[nats, metric] = band(values)
    return bands


def _band_rows(bands: Bands) -> Iterator[Row]:
    for (nats, metric), one in bands.items():
        place = {"task": "steer-null", "method": "random_direction", "seed": "all", "nats": nats, "metric": metric}
        yield place | {"value": one.width, "lo": one.lo, "hi": one.hi, "n": one.n, "n_unscored": one.n_left_out}


def _contrasts(found: Measured) -> list[Row]:
    """Verdicts on the contrasts of the recipe, at the primary level, over both signs.

    Primary and secondary contrasts are a family each, for each metric.
    """
    lines, group_n, nats = [], found.ground.groups, found.recipe.primary
    families = {"primary": found.recipe.contrasts, "secondary": found.recipe.secondary}
    for metric, (family, contrasts) in product(METRICS, families.items()):
        pairs, differences = [], []
        for one in contrasts:
            if not {one.method, one.than} <= found.methods.keys():
                continue
            sides = [found.on_both(method, nats, metric) for method in (one.method, one.than)]
            if sides[0] is not None and sides[1] is not None:
                pairs.append(one)
                differences.append(contrast(sides[0], sides[1], group_n, training=found.training))
        for one, verdict in zip(pairs, decide(differences, found.recipe.margin), strict=True):
            about = {"family": family, "method": one.method, "than": one.than, "metric": metric, "nats": nats}
            about |= {"verdict": verdict.word, "needs": verdict.needs.facts(), "p": verdict.p}
            about |= {"p_holm": verdict.p_different, "p_equivalent": verdict.p_equivalent}
            lines.append(about | columns(verdict.difference))
    return lines


def _furthest(found: Measured, metric: str) -> Row | None:
    """Facts on the method that moves a measure furthest at the primary level, over both signs; None where none does."""
    of_method = {method: found.on_both(method, found.recipe.primary, metric) for method in found.methods}
    effects = {method: effect for method, effect in of_method.items() if effect is not None}
    if not effects:
        return None
    group_n = found.ground.groups
    leader, alike = furthest(effects, group_n, training=found.training)
    about = {"metric": metric, "method": leader, "alike": alike, "methods": len(effects)}
    return about | columns(mean_effect(effects[leader], group_n, training=found.training))


def _contrast_rows(contrasts: Sequence[Row]) -> Iterator[Row]:
    names = ("method", "metric", "nats", "value", "lo", "hi", "n", "n_groups", "n_unscored")
    for one in contrasts:
        place = {"task": "steer-contrast", "versus": one["than"], "split": BOTH, "seed": "all"}
        yield place | {name: one[name] for name in names}


def _about(found: Measured, method: str, bands: Bands) -> dict[str, Any]:
    """Facts of one method: what it fitted, its strengths, its dose, effects on other concepts, when it does damage."""
    seeds = found.methods[method]
    strengths = [
        {name: one.get(name) for name in ("split", "nats", "strength", "kl", "reason")} | {"seed": seed}
        for seed, numbers in enumerate(seeds)
        for one in numbers["cells"]
    ]
    about = {"site": seeds[0]["site"], "cap": seeds[0]["cap"], "about": [one["about"] for one in seeds]}
    about |= {"spent": [one["spent"] for one in seeds], "strengths": strengths}
    about |= {"points": [{"split": one["split"], "kl": one["kl"]} for one in seeds[0]["points"]]}
    return about | {
        "dose": {metric: _dose(found, method, metric, bands) for metric in ON_TARGETS},
        "selectivity": {split: _selectivity(found, method, split) for split in SIGNS},
        "damage": {split: _damage(found, method, split) for split in SIGNS},
    }


def _dose(found: Measured, method: str, metric: str, bands: Bands) -> dict[str, Any] | None:
    """Judge a method's effects over its strengths of both signs, strength 0 among them; the mean over seeds.

    A random direction moves all openings alike, up at one sign and down at the other: by itself that is no control. So
    both signs also have to leave the band of random directions.
    """
    points: list[tuple[float, Array]] = [(0.0, np.zeros(len(found.ground.openings)))]
    for split in SIGNS:
        for nats in along.within_budget(found.recipe):
            if (effect := found.effects(method, split, nats, metric)) is not None:
                size = float(np.mean([one["strength"] for one in found.cells(method, split, nats)]))
                points.append((size, effect.mean(0)))
    points.sort(key=lambda point: point[0])
    strengths = np.array([strength for strength, _ in points])
    if not (strengths > 0).any() or not (strengths < 0).any():
        return None
    judged = dose(np.array([effect for _, effect in points]), strengths, found.ground.groups)
    word, why = judged.word, judged.why
    beyond = [_beyond_chance(found, (method, split, metric), bands) for split in SIGNS]
    if beyond == [False, False]:
        word, why = "no effect shown", "random directions do as much"
    elif False in beyond and word == "control":
        word, why = "damage, not control", "one sign beyond random directions"
    words = {"word": word, "why": why, "spearman": plain(judged.spearman)}
    curve = [{"strength": s, "effect": float(effect.mean())} for s, effect in points]
    return words | {"falling": columns(judged.falling), "curve": curve}


def _beyond_chance(found: Measured, cell: tuple[str, str, str], bands: Bands) -> bool | None:
    """Whether the mean effect of a method, sign and metric leaves the random band; None without draws to compare with.

    At the primary level, or where that was not matched at the highest one that was.
    """
    method, split, metric = cell
    effects = {
        nats: effect
        for nats in along.within_budget(found.recipe)
        if (nats, metric) in bands and (effect := found.effects(method, split, nats, metric)) is not None
    }
    if not effects:
        return None
    level = found.recipe.primary if found.recipe.primary in effects else max(effects)
    return float(np.nanmean(effects[level])) not in bands[level, metric]


def _selectivity(found: Measured, method: str, split: str) -> dict[str, Any] | None:
    """Effects of the same edit on other concepts' targets at the primary level: mean size, and which moves most.

    In nats of each one's targets. A share of the effect on the concept would divide nats of unlike targets.
    """
    cells = found.cells(method, split, found.recipe.primary)
    if not cells or not all(one.get("others") for one in cells):
        return None
    names = list(cells[0]["others"])
    other_cn = np.array([[one["others"][name] for name in names] for one in cells], float).mean(0)
    mean_c = np.array([_mean(other_n) for other_n in other_cn])
    # of no finite mean there is no largest
    most = int(np.nanargmax(abs(mean_c))) if np.isfinite(mean_c).any() else 0
    size = plain(size_elsewhere(other_cn, found.ground.groups))
    return {"size": size, "most": plain(mean_c[most]), "most_of": names[most], "concepts": len(names)}


def _mean(effect_n: Array) -> float:
    known = effect_n[~np.isnan(effect_n)]
    return float(known.mean()) if len(known) else math.nan


def _damage(found: Measured, method: str, split: str) -> dict[str, Any] | None:
    """Size of strength at which the loss on unrelated text rises by 5 %, from the levels that were matched."""
    by_size: dict[float, Array] = {}
    for nats in found.recipe.nats:
        cells = found.cells(method, split, nats)
        if cells and all("ce" in one for one in cells):
            size = abs(float(np.mean([one["strength"] for one in cells])))
            by_size[size] = np.array([one["ce"] for one in cells], float).mean(0)
    if not by_size:
        return None
    sizes = sorted(by_size)
    base_n = found.ground.damaged.loss
    at = crossing(np.array([by_size[s] for s in sizes]), base_n, np.array(sizes), np.arange(len(base_n)))
    return plain(at)


def _place(found: Measured, method: str, split: str, nats: float) -> Row:
    """Columns that say which cell a row is about; of both signs, or of none that was matched, there is no strength."""
    place: Row = {"task": "steer", "method": method, "split": split, "nats": nats, "seed": "all"}
    place["site"] = found.methods[method][0]["site"]
    if split != BOTH:
        matched = [one["strength"] for one in found.cells(method, split, nats) if not one["reason"]]
        place["strength"] = float(np.mean(matched)) if matched else math.nan
    return place
