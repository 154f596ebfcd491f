"""The rule that predicts right moves from unsteered states: a probe, a feature space and a certified confidence."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from theodolite.control.certified_moves import CertifiedMoves, expected_coverage
from theodolite.core.calibrator import CALIBRATE, CERTIFY, SUPPORT, TooFewRows, folds
from theodolite.core.reader import Reader
from theodolite.data.splits import FOLDS
from theodolite.readers.logistic import Logistic
from theodolite.selection import spaces
from theodolite.selection.rules import CONFIDENCES, ColumnSpec

Array = np.ndarray
# Those of the readers' protocol but SDM, which needs scores of the support that are out of fold.
OPTIONS = ("gated(max_softmax)", "gated(knn_agreement)")
SPACES = ("state", "pls")


@dataclass(frozen=True)
class Learnt:
    """A probe of right moves on the unsteered state, and the certified rule on its scores in one feature space."""

    probe: Logistic
    confidence: str
    space: str
    fitted: spaces.FeatureSpace
    rule: CertifiedMoves

    @property
    def certified(self) -> bool:
        """Whether any threshold passed."""
        return bool(np.isfinite(self.rule.threshold_))

    def accept(self, state_nd: Array) -> Array:
        """Return which prompts may be steered, (n,) bool."""
        return self.rule.accept(_coordinates(self.fitted, state_nd, self.probe))


def learn(outcome_n: Array, state_nd: Array, part_n: Array, levels: tuple[float, float, int]) -> Learnt:
    """Learn on support, choose confidence and space on calibrate by expected coverage, certify once.

    levels: alpha, delta and seed. All options see the certify prompts, and only the chosen one's threshold is used:
    the choice itself rests on calibrate.
    """
    alpha, delta, seed = levels
    used, support = np.flatnonzero(np.isin(part_n, (SUPPORT, CALIBRATE, CERTIFY))), part_n == SUPPORT
    target_n = outcome_n[used].astype(int)
    probe = tuned(Logistic, state_nd[support], outcome_n[support].astype(int), seed)
    found: list[tuple[float, Learnt]] = []
    for space in SPACES:
        fitted = spaces.fit(
            space, lambda view, site: state_nd[support], outcome_n[support].astype(int), probe, "state", "", ()
        )
        rows = _coordinates(fitted, state_nd[used], probe)
        spec, calibrate = ColumnSpec.of(rows.shape[1] - 1, has_distance=False), part_n[used] == CALIBRATE
        for confidence in OPTIONS:
            rule = CertifiedMoves(CONFIDENCES[confidence](spec, alpha), alpha, delta)
            with warnings.catch_warnings():  # of 30 rows of either class, which one accuracy does not take
                warnings.simplefilter("ignore", TooFewRows)
                rule.fit(rows, target_n, part=part_n[used])
            coverage = expected_coverage(rule.predictions(rows[calibrate], target_n[calibrate]), alpha, delta)
            found.append((coverage, Learnt(probe, confidence, space, fitted, rule)))
    return max(found, key=lambda option: option[0])[1]


def tuned(kind: type[Any], rows: Any, target_n: Array, seed: int) -> Any:
    """Fit a reader with the penalty of least log loss over three folds."""
    grid = kind.grid()
    loss_k = np.zeros(len(grid))
    for other, held in folds(FOLDS, target_n, None, seed):
        readers: list[Reader] = kind().fit_path(rows[other], target_n[other], grid)
        signed_n = np.where(target_n[held] == 1, 1, -1)
        loss_k += [np.logaddexp(0, -signed_n * reader.decision_function(rows[held])).sum() for reader in readers]
    return kind(**grid[int(loss_k.argmin())]).fit(rows, target_n)


def _coordinates(fitted: spaces.FeatureSpace, state_nd: Array, probe: Logistic) -> Array:
    return spaces.coordinates(fitted, lambda view, site: state_nd, probe.decision_function(state_nd))
