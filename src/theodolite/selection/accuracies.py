"""Coverage and selective accuracy of every rule, and whether the certified accuracy holds on new data.

Rates among accepted rows are means over training sets that accept any; their number is recorded beside. A claim is
about one reader on one data set: every conditional accuracy of the predictions that its chosen rule accepts (within
each class, within each prediction) is at least alpha. It *holds* if that is shown, it *fails* if the contrary is, by
one-sided tests, Holm-corrected over reader x shift.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t as student

from theodolite.calibration.certified import needed
from theodolite.core.calibration_error import calibration_error
from theodolite.core.claim import FAILS, HOLDS, INCONCLUSIVE, NOTHING
from theodolite.core.metrics import augrc, aurc, brier, mean
from theodolite.core.run import IN_DISTRIBUTION, Run
from theodolite.core.slug import slug
from theodolite.core.stats import FEWEST_SEEDS, Interval, Metric, Sample
from theodolite.core.tick import Tick
from theodolite.core.training_sets import TrainingSets
from theodolite.core.verdict import LEVEL, holm
from theodolite.report.certificates import shortage
from theodolite.selection.fitting import CHOSEN, CaseResult
from theodolite.selection.power import accuracies, effective_rows, power
from theodolite.selection.protocol import ALPHA, DELTA, READERS
from theodolite.selection.saved import SAVED_RULES
from theodolite.study.parallel import in_parallel
from theodolite.study.score_matrix import N_BOOT, Row, ScoreMatrix, numbers, read_score_matrix
from theodolite.study.training_sets import UNMEASURED, Measured, of_dataset
from theodolite.study.views import FRAMES, Views

Array = np.ndarray
COLUMNS = ("accepted", "correct", "probability", "in_set", "signed", "predicted")
EXPLORATORY_REPLICATES = 200
CELLS = ("class_0", "class_1", "predicted_0", "predicted_1")
_NAN = math.nan
_NO_ROWS = Interval(_NAN, _NAN, _NAN, 0, 0, 0, _NAN, _NAN, _NAN, _NAN, _NAN, 0, 0.0)


@dataclass(frozen=True)
class Claim:
    """Test of whether the predictions that one reader's chosen rule accepts reach alpha on one data set."""

    method: str
    dataset: str
    alpha: float
    word: str  # HOLDS | FAILS | INCONCLUSIVE | NOTHING
    p_holds: float
    p_fails: float
    worst: str  # the cell with the strongest evidence against alpha; its accuracy and rows follow
    accuracy: float
    n: int
    family: int
    power: dict[str, float] = field(default_factory=dict)  # probability of "holds", by the true accuracy


def conclude(
    results: Sequence[CaseResult], views: Views, run: Run, tick: Tick, training: Measured = UNMEASURED
) -> None:
    """Write all figures, the primary readers' predictions, the choices and the claims into the run."""
    rows, claims = evaluate(results, tick, training=training)
    run.add_rows({"site": run.recipe["site"], "model": run.facts["model"]["name"]} | row for row in rows)
    primary = [one for one in results if one.case.reader in READERS]
    run.write_table("selection", pd.concat([one.predictions for one in primary or results], ignore_index=True))
    case = results[0].case
    run.write_json(
        "selection",
        {
            "as_fixed": case.level == ALPHA and {one.case.reader for one in primary} == set(READERS),
            "level": case.level,
            "delta": DELTA,
            "delta_each": case.delta(case.level),
            "readers": case.n_readers,
            "needed": {f"{alpha:g}": needed(alpha, case.delta(alpha)) for alpha in case.alphas},
            "claims": [asdict(claim) for claim in claims],
            "choices": [{"method": one.case.reader, "seed": one.case.seed} | one.record for one in results],
        },
    )
    run.record("read_from", [f"views/{FRAMES}/{views.frame_path(name).name}" for name in views.inputs])
    for one in results:
        least, fewest = needed(one.case.level, one.case.delta(one.case.level)), min(one.record["certify"])
        if fewest < least:
            run.note("certify", 1, shortage(one.case.level, least, fewest))
        if one.case.seed == 0:
            run.copy_in(one.rule, f"{SAVED_RULES}/{slug(run.shared(one.case.reader))}")


