"""Rows and facts of a debate: does the best reader control best, and do the contrasts of control hold over concepts?"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from theodolite.control.association import Association, association
from theodolite.control.hierarchy import OverConcepts, over_concepts
from theodolite.control.shared_openings import clusters, error_covariance, influence
from theodolite.control.statistics import columns, contrast, decide, mean_effect
from theodolite.core.plain import plain
from theodolite.core.recipe import Contrast
from theodolite.core.stats import Interval, share_bounds
from theodolite.core.verdict import LEVEL, holm
from theodolite.debate.joined import METRICS, WRITTEN, Read, Steered, read_axis, steered_axis
from theodolite.debate.ranks import Axis, Correlation, correlate, may_be_best

Row = dict[str, Any]
ALL = "all"  # data set of the figures over all concepts
CORRELATION = "rank_correlation"
Array = np.ndarray
_Z = 1.96  # half the width of a 95 % interval in standard errors


@dataclass(frozen=True)
class Side:
    """One concept: how it is steered, and how it is read where there is a reading recipe."""

    steered: Steered
    read: Read | None = None


@dataclass(frozen=True)
class Mean:
    """One concept's part in a mean over concepts: a value, the two parts of its standard error, and effects (S, n).

    effect: whose mean over openings the value is, and by which concepts err together; None of another kind of value.
    """

    concept: str
    value: float
    sd_rows: float
    sd_seeds: float = 0.0
    effect: Array | None = None


@dataclass(frozen=True)
class Joint:
    """Methods of one concept that are both read and steered by one metric, with both quantities."""

    concept: str
    metric: str
    methods: list[str]
    x: Axis
    y: Axis
    text_groups: int
    opening_groups: int

    @property
    def n_groups(self) -> int:
        """Return the groups of the quantity that has fewer."""
        return min(self.text_groups, self.opening_groups)

    @cached_property
    def correlation(self) -> Correlation:
        """Return their rank correlation."""
        return correlate(self.x, self.y)

    @cached_property
    def association(self) -> Association:
        """Return its p of no relation, and the interval over methods."""
        return association(self.x.value, self.y.value)


@dataclass
class Debate:
    """All concepts of a debate, with the readers by method and the contrasts fixed beforehand."""

    sides: Sequence[Side]
    readers: Mapping[str, str]
    contrasts: Sequence[Contrast] = ()
    margin: float = 0.2
    joints: list[Joint] = field(init=False)

    def __post_init__(self) -> None:
        pairs = [(side, metric) for side in self.sides if side.read for metric in METRICS]
        self.joints = [joint for side, metric in pairs if (joint := joined(side, metric))]

    @cached_property
    def clusters(self) -> dict[str, Array]:
        """Return the cluster of each opening, (n,), by concept: openings of equal text are of one."""
        openings = [(side.steered.openings, side.steered.groups) for side in self.sides]
        return {s.steered.concept: found for s, found in zip(self.sides, clusters(openings), strict=True)}


def joined(side: Side, metric: str) -> Joint | None:
    """Return the methods that a concept has both quantities of, in the order of the steering Run; None without any."""
    steered, read = side.steered, side.read
    assert read is not None
    methods = [m for m in steered.methods if m in read.estimates and (m, metric) in steered.effects]
    if not methods:
        return None
    x, y = read_axis(read, methods, steered.concept), steered_axis(steered, methods, metric)
    groups = min(one.n_groups for method in methods for one in read.estimates[method])
    openings = min(steered.estimates[method, metric].n_groups for method in methods)
    return Joint(steered.concept, metric, methods, x, y, groups, openings)


def conclude(debate: Debate) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows of a Run and the facts of its page (`artefacts/debate.json`)."""
    contrasts = _contrasts(debate)
    overall = {metric: _overall(debate, metric) for metric in METRICS}
    rows = [*_point_rows(debate), *_correlation_rows(debate, overall), *_contrast_rows(contrasts)]
    facts = {
        "concepts": [_about(debate, side) for side in debate.sides],
        "overall": overall,
        "contrasts": contrasts,
        "margin": debate.margin,
        "readers": dict(debate.readers),
    }
    return rows, facts


def _about(debate: Debate, side: Side) -> dict[str, Any]:
    """Facts of one concept: its shifts and openings, which methods lack a counterpart, and the answer by metric."""
    steered, read = side.steered, side.read
    answers = {joint.metric: _answer(joint) for joint in debate.joints if joint.concept == steered.concept}
    return {
        "concept": steered.concept,
        "nats": steered.nats,
        "usable": list(steered.usable),
        "shifts": list(read.shifts) if read else [],
        "read_site": read.site if read else None,
        "steered_site": steered.site,
        "absent": _absent(debate, side) if read else [],
        "answers": answers,
    }


