"""The perceptron: its gradient, its path, and that rotating into the span of the rows costs nothing."""

import numpy as np
import pytest
from scipy.optimize import check_grad

from theodolite.readers._span import Span
from theodolite.readers.mlp import Mlp, _loss, _train


def xor(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.random.default_rng(0).normal(size=(n, d))
    return rows, (rows[:, 0] * rows[:, 1] > 0).astype(int)


def test_gradient() -> None:
    rows, y = xor(20, 5)
    packed = np.random.default_rng(1).normal(size=5 * 3 + 3 + 3 + 1)
    arguments = (rows, y.astype(float), 0.7, 3)
    error = check_grad(lambda p: _loss(p, *arguments)[0], lambda p: _loss(p, *arguments)[1], packed)
    assert error < 1e-4


def test_it_learns_what_no_linear_reader_can() -> None:
    rows, y = xor(600, 4)
    assert Mlp(steps=80, decay=0.1).fit(rows[:400], y[:400]).score(rows[400:], y[400:]) > 0.9


def test_training_in_the_span_is_training_on_all_columns() -> None:
    """More columns than rows: the same network, trained on the standardised columns themselves."""
    rows, y = xor(15, 40)
    span = Span.of(rows)
    whole = Span(span.scaled, span.mean_d, span.scale_d, span.scaled, np.ones(40))
    start_in_span = lambda weight_dk: span.back(span.project(weight_dk))  # noqa: E731
    object.__setattr__(whole, "project", start_in_span)
    inside = _train(span, y.astype(float), 3, 1.0, 0, steps=6)[-1]
    outside = _train(whole, y.astype(float), 3, 1.0, 0, steps=6)[-1]
    np.testing.assert_allclose(span.back(inside[:-7].reshape(-1, 3)), outside[:-7].reshape(-1, 3), atol=1e-6)
    np.testing.assert_allclose(inside[-7:], outside[-7:], atol=1e-6)


def test_steps_and_decay_restrain_it() -> None:
    rows, y = xor(60, 20)
    loss = [
        -np.log(r.predict_proba(rows)[np.arange(60), y]).mean()
        for r in Mlp(decay=1.0).fit_path(rows, y, [{"steps": 2}, {"steps": 20}, {"steps": 20, "decay": 3000.0}])
    ]
    assert loss[1] < loss[0]
    assert loss[1] < loss[2]
    assert loss[2] == pytest.approx(np.log(2), abs=0.01)


def test_the_seed_draws_the_first_weights() -> None:
    rows, y = xor(60, 20)
    scores = [Mlp(decay=1.0, seed=seed).fit(rows, y).decision_function(rows) for seed in (0, 0, 1)]
    assert (scores[0] == scores[1]).all()
    assert abs(scores[0] - scores[2]).max() > 1e-3
