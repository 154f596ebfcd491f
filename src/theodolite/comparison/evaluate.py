"""Figures from the scores of texts: every metric of every method on every data set, and contrasts between methods."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from theodolite.core.calibration_error import calibration_error
from theodolite.core.metrics import auroc, average_precision, brier, mean, rate_above
from theodolite.core.recipe import Contrast
from theodolite.core.stats import Interval, Metric
from theodolite.core.verdict import CHANCE, MARGIN, Verdict, benjamini_yekutieli, is_inverted, verdicts
from theodolite.study.score_matrix import N_BOOT, Key, Row, ScoreMatrix, numbers, read_score_matrix
from theodolite.study.training_sets import UNMEASURED, Measured, of_dataset

Array = np.ndarray
Thresholds = Mapping[tuple[str, str, str, str], Mapping[float, float]]
ERROR_PARTS = ("sd_rows", "sd_seeds", "sd_refits", "spread")  # of an AUROC's error, each printed as a row of its own
FEWEST_FALSE_ALARMS = 10  # a rate of x % of fewer than ten rows is a rate of nothing


@dataclass(frozen=True)
class Contrasted:
    """The verdict on one contrast on one data set; `primary` ones share a Holm correction.

    p_fdr: of the others, adjusted for the false-discovery rate over all of them (Benjamini & Yekutieli); None of
    primary ones. metric: "auroc", pooled over templates, or "auroc_within_template", which is always exploratory.
    """

    dataset: str
    metric: str
    split: str
    method: str
    versus: str
    site: str
    primary: bool
    verdict: Verdict
    p_fdr: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """Rows for `Run.add_rows`, the verdicts, and the contrasts that no data set has both methods for."""

    rows: list[Row]
    contrasts: list[Contrasted]
    missing: list[tuple[str, str]]


@dataclass(frozen=True)
class Asked:
    """Contrasts to decide, and the margin within which a difference is equivalent.

    `contrasts` on the data set `primary` are one Holm family; on others, and all that are `exploratory`, they stand
    alone.

    >>> Asked([Contrast(method="logistic", than="word_ngrams")], primary="wrapped").margin
    0.02
    """

    contrasts: Sequence[Contrast] = ()
    exploratory: Sequence[Contrast] = ()
    primary: str | None = None
    margin: float = MARGIN


NOTHING = Asked()


def evaluate(
    scores: pd.DataFrame,
    asked: Asked = NOTHING,
    *,
    thresholds: Thresholds | None = None,
    task: str = "matched",
    training: Measured = UNMEASURED,
    n_boot: int = N_BOOT,
    seed: int = 0,
) -> Evaluation:
    """Metrics with intervals per data set, method and site, and the contrasts with verdicts.

    scores: columns of `core.run.SCORE_COLUMNS`. thresholds: (dataset, method, site, seed) -> {false positive rate:
    score threshold fixed on training folds}; without them no TPR is given. training: what the seeds' training sets
    have in common, by the source left out.
    """
    rows: list[Row] = []
    found: list[Contrasted] = []
    for name, frame in scores.groupby("dataset", sort=False):
        matrix = read_score_matrix(str(name), frame, training=of_dataset(training, str(name)), n_boot=n_boot, seed=seed)
        for key in matrix.scores:
            rows += [row(matrix, key, task, *figure) for figure in _figures(matrix, key, thresholds or {})]
        decide = partial(_contrasted, matrix, margin=asked.margin)
        found += decide("auroc", auroc, asked.contrasts, is_primary=matrix.name == asked.primary)
        found += decide("auroc", auroc, asked.exploratory)
        if matrix.templates is not None:
            within = partial(auroc, within=matrix.templates)
            found += decide("auroc_within_template", within, [*asked.contrasts, *asked.exploratory])
    found = _with_false_discoveries(found)
    rows += [row for contrast in found for row in _contrast_rows(contrast)]
    done = {(c.method, c.versus) for c in found}
    missing = [(c.method, c.than) for c in asked.contrasts if (c.method, c.than) not in done]
    return Evaluation(rows, found, missing)


def _figures(matrix: ScoreMatrix, key: Key, thresholds: Thresholds) -> Iterator[tuple[str, str, Interval]]:
    """(seed, metric, figure) of one method: "all" with its interval, single seeds as points."""
    sample, scores, probabilities = matrix.sample, matrix.scores[key], matrix.probabilities[key]
    if matrix.has_both_classes:
        estimate = sample.estimate(auroc, scores)
        figure = _unless_constant(matrix, key, estimate.interval())
        yield "all", "auroc", figure
        yield from ((s, "auroc", _point(v, figure)) for s, v in zip(matrix.seeds, estimate.seeds, strict=True))
        yield from (("all", f"auroc_{part}", _point(getattr(figure, part), figure)) for part in ERROR_PARTS)
        if sample.shared:
            yield "all", "auroc_averaged", _point(_auroc_of_averaged(sample.y, scores), figure)
        if matrix.templates is not None:  # beside the pooled figure: a deployed threshold does not know the template
            within = sample.estimate(partial(auroc, within=matrix.templates), scores).interval()
            yield "all", "auroc_within_template", _unless_constant(matrix, key, within)
        precision = sample.estimate(average_precision, scores).interval()
        yield "all", "average_precision", _unless_constant(matrix, key, precision)
    else:  # no ranking, but at the probability .5: false alarms where all rows are negative, detection elsewhere
        called = np.where(np.isnan(probabilities), np.nan, probabilities > 0.5)
        yield "all", f"{'tpr' if sample.y[0] == 1 else 'fpr'}@p>0.5", sample.estimate(mean, called).interval()
    yield "all", "brier", sample.estimate(brier, probabilities).interval()
    yield "all", "ece", calibration_error(sample, probabilities)
    yield from (("all", metric, figure) for metric, figure in _rates(matrix, key, thresholds))


def _unless_constant(matrix: ScoreMatrix, key: Key, figure: Interval) -> Interval:
    """The figure without its interval where every seed gives all rows one score: .5 whatever rows there were."""
    if not matrix.is_constant(key):
        return figure
    return replace(figure, lo=math.nan, hi=math.nan, reason="every row has the same score")


def _auroc_of_averaged(y: Array, scores: Array) -> float:
    """AUROC of the seeds' mean: their percentiles on these rows are averaged, since seeds share no scale.

    It describes the ensemble of all seeds, not the procedure: five averaged one-latent probes are a five-latent one.
    """
    percentiles = [rankdata(s, nan_policy="omit") / max(np.sum(~np.isnan(s)), 1) for s in scores]
    return float(auroc(y, np.mean(percentiles, axis=0)))


def _rates(matrix: ScoreMatrix, key: Key, thresholds: Thresholds) -> Iterator[tuple[str, Interval]]:
    """TPR and realised FPR at each threshold that every seed has, where x % of the negatives is at least ten rows.

    Without any negative there is no realised FPR that could rest on too few, and the TPR stands alone.
    """
    fixed = [thresholds.get((matrix.name, *key, seed), {}) for seed in matrix.seeds]
    sample = matrix.sample
    fewest = int((sample.asked & (sample.y == 0)).sum(1).min())
    for rate in sorted(set.intersection(*(set(levels) for levels in fixed))):
        if fewest > 0 and rate * fewest < FEWEST_FALSE_ALARMS - 1e-9:
            continue
        excess = matrix.scores[key] - np.array([levels[rate] for levels in fixed])[:, None]
        for name, label in (("tpr", 1), ("fpr", 0)):
            rows = np.flatnonzero(sample.y == label)
            if len(rows):
                above = partial(_above_zero, label)
                yield f"{name}@{rate:g}", sample.take(rows).estimate(above, excess[:, rows]).interval()


def _above_zero(label: int, y: Array, s: Array, w: Array | None = None) -> Any:
    return rate_above(y, s, 0.0, label, w)


def _contrasted(
    matrix: ScoreMatrix,
    name: str,
    metric: Metric,
    contrasts: Sequence[Contrast],
    *,
    margin: float,
    is_primary: bool = False,
) -> list[Contrasted]:
    """Verdicts on one data set."""
    ends: list[tuple[str, str, str]] = []
    differences: list[Interval] = []
    inverted: list[tuple[str, ...]] = []
    for contrast in contrasts if matrix.has_both_classes else ():
        for site, one, other in _pairs(matrix, contrast):
            ends.append((contrast.method, contrast.than, site))
            estimate = matrix.sample.paired(metric, matrix.scores[one], matrix.scores[other])
            found = estimate.interval(bounded=False)
            if silent := [key[0] for key in (one, other) if matrix.is_constant(key)]:
                found = replace(
                    found,
                    lo=math.nan,
                    hi=math.nan,
                    sd_rows=math.nan,
                    reason=f"{' and '.join(silent)} gives every row one score, and ranks none",
                )
            differences.append(found)
            inverted.append(tuple(key[0] for key in (one, other) if _inverted(matrix, metric, key, margin)))
    if is_primary:
        words = verdicts(differences, margin, inverted)
    else:
        words = [verdicts([d], margin, [i])[0] for d, i in zip(differences, inverted, strict=True)]
    return [
        Contrasted(matrix.name, name, matrix.split, *end, is_primary, word)
        for end, word in zip(ends, words, strict=True)
    ]


def _inverted(matrix: ScoreMatrix, metric: Metric, key: Key, margin: float) -> bool:
    """Return whether a method's AUROC is significantly below .5 less the margin; bootstrapped only if the point is."""
    points = [metric(matrix.sample.y, scores) for scores in np.where(matrix.sample.asked, matrix.scores[key], np.nan)]
    if not np.mean(points) < CHANCE:
        return False
    return is_inverted(matrix.sample.estimate(metric, matrix.scores[key]).interval(), margin)


