"""Similarity-distance-magnitude (SDM) activations, and the region in which predictions are accepted."""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from scipy.special import expit
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from theodolite.calibration import _sdm
from theodolite.calibration._exemplar_map import ExemplarMap as ExemplarMap
from theodolite.calibration._neighbours import CAP, Array, neighbours
from theodolite.calibration._prototypes import prototypes
from theodolite.calibration._sdm import Diagnostics
from theodolite.calibration._temperature import best_temperature
from theodolite.core.calibrator import (
    BOUNDARY,
    DISAGREE,
    FAR,
    CalibrationRows,
    Calibrator,
    ScoredSet,
    content,
    default,
    folds,
    scores,
)
from theodolite.core.errors import UserError

NO_REGION = "no region reaches alpha"
OWN = "estimator"
LADDER = (0.95, 0.9, 0.8, 0.7)
FOLDS = 5
LEAST_D = 0.05  # q alone does not see distance once it is large: at d = 0 q' is still (2 + q)^(1/2)
_LEAST_TILT = 1e-6  # the sign of the score outlives d = 0


class Sdm(Calibrator):
    """SDM of a fixed classifier (2509.12760, variant B, with the ladder of the authors' package).

    The probability is softmax(d ln(2 + q) z'): q counts how long the nearest support rows are labelled and predicted
    as this one, d says how near the nearest one is among those of calibration rows, z' is the classifier's log-odds.
    A prediction is accepted in the region in which, on the calibration rows, each class had a share alpha of its
    probabilities above alpha. This is an estimate without a bound on how often it fails: `Certified` gives one.

    space: where similarity is measured, a transformer fitted on the support (None: the rows as they are; "estimator":
    the classifier's own `transform`, as of `ExemplarMap`, the published one, here too).
    far_space: where distance is measured (None: as `space`). k: neighbours used. in_sample: the support's own
    predictions and log-odds come from the classifier fitted on it, as published, and not from `FOLDS` others that did
    not see the row; a frozen classifier's always do. alphas: levels of the ladder; `alpha` is added. splits: on how
    many other splits of the same rows the least q' is found too (`q_mins_`), and the region's raised by their median
    absolute deviation times tan(pi (alpha - 1/2)), a Cauchy quantile (variant A, 2502.20167). prototypes: about how
    many of the correctly predicted support rows are kept; None keeps all.
    """

    def __init__(
        self,
        estimator: Any = None,
        alpha: float = 0.9,
        calibrate: float = 0.5,
        seed: int = 0,
        space: Any = None,
        far_space: Any = None,
        k: int = CAP,
        in_sample: bool = False,
        alphas: Sequence[float] = LADDER,
        splits: int = 0,
        prototypes: int | None = None,
    ) -> None:
        super().__init__(estimator, alpha, calibrate, seed)
        self.space = space
        self.far_space = far_space
        self.k = k
        self.in_sample = in_sample
        self.alphas = alphas
        self.splits = splits
        self.prototypes = prototypes

    def diagnose(self, X: Any) -> Diagnostics:
        """Return all that SDM measures of each row."""
        return self._diagnose(self._part(X))

    def partial_fit(self, X: Any, y: Any, classes: Any = None, ids: Any = None) -> Self:
        """Add newly labelled rows to the support and find the regions anew; the classifier stays as it is.

        `versions_` records how many rows each version added, and the hash of its support. Raises
        UserError for labels other than the two known ones; calibration rows are left out, with a warning.
        """
        if not hasattr(self, "support_"):
            return self.fit(X, y, ids=ids)
        part = self._part(X)
        label_n = np.searchsorted(self.classes_, y).clip(0, 1)
        if len(label_n) != len(part.score_n) or (self.classes_[label_n] != np.asarray(y)).any():
            raise UserError(
                f"partial_fit needs one label of {self.classes_.tolist()} for each of the {len(part.score_n)} rows"
            )
        added = [f"{len(self.versions_)}:{i}" for i in range(len(label_n))]
        id_n = np.asarray(added if ids is None else ids, dtype=object)
        new = self._not_calibrated_on(part.rows, id_n)
        self._add(part.rows[new], label_n[new], (part.predicted_n == label_n)[new], id_n[new])
        self._find_regions()
        return self

    def _not_calibrated_on(self, rows: Array, id_n: Array) -> Array:
        """Return positions of the rows that are no calibration rows, by id and by value."""
        mine = self.calibrate_
        value_n = content(np.concatenate([mine.rows.astype(rows.dtype), rows]))
        # By value too: a calibration row that comes back under another id would be its own nearest support row, with q
        # high and distance 0, and the regions would rest on it.
        known_n = np.isin(value_n[len(mine.rows) :], value_n[: len(mine.rows)])
        known_n |= np.isin(id_n.astype(str), mine.id_n.astype(str))
        if known_n.any():
            message = f"{known_n.sum()} of {len(rows)} rows are calibration rows (same id or values): not added"
            warnings.warn(message, CalibrationRows, stacklevel=3)
        return np.flatnonzero(~known_n)

    def _calibrate(self, support: ScoredSet, calibrate: ScoredSet) -> None:
        self.space_, self.far_space_ = (self._fitted_space(space, support) for space in (self.space, self.far_space))
        seen = self.in_sample or isinstance(self.estimator, FrozenEstimator)
        score_m = support.score_n if seen else self._out_of_fold(support)
        # The published activation has no temperature, and one fitted on in-sample scores would be too sure.
        self.temperature_ = 1.0 if self.in_sample else best_temperature(score_m, support.target_n)
        self.rows_, self.ids_ = support.rows[:0], support.id_n[:0]
        self.labels_, self.right_ = support.target_n[:0], np.zeros(0, dtype=bool)
        self.calibrate_ = calibrate
        self.versions_: list[dict[str, Any]] = []
        self.q_mins_, self.q_min_raise_ = np.zeros(0), 0.0
        self._add(support.rows, support.target_n, (score_m > 0) == support.target_n, support.id_n)
        self._find_regions()
        if self.splits:
            self.q_mins_, self.q_min_raise_ = self._over_splits(support, calibrate)
            self._find_regions()  # again, with the raise that the splits have found

    def _add(self, rows: Any, label_m: Array, right_m: Array, id_m: Array) -> None:
        added = ((self.rows_, rows), (self.labels_, label_m), (self.right_, right_m), (self.ids_, id_m))
        held = [np.concatenate(pair) for pair in added]
        if self.prototypes is not None:
            chosen = prototypes(_mapped(self.space_, held[0]), held[1], held[2], self.prototypes, self.seed)
            held = [values[chosen] for values in held]
        self.rows_, self.labels_, self.right_, self.ids_ = held
        self.support_ = neighbours(_mapped(self.space_, self.rows_))
        has_own_space = self.far_space is not None
        self.far_support_ = neighbours(_mapped(self.far_space_, self.rows_)) if has_own_space else self.support_
        digest = hashlib.sha256(self.rows_.tobytes() + self.labels_.tobytes()).hexdigest()
        self.versions_.append({"rows": len(rows), "support": len(self.rows_), "sha256": digest})

    def _find_regions(self) -> None:
        """Learn the distance quantiles, similarities and regions from the calibration rows, given the support."""
        calibrate, label_n = self.calibrate_, self.calibrate_.target_n
        q_n, near_n, _, _ = self._measured(calibrate)
        # q > 0 as published: rows whose nearest neighbour disagrees say nothing of how far a *supported* row lies.
        self.near_of_class_ = [np.sort(near_n[(label_n == c) & (q_n > 0)]) for c in (0, 1)]
        d_n = _sdm.distance_quantile(near_n, self.near_of_class_)
        proba_nc, q_prime_n = self._activated(calibrate, q_n, d_n)
        self.q_prime_of_class_ = [np.sort(q_prime_n[label_n == c]) for c in (0, 1)]
        # The ladder reports, the region decides. A rung is found on the rows that no higher rung holds, so the region
        # at alpha is searched for itself, on all rows.
        alphas = sorted({*self.alphas, self.alpha}, reverse=True)
        self.regions_ = _sdm.ladder(q_prime_n, proba_nc, label_n, calibrate.predicted_n, alphas)
        region = _sdm.region(q_prime_n, proba_nc, label_n, self.alpha)
        self.region_ = region and replace(region, q_min=region.q_min + self.q_min_raise_)

    def _over_splits(self, support: ScoredSet, calibrate: ScoredSet) -> tuple[Array, float]:
        """Return the least q' on this and on other splits of the same rows, and by how much variant A raises it."""
        rows = np.concatenate([support.rows, calibrate.rows])
        target_n, group_n = (np.r_[getattr(support, of), getattr(calibrate, of)] for of in ("target_n", "group_n"))
        found = [self.region_]  # this split counts as one of them
        for j in range(self.splits):
            other = clone(self).set_params(splits=0, seed=self.seed + 1 + j, calibrate=len(calibrate.rows) / len(rows))
            found.append(other.fit(rows, target_n, groups=group_n).region_)
        q_mins = np.array([region.q_min if region else np.inf for region in found])
        with np.errstate(invalid="ignore"):  # inf - inf: no region on most splits
            spread = np.nan_to_num(np.median(np.abs(q_mins - np.median(q_mins))), nan=np.inf)
        return q_mins, float(spread * np.tan(np.pi * (self.alpha - 0.5)))

    def _fitted_space(self, space: Any, support: ScoredSet) -> Any:
        if isinstance(space, str) and space == OWN:
            return self.estimator_
        return None if space is None else clone(space).fit(support.rows, support.target_n)

    def _probability(self, part: ScoredSet) -> Array:
        """Return probabilities in float64, so that their side of 1/2 is the predicted one also at d = 0."""
        q_n, near_n, _, _ = self._measured(part)
        # At d = 0 the activation is 1/2 for both classes; a tilt of 1e-6 keeps the side that the classifier chose.
        d_n = np.maximum(_sdm.distance_quantile(near_n, self.near_of_class_), _LEAST_TILT).astype(np.float64)
        # softmax over (-z/2, z/2) is the expit of z: with two classes the formula of `probabilities` is this
        return expit(d_n * np.log(_sdm.OFFSET + q_n) * part.score_n / self.temperature_)

    def _confidence(self, part: ScoredSet) -> Array:
        """Return q'; minus infinity (below every threshold) where q' is below 1 or the row is too far away."""
        seen = self._diagnose(part)
        return np.where((seen.d > LEAST_D) & (seen.q_prime >= 1), seen.q_prime, -np.inf)

    def _reasons(self, part: ScoredSet) -> Array:
        """Return reasons by the published region, which uses the distance only through the probability."""
        seen, region = self._diagnose(part), self.region_
        if region is None:
            return np.full(len(seen.q), NO_REGION, dtype=object)
        proba_nc = np.column_stack([1 - seen.probability, seen.probability])
        why_n = np.where(seen.q_prime < region.q_min, DISAGREE, BOUNDARY).astype(object)
        why_n[seen.d <= LEAST_D] = FAR
        why_n[region.holds(seen.q_prime, proba_nc, seen.predicted)] = ""
        return why_n

    def _diagnose(self, part: ScoredSet) -> Diagnostics:
        q_n, near_n, exemplar_nk, distance_nk = self._measured(part)
        d_n = _sdm.distance_quantile(near_n, self.near_of_class_)
        proba_nc, q_prime_n = self._activated(part, q_n, d_n)
        sizes_nc = _sdm.effective_sizes(q_prime_n, self.q_prime_of_class_)
        # d is a share of an empirical distribution, whose band is that of Dvoretzky, Kiefer & Wolfowitz; the class with
        # the fewest rows has the widest. The paper takes the rows of at most this q', which is a heuristic.
        lower_n = np.clip(d_n - _sdm.dkw_error(sizes_nc.min(1), self.alpha), 0, 1).astype(np.float32)
        lower_nc, q_lower_n = self._activated(part, q_n, lower_n)
        predicted_n = part.predicted_n
        return Diagnostics(
            predicted=predicted_n,
            q=q_n,
            d=d_n,
            probability=proba_nc[:, 1],
            q_prime=q_prime_n,
            level=_sdm.level(self.regions_, q_prime_n, proba_nc, predicted_n),
            d_lower=lower_n,
            q_prime_lower=q_lower_n,
            level_lower=_sdm.level(self.regions_, q_lower_n, lower_nc, predicted_n),
            sizes=sizes_nc,
            exemplars=exemplar_nk[:, :25],
            distances=distance_nk[:, :25],
        )

    def _measured(self, part: ScoredSet) -> tuple[Array, Array, Array, Array]:
        """Return q, the distance to the nearest support row in `far_space`, and the neighbours that q counted."""
        distance_nk, near_nk = self.support_.nearest(_mapped(self.space_, part.rows), self.k)
        q_n = _sdm.similarity(self.right_, self.labels_, near_nk, part.predicted_n)
        if self.far_support_ is self.support_:
            return q_n, distance_nk[:, 0], near_nk, distance_nk
        far_n1, _ = self.far_support_.nearest(_mapped(self.far_space_, part.rows), 1)
        return q_n, far_n1[:, 0], near_nk, distance_nk

    def _activated(self, part: ScoredSet, q_n: Array, d_n: Array) -> tuple[Array, Array]:
        proba_nc = _sdm.probabilities(self._logits(part), q_n, d_n)
        return proba_nc, _sdm.rescaled_similarity(q_n, proba_nc[np.arange(len(q_n)), part.predicted_n])

    def _logits(self, part: ScoredSet) -> Array:
        half_n = part.score_n / self.temperature_ / 2  # log-odds s as two logits (-s/2, s/2): their difference is s
        return np.column_stack([-half_n, half_n])

    def _out_of_fold(self, support: ScoredSet) -> Array:
        """Return scores of the support by classifiers that were fitted without the row and its group."""
        n_folds = min(FOLDS, int(np.bincount(support.target_n).min()))
        if n_folds < 2:  # a class of one row can be left out of no fit
            return support.score_n
        score_m = np.empty(len(support.score_n))
        for train, out in folds(n_folds, support.target_n, support.group_n, self.seed):
            other = clone(default(self.estimator)).fit(support.rows[train], support.target_n[train])
            score_m[out] = scores(other, support.rows[out])
        return score_m


def _mapped(space: Any, rows: Any) -> Array:
    return np.asarray(rows if space is None else space.transform(rows))
