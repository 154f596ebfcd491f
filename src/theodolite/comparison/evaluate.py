"""From scores of texts to figures: every metric of every method on every data set, and contrasts between methods."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from theodolite.comparison.panel import Key, Panel, read_panel
from theodolite.core.metrics import auroc, average_precision, brier, ece, mean, rate_above
from theodolite.core.recipe import Contrast
from theodolite.core.stats import Interval, Metric
from theodolite.core.verdict import Verdict, verdicts
from theodolite.data.splits import SHARES

Array = np.ndarray
Row = dict[str, Any]
Thresholds = Mapping[tuple[str, str, str, str], Mapping[float, float]]
ERROR_PARTS = ("sd_rows", "sd_seeds", "sd_refits", "spread")  # of an AUROC's error, each printed as a row of its own
N_BOOT = 2000
OVERLAP = SHARES[0]  # of one seed's training rows with another's: each takes that part of one pool
FEWEST_FALSE_ALARMS = 10  # a rate of x % of fewer than ten rows is a rate of nothing


@dataclass(frozen=True)
class Contrasted:
    """The verdict on one contrast on one data set; `primary` ones share a Holm correction.

    metric: "auroc", pooled over templates, or "auroc_within_template", which is always exploratory.
    """

    dataset: str
    metric: str
    split: str
    method: str
    versus: str
    site: str
    primary: bool
    verdict: Verdict


@dataclass(frozen=True)
class Evaluation:
    """Rows for `Run.add_rows`, the verdicts, and the contrasts that no data set has both methods for."""

    rows: list[Row]
    contrasts: list[Contrasted]
    missing: list[tuple[str, str]]


def evaluate(
    scores: pd.DataFrame,
    *,
    contrasts: Sequence[Contrast] = (),
    exploratory: Sequence[Contrast] = (),
    primary: str | None = None,
    thresholds: Thresholds | None = None,
    task: str = "matched",
    overlap: float = OVERLAP,
    n_boot: int = N_BOOT,
    seed: int = 0,
) -> Evaluation:
    """Metrics with intervals per data set, method and site, and the contrasts with verdicts.

    scores: columns of `core.run.SCORE_COLUMNS`. `contrasts` on the data set `primary` are one Holm family; on others,
    and all that are `exploratory`, they stand alone. thresholds: (dataset, method, site, seed) -> {false positive
    rate: score threshold fixed on training folds}; without them no TPR is given. overlap: share of its training rows
    that a seed has in common with another.
    """
    rows: list[Row] = []
    found: list[Contrasted] = []
    for name, frame in scores.groupby("dataset", sort=False):
        panel = read_panel(str(name), frame, overlap=overlap, n_boot=n_boot, seed=seed)
        for key in panel.scores:
            rows += [row(panel, key, task, *figure) for figure in _figures(panel, key, thresholds or {})]
        found += _contrasted(panel, "auroc", auroc, contrasts, is_primary=panel.name == primary)
        found += _contrasted(panel, "auroc", auroc, exploratory)
        if panel.templates is not None:
            within = partial(_within, panel.templates)
            found += _contrasted(panel, "auroc_within_template", within, [*contrasts, *exploratory])
    rows += [row for contrast in found for row in _contrast_rows(contrast)]
    done = {(c.method, c.versus) for c in found}
    missing = [(c.method, c.than) for c in contrasts if (c.method, c.than) not in done]
    return Evaluation(rows, found, missing)


def _figures(panel: Panel, key: Key, thresholds: Thresholds) -> Iterator[tuple[str, str, Interval]]:
    """(seed, metric, figure) of one method: "all" with its interval, single seeds as points."""
    sample, scores, probabilities = panel.sample, panel.scores[key], panel.probabilities[key]
    if panel.has_both_classes:
        estimate = sample.estimate(auroc, scores)
        figure = estimate.interval()
        yield "all", "auroc", figure
        yield from ((s, "auroc", _point(v, figure)) for s, v in zip(panel.seeds, estimate.seeds, strict=True))
        yield from (("all", f"auroc_{part}", _point(getattr(figure, part), figure)) for part in ERROR_PARTS)
        if panel.same_rows_for_all_seeds:
            yield "all", "auroc_averaged", _point(_auroc_of_averaged(sample.y, scores), figure)
        if panel.templates is not None:  # beside the pooled figure: a deployed threshold does not know the template
            within = partial(_within, panel.templates)
            yield "all", "auroc_within_template", sample.estimate(within, scores).interval()
        yield "all", "average_precision", sample.estimate(average_precision, scores).interval()
    else:  # no ranking, but at the probability .5: false alarms where all rows are negative, detection elsewhere
        called = np.where(np.isnan(probabilities), np.nan, probabilities > 0.5)
        yield "all", f"{'tpr' if sample.y[0] == 1 else 'fpr'}@p>0.5", sample.estimate(mean, called).interval()
    yield "all", "brier", sample.estimate(brier, probabilities).interval()
    yield "all", "ece", sample.estimate(ece, probabilities).interval()
    yield from (("all", metric, figure) for metric, figure in _rates(panel, key, thresholds))


def _within(templates: Array, y: Array, s: Array, w: Array | None = None) -> Any:
    return auroc(y, s, w, within=templates)


def _auroc_of_averaged(y: Array, scores: Array) -> float:
    """AUROC of the seeds' mean: their percentiles on these rows are averaged, since seeds share no scale.

    It describes the ensemble of all seeds, not the procedure: five averaged one-latent probes are a five-latent one.
    """
    percentiles = [rankdata(s, nan_policy="omit") / max(np.sum(~np.isnan(s)), 1) for s in scores]
    return float(auroc(y, np.mean(percentiles, axis=0)))


def _rates(panel: Panel, key: Key, thresholds: Thresholds) -> Iterator[tuple[str, Interval]]:
    """TPR and realised FPR at each threshold that every seed has, where x % of the negatives is at least ten rows.

    Without any negative there is no realised FPR that could rest on too few, and the TPR stands alone.
    """
    fixed = [thresholds.get((panel.name, *key, seed), {}) for seed in panel.seeds]
    sample = panel.sample
    fewest = int((sample.asked & (sample.y == 0)).sum(1).min())
    for rate in sorted(set.intersection(*(set(levels) for levels in fixed))):
        if fewest > 0 and rate * fewest < FEWEST_FALSE_ALARMS - 1e-9:
            continue
        excess = panel.scores[key] - np.array([levels[rate] for levels in fixed])[:, None]
        for name, label in (("tpr", 1), ("fpr", 0)):
            rows = np.flatnonzero(sample.y == label)
            if len(rows):
                above = partial(_above_zero, label)
                yield f"{name}@{rate:g}", sample.take(rows).estimate(above, excess[:, rows]).interval()


def _above_zero(label: int, y: Array, s: Array, w: Array | None = None) -> Any:
    return rate_above(y, s, 0.0, label, w)


def _contrasted(
    panel: Panel, name: str, metric: Metric, contrasts: Sequence[Contrast], is_primary: bool = False
) -> list[Contrasted]:
    """Verdicts on one data set."""
    ends: list[tuple[str, str, str]] = []
    differences: list[Interval] = []
    for contrast in contrasts if panel.has_both_classes else ():
        for site, one, other in _pairs(panel, contrast):
            ends.append((contrast.method, contrast.than, site))
            estimate = panel.sample.paired(metric, panel.scores[one], panel.scores[other])
            differences.append(estimate.interval(bounded=False))
    words = verdicts(differences) if is_primary else [verdicts([d])[0] for d in differences]
    return [
        Contrasted(panel.name, name, panel.split, *end, is_primary, word) for end, word in zip(ends, words, strict=True)
    ]


def _pairs(panel: Panel, contrast: Contrast) -> Iterator[tuple[str, Key, Key]]:
    """The two methods at every site both were read at; one that has no site meets the other at each of its own."""
    ones, others = ({site for m, site in panel.scores if m == name} for name in (contrast.method, contrast.than))
    for site in sorted(ones | others):
        one, other = (site if site in found else "" for found in (ones, others))
        if one in ones and other in others:
            yield site, (contrast.method, one), (contrast.than, other)


def _contrast_rows(contrast: Contrasted) -> list[Row]:
    """The difference with its interval and, pooled, the parts of its error and the p-values after Holm."""
    verdict, d = contrast.verdict, contrast.verdict.difference
    place = {"task": "contrast", "method": contrast.method, "versus": contrast.versus, "site": contrast.site}
    place |= {"seed": "all", "split": contrast.split, "dataset": contrast.dataset}
    beside: dict[str, float] = {}
    if contrast.metric == "auroc":
        beside = {f"auroc_{part}": getattr(d, part) for part in ERROR_PARTS}
        beside |= {"p_different": verdict.p_different, "p_equivalent": verdict.p_equivalent}
    figures = [(contrast.metric, d), *((name, _point(value, d)) for name, value in beside.items())]
    return [place | {"metric": name} | _numbers(figure) for name, figure in figures]


def row(panel: Panel, key: Key, task: str, seed: str, metric: str, figure: Interval) -> Row:
    """One number of one method on one data set, for `Run.add_rows`."""
    place = {"task": task, "method": key[0], "site": key[1], "seed": seed, "split": panel.split, "dataset": panel.name}
    return place | {"metric": metric, "versus": ""} | _numbers(figure)


def _numbers(figure: Interval) -> Row:
    return {name: getattr(figure, name) for name in ("value", "lo", "hi", "n", "n_groups", "n_unscored")}


def _point(value: float, beside: Interval) -> Interval:
    """A bare number on the rows of another figure."""
    return replace(beside, value=float(value), lo=math.nan, hi=math.nan)
