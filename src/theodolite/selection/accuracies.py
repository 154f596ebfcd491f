"""From judgements to figures: what is admitted, how right that is, and whether alpha is kept where nobody certified it.

Rates among admitted rows are means over training sets that admit any; the number of those is recorded beside. A claim
is about one reader on one data set: that every conditional accuracy of what its chosen judge admits (within each class,
within each prediction) is at least alpha. It is *kept* if that is shown, *broken* if the contrary is, by one-sided
tests, Holm-corrected over reader x shift.
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
from theodolite.core.cache import cache_root
from theodolite.core.calibration_error import calibration_error
from theodolite.core.metrics import augrc, aurc, brier, mean
from theodolite.core.run import IN_DISTRIBUTION, Run
from theodolite.core.slug import slug
from theodolite.core.stats import FEWEST_SEEDS, Interval, Metric, Sample
from theodolite.core.tick import Tick
from theodolite.core.training_sets import TrainingSets
from theodolite.core.verdict import LEVEL, holm
from theodolite.selection.fitting import CHOSEN, Admitted, judge_files
from theodolite.selection.power import accuracies, effective_rows, power
from theodolite.selection.protocol import ALPHA, DELTA, READERS
from theodolite.selection.saved import JUDGES
from theodolite.study.parallel import in_parallel
from theodolite.study.score_matrix import N_BOOT, Row, ScoreMatrix, numbers, read_score_matrix
from theodolite.study.training_sets import UNMEASURED, Measured, of_dataset
from theodolite.study.views import FRAMES, Views

Array = np.ndarray
COLUMNS = ("admitted", "right", "probability", "covered", "signed", "predicted")
EXPLORATORY_REPLICATES = 200
CELLS = ("class_0", "class_1", "predicted_0", "predicted_1")
_NAN = math.nan
_NOTHING = Interval(_NAN, _NAN, _NAN, 0, 0, 0, _NAN, _NAN, _NAN, _NAN, _NAN, 0, 0.0)


@dataclass(frozen=True)
class Claim:
    """Whether alpha is kept on one data set by what the chosen judge of one reader admits."""

    method: str
    dataset: str
    alpha: float
    word: str  # kept | broken | open | nothing admitted
    p_kept: float
    p_broken: float
    least: str  # the cell that speaks most against alpha, its accuracy and rows
    accuracy: float
    n: int
    family: int
    power: dict[str, float] = field(default_factory=dict)  # chance of "kept", by the true accuracy


def conclude(admitted: Sequence[Admitted], views: Views, run: Run, tick: Tick, training: Measured = UNMEASURED) -> None:
    """All figures into the run, the primary readers' predictions one by one, and what was chosen and claimed."""
    rows, claims = evaluate(admitted, tick, training=training)
    run.add_rows({"site": run.recipe["site"], "model": run.facts["model"]["name"]} | row for row in rows)
    primary = [one for one in admitted if one.case.reader in READERS]
    run.write_table("admission", pd.concat([one.detail for one in primary or admitted], ignore_index=True))
    case = admitted[0].case
    run.write_json(
        "admission",
        {
            "as_fixed": case.level == ALPHA and {one.case.reader for one in primary} == set(READERS),
            "level": case.level, "delta": DELTA, "delta_each": case.delta(case.level), "readers": case.n_readers,
            "needed": {f"{alpha:g}": needed(alpha, case.delta(alpha)) for alpha in case.alphas},
            "claims": [asdict(claim) for claim in claims],
            "choices": [{"method": one.case.reader, "seed": one.case.seed} | one.record for one in admitted],
        },
    )  # fmt: skip
    run.record("read_from", [f"views/{FRAMES}/{views.frame_path(name).name}" for name in views.inputs])
    for one in admitted:
        if one.record["preflight"]:
            run.note("certify", 1, f"one reader of one training set: {one.record['preflight']}")
        if one.case.seed == 0:
            files = judge_files(cache_root() / "judges", one.case, views)
            run.copy_in(files, f"{JUDGES}/{slug(run.shared(one.case.reader))}")


def evaluate(
    admitted: Sequence[Admitted], tick: Tick, n_boot: int = N_BOOT, training: Measured = UNMEASURED
) -> tuple[list[Row], list[Claim]]:
    """Rows for `Run.add_rows`, task "admit", and the claims."""
    from joblib import delayed

    names = list(dict.fromkeys(admitted[0].detail["dataset"]))
    work = [
        delayed(_of_dataset)(name, [_only(one, name) for one in admitted], n_boot, of_dataset(training, name))
        for name in names
    ]
    found = {name: (rows, figures) for name, rows, figures in in_parallel(work, len(work), tick)}
    level = admitted[0].case.level
    cells = {
        (key.method, name): {metric.removeprefix("accuracy_"): figure for metric, figure, _ in figures}
        for name in names
        for key, figures in found[name][1].items()
        if key.judge == CHOSEN and key.method in READERS and key.alpha == level
    }
    return [row for name in names for row in found[name][0]], _claims(cells, level)


