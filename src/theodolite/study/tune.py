"""Choose a method's configuration on the training rows: grouped folds, log-loss, the simpler among ties."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from theodolite.core.errors import UserError
from theodolite.core.methods import Method
from theodolite.core.newton import logistic_path
from theodolite.core.reader import Reader

_NO_PENALTY = 1e9  # C of a penalty too weak to matter


@dataclass(frozen=True)
class Platt:
    """A score as a probability, expit(slope * score + intercept); the slope is never negative: no sign is learnt."""

    slope: float
    intercept: float

    def log_odds(self, score_n: np.ndarray) -> np.ndarray:
        """Return slope * score + intercept, (n,)."""
        return self.slope * score_n + self.intercept

    def __call__(self, score_n: np.ndarray) -> np.ndarray:
        return expit(self.log_odds(score_n))


@dataclass(frozen=True)
class Configuration:
    """One row of the cross-validation: its mean log-loss, and whether it is within one s.e. of the best."""

    params: dict[str, Any]
    log_loss: float
    tied: bool


@dataclass(frozen=True)
class Tuned:
    """A reader refitted on all rows with the configuration chosen, and what the choice rested on.

    `out_of_fold_n` are the chosen configuration's scores of rows it was not fitted on: thresholds and `platt` come
    from them, so that nothing needs data beyond the training rows.
    """

    estimator: Reader
    params: dict[str, Any]
    cv_log_loss: float
    table: list[Configuration]
    out_of_fold_n: np.ndarray
    platt: Platt
    n_fits: int
    seconds: float

    def probability(self, X: Any) -> np.ndarray:
        """Return the probability of the positive class, by Platt's sigmoid of the score."""
        return self.platt(self.estimator.decision_function(X))


def tune(method: Method, X: Any, y: Any, folds: np.ndarray, seed: int = 0) -> Tuned:
    """Cross-validate every configuration of `method` on the folds (one number per row), refit the chosen on all rows.

    Mean log-loss of Platt-scaled out-of-fold scores decides. A configuration ties with the best when its mean excess
    loss is within one standard error of that excess; the first of those wins, grids being written from simple to
    flexible.
    """
    start = time.perf_counter()
    reader = method.reader(seed)
    grid = method.cls.grid(**method.params)
    X, target_n, folds = _arranged(X, y, folds)
    score_kn = _out_of_fold(reader, X, target_n, folds, grid)
    platt_k = [fit_platt(score_n, target_n) for score_n in score_kn]
    loss_kn = np.array([_log_loss(*pair, target_n) for pair in zip(score_kn, platt_k, strict=True)])
    tied_k = ties(loss_kn)
    chosen = int(np.flatnonzero(tied_k)[0])
    estimator = reader.set_params(**grid[chosen]).fit(X, y)
    rows = zip(grid, loss_kn.mean(axis=1), tied_k, strict=True)
    return Tuned(
        estimator=estimator,
        params={**method.params, **grid[chosen]},
        cv_log_loss=float(loss_kn[chosen].mean()),
        table=[Configuration(params, float(loss), bool(tied)) for params, loss, tied in rows],
        out_of_fold_n=score_kn[chosen],
        platt=platt_k[chosen],
        n_fits=len(grid) * len(np.unique(folds)) + 1,
        seconds=time.perf_counter() - start,
    )


def ties(loss_kn: np.ndarray) -> np.ndarray:
    """Return which configurations' mean loss exceeds the best one's by at most one standard error of that excess.

    >>> ties(np.array([[0.5, 0.5, 0.9, 0.9], [0.5, 0.5, 0.5, 0.6], [0.4, 0.6, 0.4, 0.6]]))
    array([False,  True,  True])
    """
    excess_kn = loss_kn - loss_kn[loss_kn.mean(axis=1).argmin()]
    error_k = excess_kn.std(axis=1) / np.sqrt(loss_kn.shape[1])
    return excess_kn.mean(axis=1) <= error_k


def fit_platt(score_n: np.ndarray, target_n: np.ndarray) -> Platt:
    """Fit Platt's (1999) sigmoid on his smoothed targets, which keep the slope finite where scores split the classes.

    >>> platt = fit_platt(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([0, 0, 1, 1]))
    >>> platt(np.array([0.0, 9.0])).round(2)
    array([0.5, 1. ])
    """
    positives, n = target_n.sum(), len(target_n)
    smooth_n = np.where(target_n == 1, (positives + 1) / (positives + 2), 1 / (n - positives + 2))
    centre, scale = score_n.mean(), score_n.std() or 1.0
    standard_n1 = (score_n[:, None] - centre) / scale
    slope_11, intercept_1 = logistic_path(standard_n1, smooth_n, np.array([_NO_PENALTY]))
    slope, intercept = float(slope_11[0, 0]) / scale, float(intercept_1[0])
    if slope > 0:
        return Platt(slope, intercept - slope * centre)
    return Platt(0.0, float(np.log(smooth_n.mean() / (1 - smooth_n.mean()))))


def _out_of_fold(
    reader: Reader, X: Any, target_n: np.ndarray, folds: np.ndarray, grid: Sequence[dict[str, Any]]
) -> np.ndarray:
    score_kn = np.empty((len(grid), len(target_n)))
    for fold in np.unique(folds):
        inside, outside = folds == fold, folds != fold
        if len(np.unique(target_n[outside])) < 2:
            raise UserError(
                f"without fold {fold} the training rows have one class only: the other class lies in too few groups; "
                "group by a column with more values, or by none"
            )
        for k, fitted in enumerate(reader.fit_path(X[outside], target_n[outside], grid)):
            score_kn[k, inside] = fitted.decision_function(X[inside])
    return score_kn


def _log_loss(score_n: np.ndarray, platt: Platt, target_n: np.ndarray) -> np.ndarray:
    """Return the log loss of every row, after Platt scaling.

    Readers with log-odds of their own are scaled too: compared by native log-loss they would be regularised for
    calibration (C=.01 where the ranking prefers 3) while all others are regularised for ranking.
    """
    logit_n = platt.log_odds(score_n)
    return np.logaddexp(0, logit_n) - target_n * logit_n


def _arranged(X: Any, y: Any, folds: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray]:
    """Return rows that can be indexed by a mask, 0/1 targets, fold numbers; lengths and classes checked."""
    X = X.tocsr() if hasattr(X, "tocsr") else np.asarray(X, dtype=object if isinstance(X[0], str) else None)
    label, target_n = np.unique(np.asarray(y), return_inverse=True)
    if len(label) != 2:
        raise UserError(f"tuning needs rows of two classes, got {len(label)}: {label.tolist()[:5]}")
    if not X.shape[0] == len(target_n) == len(folds):
        raise UserError(f"{X.shape[0]} rows, {len(target_n)} labels and {len(folds)} fold numbers must be equally many")
    if len(np.unique(folds)) < 2:
        raise UserError("cross-validation needs at least 2 folds")
    return X, target_n.astype(np.float64), np.asarray(folds)