def _answer(joint: Joint) -> dict[str, Any]:
    """Best reader, best controller, which others may be, and the word: is, is not, or open."""
    reader, controller = (joint.methods[int(np.argmax(axis.value))] for axis in (joint.x, joint.y))
    may = [[m for m, yes in zip(joint.methods, may_be_best(a), strict=True) if yes] for a in (joint.x, joint.y)]
    both = set(may[0]) & set(may[1])
    # "is": nobody else may be best in either; "is not": nobody may be best in both. One method alone beats nobody
    shown = len(may[0]) == len(may[1]) == 1 and len(joint.methods) > 1
    word = "is not" if not both else "is" if shown else "open"
    same = float(np.mean(joint.x.draws.argmax(1) == joint.y.draws.argmax(1)))
    return {
        "best_reader": reader,
        "best_controller": controller,
        "may_read_best": may[0],
        "may_control_best": may[1],
        "word": word,
        "same_in_draws": same,
        "methods": joint.methods,
        "correlation": plain(joint.correlation),
        "association": plain(joint.association),
    }


def _absent(debate: Debate, side: Side) -> list[dict[str, str]]:
    """Methods that are not in the figure, each with a code: `no reader`, `not read`, `not steered`, `not matched`."""
    assert side.read is not None
    steered, found = side.steered, []
    for method in dict.fromkeys([*steered.methods, *side.read.estimates, *debate.readers]):
        if method not in debate.readers:
            found.append({"method": method, "why": "no reader"})
        elif method not in side.read.estimates:
            found.append({"method": method, "why": "not read"})
        elif method not in steered.methods:
            found.append({"method": method, "why": "not steered"})
        elif method in steered.missing:
            found.append({"method": method, "why": "not matched"})
    return found


def _point_rows(debate: Debate) -> Iterator[Row]:
    """The two quantities of each method and concept with their intervals, and both over all concepts."""
    found: dict[tuple[str, str, str], Row] = {}  # an AUROC is in the joints of both metrics, and one row
    means: dict[tuple[str, str], list[Mean]] = {}
    for joint in debate.joints:
        side = next(s for s in debate.sides if s.steered.concept == joint.concept)
        for metric in ("auroc", joint.metric):
            for number, method in enumerate(joint.methods):
                if (key := (joint.concept, metric, method)) not in found:
                    row = found[key] = _point_row(debate, side, joint, metric, number)
                    means.setdefault((metric, method), []).append(_mean_of_point(side, row))
    yield from found.values()
    if len({joint.concept for joint in debate.joints}) > 1:
        for (metric, method), each in means.items():
            yield _place(ALL, method, metric) | _over(debate, each, share=metric == "auroc")


def _point_row(debate: Debate, side: Side, joint: Joint, metric: str, number: int) -> Row:
    method, is_auroc = joint.methods[number], metric == "auroc"
    place: Row = _place(joint.concept, method, metric)
    if is_auroc:
        assert side.read is not None
        place |= {"n": sum(one.n for one in side.read.estimates[method]), "n_groups": joint.text_groups}
        about: Row = {"site": side.read.site_of(method), "split": "shift", "params": {"reader": debate.readers[method]}}
        return place | about | point(joint.x, number, joint.text_groups)
    # the interval that the steering Run prints
    steered = side.steered
    found = mean_effect(steered.effects[method, metric], steered.groups, training=steered.training)
    return place | {"site": steered.site, "split": "both", "nats": steered.nats} | columns(found)


def point(axis: Axis, number: int, n_groups: int) -> dict[str, float]:
    """Return one method's share, such as an AUROC, with the 95 % interval of its draws in [0, 1].

    >>> draws = np.random.default_rng(0).normal(0.5, 0.1, (4000, 1))
    >>> found = point(Axis(np.full(1, 0.5), draws), 0, 100)
    >>> round(found["lo"], 1), round(found["hi"], 1)
    (0.3, 0.7)
    """
    value, draws = float(axis.value[number]), axis.draws[:, number]
    if not np.isfinite(draws).all() or n_groups < 2:
        return {"value": value, "lo": math.nan, "hi": math.nan}
    low, high = np.quantile(draws, [LEVEL / 2, 1 - LEVEL / 2])
    # symmetric, as it is a mean; the ends keep the room that unseen failures leave it
    lo, hi = share_bounds(value, float(high - low) / 2, n_groups)
    return {"value": value, "lo": float(lo), "hi": float(hi)}