class Key(NamedTuple):
    """Whose judgements: of which reader, by which judge on which map, at which level."""

    method: str
    judge: str
    map: str
    alpha: float


Figure = tuple[str, Interval, int]  # metric, its value, and how many training sets that rests on


def _only(one: Admitted, dataset: str) -> Admitted:
    """The part of a case that is about one data set; `at` counts its own rows."""
    inside = (one.detail["dataset"] == dataset).to_numpy()
    place = np.cumsum(inside) - 1
    kept = one.judgements[inside[one.judgements["at"]]]
    return replace(one, judgements=kept.assign(at=place[kept["at"]]), detail=one.detail[inside])


def _of_dataset(
    name: str, admitted: Sequence[Admitted], n_boot: int, training: TrainingSets
) -> tuple[str, list[Row], dict[Key, list[Figure]]]:
    first = [one for one in admitted if one.case.reader == admitted[0].case.reader]
    frame = pd.concat([one.detail for one in first]).assign(site="", score=np.nan)
    few, many = (
        read_score_matrix(name, frame, training=training, n_boot=n, seed=0)
        for n in (min(n_boot, EXPLORATORY_REPLICATES), n_boot)
    )
    figures = {
        key: list(_figures((many if key.judge == CHOSEN else few).sample, values))
        for key, values in _matrices(admitted, many).items()
    }
    return name, [_row(many, key, *figure) for key, of in figures.items() for figure in of], figures


def _matrices(admitted: Sequence[Admitted], matrix: ScoreMatrix) -> dict[Key, dict[str, Array]]:
    """Every column of every judge as (S, n), NaN where a training set did not ask."""
    found: dict[Key, dict[str, Array]] = {}
    for one in admitted:
        seed = matrix.seeds.index(str(one.case.seed))
        place = np.searchsorted(matrix.rows, one.detail["row"].to_numpy(matrix.rows.dtype))
        for (judge, on, alpha), part in one.judgements.groupby(["judge", "map", "alpha"], sort=False):
            key = Key(one.case.reader, judge, on, alpha)
            empty = {name: np.full(matrix.sample.asked.shape, np.nan) for name in COLUMNS}
            for name, values in found.setdefault(key, empty).items():
                values[seed, place[part["at"]]] = part[name]
    return found


def _figures(sample: Sample, value: Mapping[str, Array]) -> Iterator[Figure]:
    """Everything that is said of one judge on one data set."""
    anyone = replace(sample, y=np.zeros_like(sample.y))  # a rate rests on all groups, not on those of the rarer class
    right = np.where(value["admitted"] > 0, value["right"], np.nan)
    yield _over(anyone, "admitted", mean, value["admitted"])
    yield _over(anyone, "accuracy_of_all", mean, value["right"])
    yield _over(anyone, "accuracy", mean, right)
    for c in (0, 1):
        if (sample.y == c).any():
            yield _over(anyone, f"accuracy_class_{c}", mean, np.where(sample.y == c, right, np.nan))
        yield _over(anyone, f"accuracy_predicted_{c}", mean, np.where(value["predicted"] == c, right, np.nan))
    yield _over(anyone, "aurc", aurc, value["signed"])
    yield _over(anyone, "augrc", augrc, value["signed"])
    yield _over(sample, "brier", brier, value["probability"])
    yield _calibration(sample, value["probability"])
    yield _over(anyone, "coverage", mean, value["covered"])


def _over(sample: Sample, name: str, metric: Metric, values: Array) -> Figure:
    """The metric over the training sets that have any value; what a judge rejects is not unscored.

    Its groups are as many as a mean over training sets rests on: 1 / mean(1 / n) of each, times their number, at most
    all there are. A training set that has one row weighs as much as any other, and tells as much as one row.
    """
    there = ~np.isnan(values) & sample.asked
    some = np.flatnonzero(there.any(1))
    if not len(some):
        return name, replace(_NOTHING, overlap=sample.training.overlap), 0
    estimate = replace(sample, asked=sample.asked[some]).estimate(metric, values[some])
    groups = tuple(
        min(all_of_them, int(len(some) ** 2 / sum(1 / len(np.unique(group[there[s]])) for s in some)))
        for group, all_of_them in zip(sample.groups, estimate.groups, strict=True)
    )
    return name, replace(replace(estimate, groups=groups).interval(), n_unscored=0), len(some)