def evaluate(
    results: Sequence[CaseResult], tick: Tick, n_boot: int = N_BOOT, training: Measured = UNMEASURED
) -> tuple[list[Row], list[Claim]]:
    """Return rows for `Run.add_rows`, of task "select", and the claims."""
    from joblib import delayed

    names = list(dict.fromkeys(results[0].predictions["dataset"]))
    work = [
        delayed(_of_dataset)(name, [_only(one, name) for one in results], n_boot, of_dataset(training, name))
        for name in names
    ]
    found = {name: (rows, figures) for name, rows, figures in in_parallel(work, len(work), tick)}
    level = results[0].case.level
    cells = {
        (key.method, name): {metric.removeprefix("accuracy_"): figure for metric, figure, _ in figures}
        for name in names
        for key, figures in found[name][1].items()
        if key.rule == CHOSEN and key.method in READERS and key.alpha == level
    }
    return [row for name in names for row in found[name][0]], _claims(cells, level)


class RuleKey(NamedTuple):
    """Key of the rule that a figure is about: its reader, name, feature space and level."""

    method: str
    rule: str
    space: str
    alpha: float


Figure = tuple[str, Interval, int]  # metric, its value, and how many training sets that rests on


def _only(one: CaseResult, dataset: str) -> CaseResult:
    """Return the part of a case's results that is about one data set; `at` counts its rows."""
    inside = (one.predictions["dataset"] == dataset).to_numpy()
    place = np.cumsum(inside) - 1
    decisions = one.decisions[inside[one.decisions["at"]]]
    return replace(one, decisions=decisions.assign(at=place[decisions["at"]]), predictions=one.predictions[inside])


def _of_dataset(
    name: str, results: Sequence[CaseResult], n_boot: int, training: TrainingSets
) -> tuple[str, list[Row], dict[RuleKey, list[Figure]]]:
    first = [one for one in results if one.case.reader == results[0].case.reader]
    frame = pd.concat([one.predictions for one in first]).assign(site="", score=np.nan)
    few, many = (
        read_score_matrix(name, frame, training=training, n_boot=n, seed=0)
        for n in (min(n_boot, EXPLORATORY_REPLICATES), n_boot)
    )
    figures = {
        key: list(_figures((many if key.rule == CHOSEN else few).sample, values))
        for key, values in _matrices(results, many).items()
    }
    return name, [_row(many, key, *figure) for key, of in figures.items() for figure in of], figures


def _matrices(results: Sequence[CaseResult], panel: ScoreMatrix) -> dict[RuleKey, dict[str, Array]]:
    """Return every column of every rule's decisions as (S, n), NaN where a row is not in a training set's targets."""
    found: dict[RuleKey, dict[str, Array]] = {}
    for one in results:
        seed = panel.seeds.index(str(one.case.seed))
        place = np.searchsorted(panel.rows, one.predictions["row"].to_numpy(panel.rows.dtype))
        for (rule, space, alpha), part in one.decisions.groupby(["rule", "space", "alpha"], sort=False):
            key = RuleKey(one.case.reader, rule, space, alpha)
            empty = {name: np.full(panel.sample.asked.shape, np.nan) for name in COLUMNS}
            for name, matrix in found.setdefault(key, empty).items():
                matrix[seed, place[part["at"]]] = part[name]
    return found


def _figures(sample: Sample, value: Mapping[str, Array]) -> Iterator[Figure]:
    """Yield every figure of one rule on one data set."""
    anyone = replace(sample, y=np.zeros_like(sample.y))  # a rate rests on all groups, not on those of the rarer class
    correct = np.where(value["accepted"] > 0, value["correct"], np.nan)
    yield _over(anyone, "coverage", mean, value["accepted"])
    yield _over(anyone, "accuracy_of_all", mean, value["correct"])
    yield _over(anyone, "accuracy", mean, correct)
    for c in (0, 1):
        if (sample.y == c).any():
            yield _over(anyone, f"accuracy_class_{c}", mean, np.where(sample.y == c, correct, np.nan))
        yield _over(anyone, f"accuracy_predicted_{c}", mean, np.where(value["predicted"] == c, correct, np.nan))
    yield _over(anyone, "aurc", aurc, value["signed"])
    yield _over(anyone, "augrc", augrc, value["signed"])
    yield _over(sample, "brier", brier, value["probability"])
    yield _calibration(sample, value["probability"])
    yield _over(anyone, "set_coverage", mean, value["in_set"])


def _over(sample: Sample, name: str, metric: Metric, values: Array) -> Figure:
    """Return the metric over the training sets that have any value; rejected rows do not count as unscored.

    The number of groups is the harmonic mean of the training sets' numbers of groups, times the number of training
    sets, at most all groups: a training set with one row weighs as much as any other, and informs as much as one row.
    """
    there = ~np.isnan(values) & sample.asked
    some = np.flatnonzero(there.any(1))
    if not len(some):
        return name, replace(_NO_ROWS, overlap=sample.training.overlap), 0
    estimate = replace(sample, asked=sample.asked[some]).estimate(metric, values[some])
    groups = tuple(
        min(all_of_them, int(len(some) ** 2 / sum(1 / len(np.unique(group[there[s]])) for s in some)))
        for group, all_of_them in zip(sample.groups, estimate.groups, strict=True)
    )
    return name, replace(replace(estimate, groups=groups).interval(), n_unscored=0), len(some)


