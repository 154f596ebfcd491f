"""Facts behind the plain answers of a report, by data set: artefacts/answers.json.

Three questions are put to every data set with both labels: which method is ahead, whether a reader of the model is
ahead of the text alone, and whether a reader of the dictionary is ahead of the dense state and of a dictionary whose
encoder was never trained. The report turns the numbers into words.

The leader is chosen on the rows on which its lead is measured, so its interval is corrected for that choice.
A method is wrongly called the best only if it is found above the method that is the best, and this can happen to K - 1
methods: intervals of the leads with Bonferroni's correction over K - 1 are those of a multiple comparison with the best
(Hsu 1981). A method that they do not exclude may be the best.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from theodolite.comparison.baselines import MODEL_VIEWS, TEXT_VIEWS
from theodolite.core import methods
from theodolite.core.methods import Method
from theodolite.core.metrics import auroc
from theodolite.core.recipe import Recipe
from theodolite.core.run import IN_DISTRIBUTION, source_left_out
from theodolite.core.stats import FEWEST_GROUPS, FEWEST_SEEDS, Estimate, Interval
from theodolite.core.verdict import LEVEL, is_inverted, unseen_failures
from theodolite.study.score_matrix import N_BOOT, Key, ScoreMatrix, read_score_matrix
from theodolite.study.training_sets import UNMEASURED, Measured, of_dataset

READ_WELL = 0.7  # an AUROC below it puts three pairs in ten into the wrong order: nobody would build on that
# Reconstruction and error take the dictionary apart, and the frozen-encoder control is there to be beaten.
DIAGNOSTIC_VIEWS = {"reconstruction", "error", "control"}
DICTIONARY_VIEWS = {"latents", "state+latents"}
DENSE, CONTROL = "dense", "control"  # what a reader of the dictionary is held against

Row = dict[str, Any]


@dataclass(frozen=True)
class Roles:
    """Methods of a run by the part they play in the questions; all of them in the order of the scores."""

    candidates: tuple[str, ...]
    model: tuple[str, ...]
    text: tuple[str, ...]
    dictionary: tuple[tuple[str, str, str], ...]

    @classmethod
    def of(cls, labels: Iterable[str]) -> "Roles":
        """Sort methods by what they read.

        A method with a fixed parameter (k_sparse(k=4)) is a point of a curve, and no candidate beside the same method
        that tunes it. Nor are controls, which learn nothing, and other dictionaries, whose label ends in brackets.
        """
        parsed = {label: methods.parse(label) for label in dict.fromkeys(labels) if not label.endswith("]")}
        free = {(m.name, m.view) for m in parsed.values() if not m.params}
        own = {
            label: m
            for label, m in parsed.items()
            if (m.cls.learns and (not m.params or (m.name, m.view) not in free)) or m.view == "answer"
        }
        compared = [label for label, m in own.items() if m.view not in DIAGNOSTIC_VIEWS]
        return cls(
            candidates=tuple(compared),
            model=tuple(label for label in compared if own[label].view in MODEL_VIEWS),
            text=tuple(label for label in compared if own[label].view in TEXT_VIEWS),
            dictionary=tuple(_dictionary_pairs(own)),
        )


def facts(
    scores: pd.DataFrame,
    recipe: Recipe,
    chosen: Mapping[str, str],
    training: Measured = UNMEASURED,
    *,
    n_boot: int = N_BOOT,
) -> dict[str, Any]:
    """Return levels, leads and differences of every data set, with intervals corrected for choices on its rows.

    scores: columns of `core.run.SCORE_COLUMNS`, of the matched site. chosen: by source left out, the reader of the
    model that out-of-fold training rows prefer (`baselines.chosen`). training: what the seeds' training sets share.
    """
    roles, found = Roles.of(scores["method"].unique()), []
    for name, frame in scores.groupby("dataset", sort=False):
        matrix = read_score_matrix(str(name), frame, training=of_dataset(training, str(name)), n_boot=n_boot, seed=0)
        if matrix.has_both_classes:
            best = chosen.get(source_left_out(matrix.name), "")
            found.append(_Questions(matrix, roles, recipe.margin).answered(best))
        else:  # one label cannot be ranked
            found.append(_nothing(matrix))
    return {"margin": recipe.margin, "read_well_from": READ_WELL, "datasets": found}


class _Questions:
    """The three questions on one data set."""

    def __init__(self, matrix: ScoreMatrix, roles: Roles, margin: float) -> None:
        self.matrix, self.roles, self.margin = matrix, roles, margin
        self.keys: dict[str, Key] = {key[0]: key for key in matrix.scores}
        self._estimates: dict[str, Estimate] = {}  # each is a bootstrap of every training set
        self.candidates = [m for m in roles.candidates if m in self.keys]
        # Uncorrected: nobody reads well only if every interval ends low, and then the one that errs is one of them.
        self.levels = {m: self._level(m) for m in self.candidates}

    def answered(self, chosen: str) -> Row:
        inverted, silent = self._inverted(self.candidates), self._silent(self.candidates)
        ranked = [m for m in self.candidates if m not in {*inverted, *silent} and math.isfinite(self.levels[m].value)]
        leader = max(ranked, key=lambda m: self.levels[m].value, default="")
        family = max(len(self.candidates) - 1, 1)
        return _nothing(self.matrix) | {
            "both_labels": True,
            "levels": [_numbers(m, self.levels[m]) for m in self.candidates],
            "inverted": inverted,
            "silent": silent,
            "leader": leader,
            "leads": [self._difference(leader, other, family) for other in ranked if other != leader],
            "model": self._model(chosen),
            "dictionary": self._dictionary(),
        }

    def _model(self, chosen: str) -> list[Row]:
        """The chosen reader minus the strongest text-only method of these rows; [] where one of them is missing.

        The text-only method is picked on these rows, so the interval covers the difference to each of them. The test
        rows of one training set are training rows of another: there the reader may be picked by them too.
        """
        texts = [m for m in self.roles.text if m in self.keys and math.isfinite(self.levels[m].value)]
        if chosen not in self.keys or not texts:
            return []
        strongest = max(texts, key=lambda m: self.levels[m].value)
        readers = len([m for m in self.roles.model if m in self.keys]) if self.matrix.name == IN_DISTRIBUTION else 1
        return [self._difference(chosen, strongest, family=len(texts) * max(readers, 1))]

    def _dictionary(self) -> list[Row]:
        pairs = [(kind, one, other) for kind, one, other in self.roles.dictionary if {one, other} <= self.keys.keys()]
        return [{"against": kind} | self._difference(one, other, len(pairs)) for kind, one, other in pairs]

    def _level(self, method: str) -> Interval:
        if method not in self._estimates:
            scores = self.matrix.scores[self.keys[method]]
            self._estimates[method] = self.matrix.sample.estimate(auroc, scores)
        return self._estimates[method].interval()

    def _inverted(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if is_inverted(self._level(name), self.margin)]

    def _silent(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if self.matrix.is_constant(self.keys[name])]

    def _difference(self, one: str, other: str, family: int) -> Row:
        """One method minus another on the rows both have scored, one of a family of such intervals."""
        scores = self.matrix.scores
        estimate = self.matrix.sample.paired(auroc, scores[self.keys[one]], scores[self.keys[other]])
        d = estimate.interval(bounded=False, family=family)
        silent, inverted = self._silent((one, other)), self._inverted((one, other))
        why = "constant" if silent else "inverted" if inverted else _why_no_interval(d)
        return {
            "method": one,
            "than": other,
            "value": d.value,
            "lo": math.nan if why else d.lo,
            "hi": math.nan if why else d.hi,
            "n": d.n,
            "n_groups": d.n_groups,
            "n_seeds": d.n_seeds,
            "family": family,
            # enough groups that one kind of failure in them, as large as the margin, would have been seen
            "margin_is_seen": unseen_failures(self.margin, d.n_groups * d.balance) < LEVEL / family,
            "why": why,
            "about": silent or inverted,
        }


def _nothing(matrix: ScoreMatrix) -> Row:
    """A data set of which nothing is known but its size."""
    return {
        "dataset": matrix.name,
        "n": len(matrix.rows),
        "both_labels": False,
        "levels": [],
        "inverted": [],
        "silent": [],
        "leader": "",
        "leads": [],
        "model": [],
        "dictionary": [],
    }


def _numbers(method: str, figure: Interval) -> Row:
    place = {"method": method, "why": _why_no_interval(figure)}
    return place | {name: getattr(figure, name) for name in ("value", "lo", "hi", "n", "n_groups", "n_seeds")}


def _why_no_interval(d: Interval) -> str:
    """Code of why there is no interval; "" where there is one."""
    if d.n_seeds < FEWEST_SEEDS:
        return "seeds"
    if math.isnan(d.value):
        return "unscored"
    if d.n_groups * d.balance < FEWEST_GROUPS:
        return "groups"
    return "training sets" if math.isnan(d.lo) else ""


def _dictionary_pairs(own: Mapping[str, Method]) -> Iterable[tuple[str, str, str]]:
    """Pairs fixed by the methods' names alone: what each reader of the dictionary is held against.

    Dense: the same reader on the state, or a logistic where that cannot read it. Control: the same reader on latents
    of the frozen-encoder control.
    """
    by_name = {(m.name, m.view): label for label, m in own.items() if not m.params}
    for (name, view), label in by_name.items():
        if view not in DICTIONARY_VIEWS:
            continue
        dense = by_name.get((name, "state"), by_name.get(("logistic", "state")))
        if dense:
            yield DENSE, label, dense
        control = by_name.get((name, "control"))
        if view == "latents" and control:
            yield CONTROL, label, control