def _mean_of_point(side: Side, row: Row) -> Mean:
    """One concept's value of a method with its error, and for an effect that of every opening.

    An AUROC near its end has no error among its draws, and would get all the weight: its interval has one.
    """
    effect = side.steered.effects.get((row["method"], row["metric"]))
    if effect is None:
        return Mean(side.steered.concept, row["value"], _error(row["value"], row["lo"], row["hi"]))
    found = mean_effect(effect, side.steered.groups, training=side.steered.training)
    return Mean(side.steered.concept, found.value, found.sd_rows, found.sd_seeds, effect)


def _over(debate: Debate, found: Sequence[Mean], *, share: bool) -> Row:
    """Random-effects mean over concepts as a row; one without an error is left out. A share stays in [0, 1]."""
    mean = mean_over(debate, found)
    lo, hi = (float(np.clip(end, 0, 1)) if share else end for end in (mean.lo, mean.hi))
    return {"value": mean.value, "lo": lo, "hi": hi, "n": mean.n, "n_groups": mean.n, "n_unscored": mean.n_left_out}


def mean_over(debate: Debate, found: Sequence[Mean]) -> OverConcepts:
    """Random-effects mean over concepts, whose errors are correlated by the openings that they share.

    One without an error is left out, and counted: NaN, or 0, which one fit has where the value is the same on all
    openings, such as a contrast of two methods neither of which changes what is written. Openings alike on a few texts
    do not say that all others are.
    """
    sd_k = np.array([math.hypot(one.sd_rows, one.sd_seeds) for one in found])
    rows_k = np.array([one.sd_rows for one in found])
    whole_k = np.isfinite(sd_k) & (sd_k > 0)
    cluster_k = [debate.clusters[one.concept] for one in found]
    own = [one.effect if one.effect is not None else np.zeros(len(c)) for one, c in zip(found, cluster_k, strict=True)]
    seeds_k = np.array([one.sd_seeds for one in found])
    error_kk = error_covariance(
        [influence(one) for one in own], cluster_k, np.where(whole_k, rows_k, 0), np.where(whole_k, seeds_k, np.nan)
    )
    return over_concepts(np.array([one.value for one in found]), error_kk)


def _overall(debate: Debate, metric: str) -> dict[str, Any] | None:
    """Mean over concepts of the rank correlations, within [-1, 1]; None where fewer than two concepts have one.

    Its p counts orders of the methods that all concepts have, one order for all concepts at once: a method that reads
    and steers badly everywhere is one piece of evidence.
    """
    joints = [joint for joint in debate.joints if joint.metric == metric and math.isfinite(joint.correlation.lo)]
    if len(joints) < 2:
        return None
    known = [joint.correlation for joint in joints]
    errors = [max(_error(one.value, one.lo, one.hi), _step(one.n) / 2) for one in known]
    # Openings move the effects of all methods alike, and so their order hardly: over the common openings of sentiment
    # and joy (the default model, written text) the draws of the two correlations correlate by -.05
    mean = over_concepts(np.array([one.value for one in known]), np.diag(np.square(errors)))
    common = [m for m in joints[0].methods if all(m in joint.methods for joint in joints)]
    reads, steers = (
        np.array([[getattr(j, name).value[j.methods.index(m)] for m in common] for j in joints]) for name in ("x", "y")
    )
    bounds = {"lo": max(mean.lo, -1.0), "hi": min(mean.hi, 1.0)}
    return plain(mean) | bounds | {"association": plain(association(reads, steers))}


def _error(value: float, lo: float, hi: float) -> float:
    """Standard error behind a 95 % interval: of its two sides the longer, since that of a value at its end is short."""
    return max(hi - value, value - lo) / _Z


def _step(n: int) -> float:
    """Smallest change of a rank correlation of n methods: two neighbours change places. No error is known better."""
    return 12 / (n * (n**2 - 1))