def _calibration(sample: Sample, probabilities: Array) -> Figure:
    """Return the calibration error over the training sets that have any probability."""
    some = np.flatnonzero((~np.isnan(probabilities) & sample.asked).any(1))
    if not len(some):
        return "ece", replace(_NO_ROWS, overlap=sample.training.overlap), 0
    found = calibration_error(replace(sample, asked=sample.asked[some]), probabilities[some])
    return "ece", replace(found, n_unscored=0), len(some)


def _row(panel: ScoreMatrix, key: RuleKey, metric: str, figure: Interval, n_seeds: int) -> Row:
    params = {"rule": key.rule, "space": key.space, "alpha": key.alpha, "training_sets": n_seeds}
    place = {"task": "select", "method": key.method, "seed": "all", "split": panel.split, "dataset": panel.name}
    return place | {"metric": metric, "params": json.dumps(params, sort_keys=True)} | numbers(figure)


def _claims(cells: Mapping[tuple[str, str], Mapping[str, Interval]], alpha: float) -> list[Claim]:
    """Return the claims, Holm-corrected over reader x shift; those of the test rows are not corrected.

    Data sets of one label make no claim: every prediction of the other label is wrong there by construction.
    """
    two_classes = {place: of for place, of in cells.items() if all(f"class_{c}" in of for c in (0, 1))}
    found = [_tested(*place, {c: of[c] for c in CELLS}, alpha) for place, of in two_classes.items()]
    family = [claim for claim in found if claim.dataset != IN_DISTRIBUTION]
    holds, fails = (holm([getattr(claim, p) for claim in family]) for p in ("p_holds", "p_fails"))
    corrected = [
        replace(claim, p_holds=h, p_fails=f, family=len(family))
        for claim, h, f in zip(family, holds, fails, strict=True)
    ]
    claims = [*(c for c in found if c.dataset == IN_DISTRIBUTION), *corrected]
    return [replace(_worded(c), power=_power(two_classes[c.method, c.dataset], c)) for c in claims]


def _power(cells: Mapping[str, Interval], claim: Claim) -> dict[str, float]:
    """Return the probability of "holds", by the true accuracy of both labels, at Holm's first step."""
    of = {c: cells[c] for c in CELLS}
    return {f"{true:g}": power(of, claim.alpha, true, LEVEL / claim.family) for true in accuracies(claim.alpha)}


def _tested(method: str, dataset: str, cells: Mapping[str, Interval], alpha: float) -> Claim:
    """Return an uncorrected claim: all cells must reach alpha (intersection-union), or one lie below it (Bonferroni).

    A cell without accepted rows shows nothing. `worst` is the cell with the strongest evidence against alpha.
    """
    seen = [name for name, figure in cells.items() if not math.isnan(figure.value)]
    if not seen:
        return Claim(method, dataset, alpha, NOTHING, 1.0, 1.0, "", math.nan, 0, 1)
    against = {name: _p_value(cells[name], alpha, below=True) for name in seen}
    worst = min(seen, key=lambda name: (against[name], cells[name].value))
    p_holds = max(_p_value(figure, alpha, below=False) for figure in cells.values())
    p_fails = min(1.0, len(seen) * against[worst])
    return Claim(method, dataset, alpha, "", p_holds, p_fails, worst, cells[worst].value, cells[worst].n, 1)


def _worded(claim: Claim) -> Claim:
    if claim.word:
        return claim
    word = HOLDS if claim.p_holds < LEVEL else FAILS if claim.p_fails < LEVEL else INCONCLUSIVE
    return replace(claim, word=word)


def _p_value(figure: Interval, alpha: float, below: bool) -> float:
    """Return the one-sided p-value of an accuracy beyond alpha; 1 with too few training sets, or without a row.

    The rows' part of the error is computed at alpha, because the measured one is too small near 1. n is the number of
    independent rows with the measured error, or of groups where nothing varied. The continuity correction is half a
    row. The p-values are up to twice those of the binomial.
    """
    if figure.n_seeds < FEWEST_SEEDS or math.isnan(figure.value):
        return 1.0
    n = effective_rows(figure)
    error = math.hypot(math.sqrt(alpha * (1 - alpha) / n), figure.sd_seeds)
    beyond = (alpha - figure.value if below else figure.value - alpha) - 0.5 / n
    return float(student.sf(beyond / error, max(figure.df, 1)))