def _calibration(sample: Sample, probabilities: Array) -> Figure:
    """The calibration error over the training sets that have any probability."""
    some = np.flatnonzero((~np.isnan(probabilities) & sample.asked).any(1))
    if not len(some):
        return "ece", replace(_NOTHING, overlap=sample.training.overlap), 0
    found = calibration_error(replace(sample, asked=sample.asked[some]), probabilities[some])
    return "ece", replace(found, n_unscored=0), len(some)


def _row(matrix: ScoreMatrix, key: Key, metric: str, figure: Interval, n_seeds: int) -> Row:
    params = {"judge": key.judge, "map": key.map, "alpha": key.alpha, "training_sets": n_seeds}
    place = {"task": "admit", "method": key.method, "seed": "all", "split": matrix.split, "dataset": matrix.name}
    return place | {"metric": metric, "params": json.dumps(params, sort_keys=True)} | numbers(figure)


def _claims(cells: Mapping[tuple[str, str], Mapping[str, Interval]], alpha: float) -> list[Claim]:
    """Holm over reader x shift; the test rows, which the certificate is about, stand alone.

    Sets of one label make no claim: whatever is predicted to be the other is wrong there by construction.
    """
    two_classes = {place: of for place, of in cells.items() if all(f"class_{c}" in of for c in (0, 1))}
    found = [_tested(*place, {c: of[c] for c in CELLS}, alpha) for place, of in two_classes.items()]
    family = [claim for claim in found if claim.dataset != IN_DISTRIBUTION]
    kept, broken = (holm([getattr(claim, p) for claim in family]) for p in ("p_kept", "p_broken"))
    corrected = [
        replace(claim, p_kept=k, p_broken=b, family=len(family))
        for claim, k, b in zip(family, kept, broken, strict=True)
    ]
    claims = [*(c for c in found if c.dataset == IN_DISTRIBUTION), *corrected]
    return [replace(_worded(c), power=_power(two_classes[c.method, c.dataset], c)) for c in claims]


def _power(cells: Mapping[str, Interval], claim: Claim) -> dict[str, float]:
    """How likely "kept" was, by the true accuracy of both labels, at the first step of Holm's correction."""
    of = {c: cells[c] for c in CELLS}
    return {f"{true:g}": power(of, claim.alpha, true, LEVEL / claim.family) for true in accuracies(claim.alpha)}


def _tested(method: str, dataset: str, cells: Mapping[str, Interval], alpha: float) -> Claim:
    """All cells must be shown to reach alpha (intersection-union); one shown below it is enough (Bonferroni).

    A cell in which nothing is admitted shows nothing. `least` is the cell that speaks most against alpha.
    """
    seen = [name for name, figure in cells.items() if not math.isnan(figure.value)]
    if not seen:
        return Claim(method, dataset, alpha, "nothing admitted", 1.0, 1.0, "", math.nan, 0, 1)
    against = {name: _p_value(cells[name], alpha, below=True) for name in seen}
    least = min(seen, key=lambda name: (against[name], cells[name].value))
    p_kept = max(_p_value(figure, alpha, below=False) for figure in cells.values())
    p_broken = min(1.0, len(seen) * against[least])
    return Claim(method, dataset, alpha, "", p_kept, p_broken, least, cells[least].value, cells[least].n, 1)


def _worded(claim: Claim) -> Claim:
    if claim.word:
        return claim
    word = "kept" if claim.p_kept < LEVEL else "broken" if claim.p_broken < LEVEL else "open"
    return replace(claim, word=word)


def _p_value(figure: Interval, alpha: float, below: bool) -> float:
    """One-sided, of an accuracy that is on the other side of alpha; 1 with too few training sets, or without a row.

    The rows' part of the error is what it would be if alpha were the accuracy: near 1 the measured one is too small.
    n draws stand for the rows: as many as have the error that was measured, or the groups where nothing varied. Half
    a row is taken off (continuity), as a count is meant. Binomial tails come out within a factor of 2, too large.
    """
    if figure.n_seeds < FEWEST_SEEDS or math.isnan(figure.value):
        return 1.0
    n = effective_rows(figure)
    error = math.hypot(math.sqrt(alpha * (1 - alpha) / n), figure.sd_seeds)
    beyond = (alpha - figure.value if below else figure.value - alpha) - 0.5 / n
    return float(student.sf(beyond / error, max(figure.df, 1)))