def _with_false_discoveries(found: Sequence[Contrasted]) -> list[Contrasted]:
    """The contrasts, those that are not primary with p-values adjusted over all of these."""
    adjusted = iter(benjamini_yekutieli([c.verdict.p for c in found if not c.primary]))
    return [c if c.primary else replace(c, p_fdr=next(adjusted)) for c in found]


def _pairs(matrix: ScoreMatrix, contrast: Contrast) -> Iterator[tuple[str, Key, Key]]:
    """The two methods at every site both were read at; one that has no site meets the other at each of its own."""
    ones, others = ({site for m, site in matrix.scores if m == name} for name in (contrast.method, contrast.than))
    for site in sorted(ones | others):
        one, other = (site if site in found else "" for found in (ones, others))
        if one in ones and other in others:
            yield site, (contrast.method, one), (contrast.than, other)


def _contrast_rows(contrast: Contrasted) -> list[Row]:
    """The difference with its interval and, pooled, the parts of its error and the p-values.

    p: two-sided, uncorrected. p_holm: of primary contrasts, corrected over them. p_fdr: of all others, over all of
    those. p_equivalent: after Holm where the contrast is primary.
    """
    verdict, d = contrast.verdict, contrast.verdict.difference
    place = {"task": "contrast", "method": contrast.method, "versus": contrast.versus, "site": contrast.site}
    place |= {"seed": "all", "split": contrast.split, "dataset": contrast.dataset}
    beside: dict[str, float] = {}
    if contrast.metric == "auroc":
        beside = {f"auroc_{part}": getattr(d, part) for part in ERROR_PARTS}
        beside |= {"p": verdict.p, "p_equivalent": verdict.p_equivalent}
        beside |= {"p_holm": verdict.p_different} if contrast.p_fdr is None else {"p_fdr": contrast.p_fdr}
    figures = [(contrast.metric, d), *((name, _point(value, d)) for name, value in beside.items())]
    return [place | {"metric": name} | numbers(figure) for name, figure in figures]


def row(matrix: ScoreMatrix, key: Key, task: str, seed: str, metric: str, figure: Interval) -> Row:
    """One number of one method on one data set, for `Run.add_rows`."""
    place = {
        "task": task,
        "method": key[0],
        "site": key[1],
        "seed": seed,
        "split": matrix.split,
        "dataset": matrix.name,
    }
    return place | {"metric": metric, "versus": ""} | numbers(figure)


def _point(value: float, beside: Interval) -> Interval:
    """A bare number on the rows of another figure."""
    return replace(beside, value=float(value), lo=math.nan, hi=math.nan)
