"""Achievement of selective steering of one cell on its test prompts, as figures, facts for a report and rows of a Run.

The primary contrasts are differences of accuracy, the share of right moves: of the accepted test prompts, less that of
as many test prompts that a baseline would choose first; and less that of all of them, which is what any choice without
information has at any coverage.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from theodolite.calibration.certified import needed
from theodolite.control.moves import LeftSupport
from theodolite.control.statistics import Summary, share
from theodolite.control.steering_rule import tuned
from theodolite.control.trust import SELECTED, TEST, Prompts, SelectiveSteering
from theodolite.core.bootstrap import bootstrap_weights, hidden_failures
from theodolite.core.calibrator import CALIBRATE, CERTIFY, SUPPORT
from theodolite.core.errors import UserError
from theodolite.core.plain import plain
from theodolite.core.stats import FEWEST_GROUPS, Interval
from theodolite.readers.logistic import Logistic
from theodolite.readers.word_ngrams import WordNgrams

Array = np.ndarray
TASK = "trust-steer"
ALL, MARGIN, NGRAMS = "accept_all", "margin", "word_ngrams"
_TAILS = (0.025, 0.975)


@dataclass(frozen=True)
class Figures:
    """Figures on test prompts: share of right moves, coverage, accuracy of accepted prompts, and the contrasts.

    contrasts: accuracy less that of each baseline at equal coverage, by name; empty where the cell is outside the
    contrasts or accepts nothing.
    """

    right_share: Interval
    coverage: Interval
    accuracy: Interval
    contrasts: dict[str, Summary]


def figures(found: SelectiveSteering, prompts: Prompts) -> Figures:
    """Measure a selection on its test prompts; `prompts` are those it was made of, in their order."""
    test = np.flatnonzero(found.part_n == TEST)
    right_n, accepted_n, group_n = found.outcome_n[test], found.accepted_n[test], found.group_n[test]
    contrasts = {}
    if found.contrasted and found.verdict == SELECTED and accepted_n.any():
        chosen = {ALL: np.ones(len(test), bool)}
        for name, score_n in baseline_scores(found, prompts).items():
            chosen[name] = _first(score_n[test], int(accepted_n.sum()), found.hash_n[test])
        contrasts = {
            name: accuracy_gain(right_n, accepted_n, other_n, group_n, seed=found.seed)
            for name, other_n in chosen.items()
        }
    return Figures(
        share(right_n, group_n, seed=found.seed),
        share(accepted_n.astype(float), group_n, seed=found.seed),
        share(right_n[accepted_n], group_n[accepted_n], seed=found.seed),
        contrasts,
    )


def accuracy_gain(right_n: Array, ours_n: Array, other_n: Array, group_n: Array, *, seed: int = 0) -> Summary:
    """Return the share of right moves among prompts we choose less that among others', paired over groups of prompts.

    ours_n, other_n: which prompts either chooses, (n,) bool; both may choose a prompt, and what they share cancels. The
    interval is that of a bootstrap over groups. Where one side has no failure, or nothing but failures, there is none
    to draw, and the interval is widened by what so few groups may hide (`core.bootstrap.hidden_failures`).

    >>> right = np.array([1, 1, 0, 0])
    >>> accuracy_gain(right, right == 1, np.ones(4, bool), np.arange(4)).value
    0.5
    """
    right_n, ours_n, other_n = (np.asarray(values, float) for values in (right_n, ours_n, other_n))
    group_n = np.asarray(group_n)
    size = len(group_n), len(np.unique(group_n))
    if not ours_n.any() or not other_n.any():
        return Summary(math.nan, math.nan, math.nan, *size)
    weight_bn = np.vstack([np.ones(len(right_n)), bootstrap_weights(group_n, seed=seed)])
    ours_b, other_b = ((weight_bn @ (c * right_n)) / (weight_bn @ c) for c in (ours_n, other_n))
    value = float(ours_b[0] - other_b[0])
    if size[1] < FEWEST_GROUPS:
        return Summary(value, math.nan, math.nan, *size)
    lo, hi = np.quantile((ours_b - other_b)[1:], _TAILS)
    rooms = [hidden_failures(len(np.unique(group_n[c > 0]))) for c in (ours_n, other_n)]
    (ours_room, other_room), ours, other = rooms, ours_b[0], other_b[0]
    below = math.hypot(ours_room * (ours == 1), other_room * (other == 0))
    above = math.hypot(ours_room * (ours == 0), other_room * (other == 1))
    return Summary(
        value, value - math.hypot(value - float(lo), below), value + math.hypot(float(hi) - value, above), *size
    )


def baseline_scores(found: SelectiveSteering, prompts: Prompts) -> dict[str, Array]:
    """Return log-odds of a right move, (n,) each, from the unsteered margin and from the words of the prompt.

    Both learn on all development prompts. The margin comes with its size, because a model that is sure of either side
    may move less.
    """
    developed = np.flatnonzero(np.isin(found.part_n, (SUPPORT, CALIBRATE)))
    # in the order of the hashes, as everywhere: folds would else depend on the order of the rows
    developed = developed[np.argsort(found.hash_n[developed], kind="stable")]
    margin_n = np.asarray(prompts.margin_n, float)
    rows = np.column_stack([margin_n, abs(margin_n)])
    target_n = found.outcome_n[developed].astype(int)
    margin = tuned(Logistic, rows[developed], target_n, found.seed).decision_function(rows)
    return {MARGIN: margin, NGRAMS: _ngram_scores(prompts.texts, target_n, developed, found.seed)}


def facts(
    found: SelectiveSteering, measured: Figures, *, budget: float = math.nan, left: LeftSupport | None = None
) -> dict[str, Any]:
    """Return what a report needs of one cell, as JSON values: verdict, why, certificate, parts, figures.

    budget: disturbance in nats at which outcomes were taken. left: states that left the support.
    """
    parts = {part: int((found.part_n == part).sum()) for part in (SUPPORT, CALIBRATE, CERTIFY, TEST)}
    learnt = found.learnt
    return {
        "verdict": found.verdict,
        "why": found.why,
        "alpha": found.alpha,
        "delta": found.delta,
        "nats": plain(budget),
        "seed": found.seed,
        "development_share": found.development_share,
        "contrasted": found.contrasted,
        "prompts": parts,
        "unscored": int(np.isnan(found.outcome_n).sum()),
        "needed": needed(found.alpha, found.delta),
        "certificate": asdict(found.certificate) if found.certificate else None,
        "rule": {"confidence": learnt.confidence, "space": learnt.space} if learnt else None,
        "left_support": {"before": left.before, "after": left.after, "n": len(left.after_n)} if left else None,
        **{name: _limits(getattr(measured, name)) for name in ("right_share", "coverage", "accuracy")},
        "contrasts": {name: _limits(gain) for name, gain in measured.contrasts.items()},
    }


def rows(
    found: SelectiveSteering, measured: Figures, shared: Mapping[str, Any], left: LeftSupport | None = None
) -> list[dict[str, Any]]:
    """Return rows for `Run.add_rows`, of task "trust-steer".

    shared: the columns of the cell (method, site, dataset = concept, split = sign, strength, nats). Metrics are
    "right_share" (what steering every prompt has), "coverage", "accuracy" (with `versus`: less that of a baseline at
    equal coverage) and "left_support" (share of edited states).
    """
    common = {**shared, "task": TASK, "seed": str(found.seed), "versus": ""}
    unscored = {"n_unscored": int(np.isnan(found.outcome_n).sum())}
    single: list[dict[str, Any]] = [
        {**common, "metric": name, **_limits(getattr(measured, name)), **unscored}
        for name in ("right_share", "coverage", "accuracy")
    ]
    gains = [
        {**common, "metric": "accuracy", "versus": name, **_limits(gain), **unscored}
        for name, gain in measured.contrasts.items()
    ]
    gone = []
    if left is not None and len(left.after_n):
        counts = dict.fromkeys(("n", "n_groups"), len(left.after_n)) | {"n_unscored": 0}
        gone = [{**common, "metric": "left_support", "value": left.after / len(left.after_n), **counts}]
    return single + gains + gone


def _ngram_scores(texts: Sequence[str], target_m: Array, developed: Array, seed: int) -> Array:
    """Log-odds from words and word pairs, (n,); 0 for all where none of them occurs twice."""
    text_n = np.array(list(texts), dtype=object)
    try:
        reader = tuned(WordNgrams, text_n[developed], target_m, seed)
    except UserError:
        return np.zeros(len(text_n))
    return np.asarray(reader.decision_function(text_n))


def _first(score_n: Array, k: int, hash_n: Array) -> Array:
    """The k prompts of the highest scores, (n,) bool; ties in the order of the hashes."""
    chosen_n = np.zeros(len(score_n), bool)
    chosen_n[np.lexsort((hash_n, -score_n))[:k]] = True
    return chosen_n


def _limits(found: Interval | Summary) -> dict[str, Any]:
    return {
        "value": plain(found.value),
        "lo": plain(found.lo),
        "hi": plain(found.hi),
        "n": found.n,
        "n_groups": found.n_groups,
    }