def _correlation_rows(debate: Debate, overall: Mapping[str, dict[str, Any] | None]) -> Iterator[Row]:
    """The primary correlation has the plain name, that of another metric has it behind a colon."""
    for metric in METRICS:
        name = CORRELATION if metric == WRITTEN else f"{CORRELATION}:{metric}"
        for side in debate.sides:
            if side.read is None:
                continue
            place = _place(side.steered.concept, "", name) | {"nats": side.steered.nats, "split": "both"}
            joint = next((j for j in debate.joints if (j.concept, j.metric) == (side.steered.concept, metric)), None)
            if joint is None:  # NaN is a figure too: it was asked for
                yield place | {"value": math.nan}
                continue
            one = joint.correlation
            yield place | {"value": one.value, "lo": one.lo, "hi": one.hi, "n": one.n, "n_groups": joint.n_groups}
            yield from _over_methods(place, name, plain(joint.association))
        if (found := overall[metric]) is not None:
            place = _place(ALL, "", name)
            yield place | {n: found[n] for n in ("value", "lo", "hi", "n")}
            yield from _over_methods(place, name, found["association"])


def _over_methods(place: Row, name: str, found: Mapping[str, Any]) -> Iterator[Row]:
    """The interval over methods, and the p of no relation, behind the name of a correlation."""
    known = {n: math.nan if found[n] is None else found[n] for n in ("value", "lo", "hi")}
    yield place | {"metric": f"{name}:methods", "n": found["n_methods"]} | known
    p = math.nan if found["p"] is None else found["p"]
    yield place | {"metric": f"{name}:p", "n": found["n_methods"], "value": p}


def _contrasts(debate: Debate) -> list[Row]:
    """Verdicts on the contrasts of control, on each concept that is also read and over all concepts, by metric.

    Two families: contrasts by concepts on those that are read too, and contrasts over all concepts.
    """
    lines: list[Row] = []
    for metric in METRICS:
        found: dict[tuple[str, str, str], Interval] = {}
        for side in debate.sides:
            for one in debate.contrasts:
                sides = [side.steered.effects.get((m, metric)) for m in (one.method, one.than)]
                if sides[0] is not None and sides[1] is not None:
                    key = (side.steered.concept, one.method, one.than)
                    found[key] = contrast(sides[0], sides[1], side.steered.groups, training=side.steered.training)
        read = {side.steered.concept for side in debate.sides if side.read}
        family = {key: value for key, value in found.items() if key[0] in read}
        for (concept, method, than), verdict in zip(family, decide(list(family.values()), debate.margin), strict=True):
            place = {"concept": concept, "method": method, "than": than, "metric": metric}
            lines.append(place | columns(verdict.difference) | {"p_holm": verdict.p_different, "word": verdict.word})
        lines += _over_contrasts(debate, metric, found)
    return lines


def _over_contrasts(debate: Debate, metric: str, found: Mapping[tuple[str, str, str], Interval]) -> list[Row]:
    """Mean over concepts of each contrast with its p after Holm over the contrasts; none of fewer than two concepts.

    Concepts of which the contrast has no error (`mean_over`), or that lack a method, are left out and counted.
    """
    lines = []
    for one in debate.contrasts:
        means = []
        for side in debate.sides:
            steered = side.steered
            if (d := found.get((steered.concept, one.method, one.than))) is not None:
                apart = steered.effects[one.method, metric] - steered.effects[one.than, metric]
                means.append(Mean(steered.concept, d.value, d.sd_rows, d.sd_seeds, apart))
        mean = mean_over(debate, means) if means else None
        if mean is not None and mean.n > 1:
            place = {"concept": ALL, "method": one.method, "than": one.than, "metric": metric}
            left_out = len(debate.sides) - mean.n
            lines.append(place | plain(mean) | {"n_groups": mean.n, "n_left_out": left_out, "n_unscored": left_out})
    for line, p in zip(lines, holm([line["p"] for line in lines]), strict=True):
        line["p_holm"] = p
        line["word"] = "undecided" if p >= LEVEL else "better" if line["value"] > 0 else "worse"
    return lines


def _contrast_rows(contrasts: Sequence[Row]) -> Iterator[Row]:
    for one in contrasts:
        place = _place(one["concept"], one["method"], one["metric"]) | {"task": "debate-contrast", "split": "both"}
        place |= {"versus": one["than"]}
        yield place | {name: one[name] for name in ("value", "lo", "hi", "n", "n_groups", "n_unscored")}
        yield place | {"metric": f"{one['metric']}:p_holm", "value": one["p_holm"], "n": one["n"]}


def _place(dataset: str, method: str, metric: str) -> Row:
    return {"task": "debate", "dataset": dataset, "method": method, "metric": metric, "seed": "all"}
