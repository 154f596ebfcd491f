"""A small multilayer perceptron: what a reader gains from not being linear."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.optimize
from scipy.special import expit

from theodolite.core.seeds import generator
from theodolite.readers._path import PathReader
from theodolite.readers._span import Span


class Mlp(PathReader):
    """One hidden layer of tanh units on standardised columns, trained on all rows at once by L-BFGS.

    Regularised by weight decay and by stopping after `steps` iterations. L-BFGS moves the weights within the span of
    the rows only, so training happens in that span at a width of at most min(n, d): no draw depends on it. Nothing is
    random but the seeded first weights. Shapes: n rows, r span, d columns, h hidden units.

    >>> rows = np.random.default_rng(0).normal(size=(400, 2))
    >>> y = (rows[:, 0] * rows[:, 1] > 0).astype(int)  # no linear reader can tell
    >>> Mlp(steps=80, decay=0.01).fit(rows[:300], y[:300]).score(rows[300:], y[300:]) > 0.9
    True
    """

    accepts_sparse = True
    log_odds = True
    scale_free = True

    hidden_coef_: np.ndarray
    hidden_intercept_: np.ndarray
    out_coef_: np.ndarray
    out_intercept_: float

    def __init__(self, hidden: int = 32, decay: float = 30.0, steps: int = 20, seed: int = 0) -> None:
        self.hidden = hidden
        self.decay = decay
        self.steps = steps
        self.seed = seed

    @classmethod
    def grid(cls, **fixed: Any) -> list[dict[str, Any]]:
        """Three stopping times at four weight decays, the earliest and strongest first."""
        steps = [fixed["steps"]] if "steps" in fixed else [10, 20, 40]
        decays = [fixed["decay"]] if "decay" in fixed else [300.0, 100.0, 30.0, 10.0]
        return [{n: v for n, v in (("steps", s), ("decay", d)) if n not in fixed} for s in steps for d in decays]

    def _fit_path(self, readers: Sequence[Any], rows: Any, target_n: np.ndarray) -> None:
        span = Span.of(rows)
        for settings in {(reader.hidden, reader.decay, reader.seed) for reader in readers}:
            same = [reader for reader in readers if (reader.hidden, reader.decay, reader.seed) == settings]
            snapshots = _train(span, target_n, *settings, steps=max(reader.steps for reader in same))
            for reader in same:
                weight_rh, bias_h, out_h, out_bias = _unpack(
                    snapshots[min(reader.steps, len(snapshots) - 1)], settings[0]
                )
                reader.hidden_coef_, shift_h = span.lift(weight_rh)
                reader.hidden_intercept_ = bias_h + shift_h
                reader.out_coef_, reader.out_intercept_ = out_h.copy(), float(out_bias)

    def _scores(self, rows: Any) -> np.ndarray:
        return np.tanh(rows @ self.hidden_coef_ + self.hidden_intercept_) @ self.out_coef_ + self.out_intercept_


def _train(span: Span, target_n: np.ndarray, hidden: int, decay: float, seed: int, steps: int) -> list[np.ndarray]:
    """Packed weights after 0, 1, ..., `steps` iterations, or fewer where the loss stopped falling."""
    rng = generator(seed, "mlp")
    d = span.scaled.shape[1]
    first_rh = span.project(rng.normal(size=(d, hidden)) / np.sqrt(d))
    start = np.concatenate([first_rh.ravel(), np.zeros(hidden), rng.normal(size=hidden) / np.sqrt(hidden), [0.0]])
    snapshots = [start]
    scipy.optimize.minimize(
        _loss,
        start,
        args=(span.rows_nr, target_n, decay, hidden),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": steps},
        callback=lambda packed: snapshots.append(packed.copy()),
    )
    return snapshots


def _loss(
    packed: np.ndarray, rows_nr: np.ndarray, target_n: np.ndarray, decay: float, hidden: int
) -> tuple[float, np.ndarray]:
    """Summed log loss plus decay / 2 times the squared weights (biases are free), with its gradient."""
    weight_rh, bias_h, out_h, out_bias = _unpack(packed, hidden)
    active_nh = np.tanh(rows_nr @ weight_rh + bias_h)
    logit_n = active_nh @ out_h + out_bias
    error_n = expit(logit_n) - target_n
    loss = np.logaddexp(0, logit_n).sum() - target_n @ logit_n + decay / 2 * ((weight_rh**2).sum() + out_h @ out_h)
    back_nh = np.outer(error_n, out_h) * (1 - active_nh**2)
    gradient = [
        (rows_nr.T @ back_nh + decay * weight_rh).ravel(),
        back_nh.sum(axis=0),
        active_nh.T @ error_n + decay * out_h,
        [error_n.sum()],
    ]
    return float(loss), np.concatenate(gradient)


def _unpack(packed: np.ndarray, hidden: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    weights, bias_h, out_h = np.split(packed[:-1], [-2 * hidden, -hidden])
    return weights.reshape(-1, hidden), bias_h, out_h, packed[-1]
