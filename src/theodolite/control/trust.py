"""Selective steering: which prompts to steer, decided on their unsteered states, with a certified share of right moves.

An outcome says whether a prompt moved the right way by more than the random band at the same disturbance
(`control.moves`). Development prompts (support and calibrate) decide what is tried; certify prompts, one of each group,
give the certificate and nothing else; test prompts, likewise, give the figures:

share of right moves on development prompts below .3   nothing is accepted: "not steerable"
from .3 to .8    a rule on the unsteered state, certified; the contrasts are for these cells
above .8         all prompts are accepted if that can be certified, else a rule

Shapes: n prompts, d columns of a state.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from theodolite.calibration.certified import needed, p_value
from theodolite.control.certified_moves import lower_limit
from theodolite.control.steering_rule import Learnt, learn
from theodolite.core.calibrator import CALIBRATE, CERTIFY, SUPPORT, check_usable
from theodolite.core.errors import UserError
from theodolite.data.splits import one_of_each_cluster, split
from theodolite.selection.protocol import ALPHA, DELTA

Array = np.ndarray
STEERABLE, NEARLY_ALL = 0.3, 0.8  # development shares between which cells are contrasted
FEWEST_OF_EACH = 5  # prompts of either outcome in support and in calibrate: three folds and a gate need as many
TEST = "test"
# Training, calibration, certification and test; a certificate of .9 takes 22 right moves without a wrong one.
SHARES = (0.35, 0.15, 0.3, 0.2)
_NAMES = {"train": SUPPORT, "calibrate": CALIBRATE, "certify": CERTIFY, "test": TEST}
SELECTED, ACCEPT_ALL, NOTHING, NOT_STEERABLE = "selected", "accept all", "nothing accepted", "not steerable"


@dataclass(frozen=True)
class Prompts:
    """Prompts before any edit: states at the site (n, d), log-odds of the targets (n,), texts and groups (n,)."""

    state_nd: Array
    margin_n: Array
    texts: Sequence[str]
    group_n: Array

    def at(self, rows: Array) -> "Prompts":
        """Return the prompts of these row numbers."""
        return Prompts(
            self.state_nd[rows], self.margin_n[rows], [self.texts[i] for i in rows], np.asarray(self.group_n)[rows]
        )


@dataclass(frozen=True)
class Certificate:
    """Right moves among the accepted certify prompts, and the lower limit of their share at level 1 - delta.

    Of a rule the limit is nominal above alpha: its threshold was found on these prompts, by a test against alpha that
    holds for all thresholds together. What is guaranteed is alpha. Of accepting all the limit holds as it stands.
    delta: what this rule may use. A cell above .8 that may still try a rule uses half of it for each of the two.
    """

    right: int
    n: int
    delta: float
    lower: float


@dataclass(frozen=True)
class SelectiveSteering:
    """Which prompts of one cell may be steered, why, and what that is certified by.

    verdict: "selected", "accept all", "nothing accepted" or "not steerable". part_n: "support", "calibrate",
    "certify", "test", or "" for a prompt that takes no part (without an outcome, or second of its group in certify or
    test). accepted_n: of every prompt, (n,) bool.
    """

    verdict: str
    why: str
    alpha: float
    delta: float
    seed: int
    development_share: float
    outcome_n: Array
    group_n: Array
    hash_n: Array
    part_n: Array
    accepted_n: Array
    certificate: Certificate | None
    learnt: Learnt | None

    @property
    def contrasted(self) -> bool:
        """Whether this cell belongs to the contrasts, by its share on development prompts."""
        return STEERABLE <= self.development_share <= NEARLY_ALL

    def accept(self, state_nd: Array) -> Array:
        """Return which new prompts may be steered, (n,) bool, by their unsteered states alone."""
        if self.verdict == SELECTED and self.learnt is not None:
            return self.learnt.accept(np.asarray(state_nd, float))
        return np.full(len(state_nd), self.verdict == ACCEPT_ALL)


def select_steering(
    outcome_n: Array, prompts: Prompts, *, alpha: float = ALPHA, delta: float = DELTA, seed: int = 0
) -> SelectiveSteering:
    """Choose the prompts to steer, so that the share of right moves among them is at least alpha.

    outcome_n: 1, 0 or NaN (no outcome, counted) for every prompt. With probability 1 - delta over certify prompts the
    share reaches alpha on prompts drawn like them. The result does not depend on the order of the prompts.

    >>> rng = np.random.default_rng(0)
    >>> state = rng.normal(size=(600, 3))
    >>> prompts = Prompts(state, state[:, 1], [f"prompt {i}" for i in range(600)], np.arange(600))
    >>> found = select_steering(state[:, 0] > 0, prompts)
    >>> found.verdict, found.accept(np.array([[2.0, 0.0, 0.0], [-2.0, 0.0, 0.0]])).tolist()
    ('selected', [True, False])
    """
    outcome_n = np.asarray(outcome_n, float)
    _check(outcome_n, prompts, alpha, delta)
    # Rows in the order of their contents: folds, ties and sums are then those of any other order.
    hash_n = _hashes(prompts)
    order = np.argsort(hash_n, kind="stable")
    ordered, known_n = prompts.at(order), ~np.isnan(outcome_n[order])
    part_n = np.full(len(order), "", dtype=object)
    part_n[known_n] = _parts(ordered.at(np.flatnonzero(known_n)), seed)
    found = _select(outcome_n[order], ordered, part_n, (alpha, delta, seed))
    back = np.argsort(order)
    return replace(
        found,
        outcome_n=outcome_n,
        group_n=np.asarray(prompts.group_n),
        hash_n=hash_n,
        part_n=found.part_n[back],
        accepted_n=found.accepted_n[back],
    )


def _select(outcome_n: Array, prompts: Prompts, part_n: Array, levels: tuple[float, float, int]) -> SelectiveSteering:
    """The rule itself, on prompts in a fixed order and with their parts."""
    alpha, delta, seed = levels
    developed_n = np.isin(part_n, (SUPPORT, CALIBRATE))
    share = float(outcome_n[developed_n].mean())
    no_n = np.zeros(len(outcome_n), bool)
    group_n, hash_n = np.asarray(prompts.group_n), _hashes(prompts)
    empty = SelectiveSteering(
        NOTHING, "", alpha, delta, seed, share, outcome_n, group_n, hash_n, part_n, no_n, None, None
    )
    if share < STEERABLE:
        return replace(empty, verdict=NOT_STEERABLE, why=f"{share:.0%} of the development prompts moved the right way")
    certify_n, teachable = part_n == CERTIFY, _teachable(outcome_n, part_n)
    why = ""
    if share > NEARLY_ALL:
        # Two certificates on the same prompts share delta, unless development shows that only one can be tried.
        delta = delta / 2 if teachable else delta
        right, n = int(outcome_n[certify_n].sum()), int(certify_n.sum())
        certificate = Certificate(right, n, delta, lower_limit(right, n, delta))
        if p_value(right, n, alpha) <= delta:
            return replace(
                empty,
                verdict=ACCEPT_ALL,
                why=f"{share:.0%} of the development prompts moved the right way: all are accepted",
                accepted_n=~no_n,
                certificate=certificate,
            )
        why = f"accepting all is not certified (lower limit {certificate.lower:.2f}); "
        empty = replace(empty, certificate=certificate)
    if not teachable:
        return replace(empty, why=why + "too few prompts of one outcome to learn from")
    return _learn(empty, prompts, delta, why)


def _learn(empty: SelectiveSteering, prompts: Prompts, delta: float, why: str) -> SelectiveSteering:
    """A rule on the unsteered state, certified at this delta."""
    outcome_n, part_n, certify_n = empty.outcome_n, empty.part_n, empty.part_n == CERTIFY
    learnt = learn(outcome_n, prompts.state_nd, part_n, (empty.alpha, delta, empty.seed))
    accepted_n = learnt.accept(prompts.state_nd)
    both_n = certify_n & accepted_n
    right, n = int(outcome_n[both_n].sum()), int(both_n.sum())
    short = f"certifying {empty.alpha:g} takes {needed(empty.alpha, delta)} right moves without a wrong one"
    return replace(
        empty,
        verdict=SELECTED if learnt.certified else NOTHING,
        why=why + (f"{learnt.confidence} in {learnt.space}" if learnt.certified else f"no threshold passes: {short}"),
        accepted_n=accepted_n,
        certificate=Certificate(right, n, delta, lower_limit(right, n, delta)),
        learnt=learnt,
    )


def _teachable(outcome_n: Array, part_n: Array) -> bool:
    """Whether both outcomes are there often enough to learn a rule from; asked of development prompts only."""
    counts = [np.bincount(outcome_n[part_n == part].astype(int), minlength=2) for part in (SUPPORT, CALIBRATE)]
    return min(int(count.min()) for count in counts) >= FEWEST_OF_EACH


def _parts(prompts: Prompts, seed: int) -> Array:
    """Part of each prompt with an outcome, (n,): groups stay whole, and one prompt of each is certified or tested.

    Outcomes play no part in the split: certify prompts have to be a plain sample.
    """
    frame = pd.DataFrame({"hash": _hashes(prompts), "cluster": np.asarray(prompts.group_n), "label": 0, "source": ""})
    drawn_n = np.array([_NAMES[name] for name in split(frame, seed, SHARES)], dtype=object)
    part_n = np.full(len(drawn_n), "", dtype=object)
    for name in _NAMES.values():
        rows = np.flatnonzero(drawn_n == name)
        part_n[one_of_each_cluster(frame, rows) if name in (CERTIFY, TEST) else rows] = name
    return part_n


def _hashes(prompts: Prompts) -> Array:
    """A hash of each prompt's text and state, (n,): its place in any order of the rows."""
    rows = zip(prompts.texts, np.ascontiguousarray(prompts.state_nd, dtype=np.float64), strict=True)
    return np.array([hashlib.sha256(text.encode() + b"\0" + state.tobytes()).hexdigest() for text, state in rows])


def _check(outcome_n: Array, prompts: Prompts, alpha: float, delta: float) -> None:
    n = len(outcome_n)
    lengths = [len(prompts.state_nd), len(prompts.margin_n), len(prompts.texts), len(prompts.group_n)]
    if lengths != [n] * 4:
        raise UserError(f"{n} outcomes, but states, margins, texts and groups of {lengths} prompts: give one of each")
    if not np.isin(outcome_n[~np.isnan(outcome_n)], (0, 1)).all():
        raise UserError("outcomes are 1 (moved the right way), 0 (did not) or NaN (no outcome): see `right_moves`")
    if not 0 < delta < 1:
        raise UserError(f"delta={delta}: give a number between 0 and 1")
    known = int((~np.isnan(outcome_n)).sum())
    if known < (least := int(np.ceil(needed(alpha, delta) / SHARES[2])) if 0 < alpha < 1 else 0):
        raise UserError(f"{known} prompts have an outcome, and certifying {alpha:g} takes {least}: give more openings")
    check_usable(np.asarray(prompts.state_nd), alpha)
