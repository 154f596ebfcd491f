"""Codes by hand and against other solvers: autograd, scikit-learn's Lasso, scipy's nonnegative least squares."""

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from sklearn.linear_model import Lasso

from theodolite.dictionaries import coding
from theodolite.dictionaries.activations import (
    FistaRule,
    MatchingPursuitRule,
    NearestRule,
    NonnegativeFistaRule,
    SparsemaxRule,
)
from theodolite.dictionaries.dictionary import Dictionary


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=1)


@pytest.mark.parametrize(
    ("u", "z"),
    [
        ([0.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]),
        ([2.0, 0.5, 0.0], [1.0, 0.0, 0.0]),  # a lead of 1 takes all
        ([1.0, 0.5, -1.0], [0.75, 0.25, 0.0]),  # tau = (1.5 - 1) / 2
        ([0.3, 0.2, 0.1], [0.4 + 1 / 30, 0.3 + 1 / 30, 0.2 + 1 / 30]),  # tau = (.6 - 1) / 3
    ],
)
def test_sparsemax_by_hand(u: list[float], z: list[float]) -> None:
    found = coding.sparsemax(torch.tensor([u], dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([z], dtype=torch.float64))


def test_sparsemax_is_a_projection_that_a_shift_does_not_change() -> None:
    """No point of the simplex is nearer, and 1e4 on a row of float32 leaves its latents."""
    u = draw(20, 9)
    z = coding.sparsemax(u)
    torch.testing.assert_close(z.sum(1), torch.ones(20, dtype=torch.float64))
    others = torch.softmax(3 * draw(500, 1, 9, seed=1), dim=2)
    assert ((others - u).square().sum(2) >= (z - u).square().sum(1)).all()
    torch.testing.assert_close(coding.sparsemax((u + 1e4).float()), z.float(), atol=2e-3, rtol=0)


def test_sparsemax_gradient_is_that_of_autograd() -> None:
    u, g = draw(20, 9).requires_grad_(), draw(20, 9, seed=1)
    z = coding.sparsemax(u)
    assert 1 < (z > 0).sum(1).double().mean() < 9
    (expected,) = torch.autograd.grad((z * g).sum(), u)
    torch.testing.assert_close(coding.sparsemax_gradient(z.detach(), g), expected)


def test_greedy_order_by_hand() -> None:
    """x = (3, 2): atom (.6, .8) has product 3.4 > 3; left is (.96, -.72), of which (1, 0) takes .96, and then nothing
    that points along (0, -.72) is left."""
    W = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    pre = torch.tensor([[3.0, 2.0]]) @ W.T
    expected = {1: [0.0, 3.4, 0.0], 2: [0.96, 3.4, 0.0], 3: [0.96, 3.4, 0.0]}
    for k, z in expected.items():
        torch.testing.assert_close(coding.matching_pursuit(pre, W, k), torch.tensor([z]))
    assert not coding.matching_pursuit(torch.tensor([[-1.0, -2.0]]), torch.eye(2), 2).any()  # all atoms point away


def test_matching_pursuit_is_that_on_the_rows_themselves() -> None:
    W, x, k = unit(draw(30, 8)), draw(50, 8, seed=1), 5
    left, z = x.clone(), torch.zeros(50, 30, dtype=torch.float64)
    for n in range(50):
        for _ in range(k):
            products = left[n] @ W.T
            i = int(products.argmax())
            z[n, i] += products[i]
            left[n] -= products[i] * W[i]
    torch.testing.assert_close(MatchingPursuitRule(k)(x @ W.T, W), z)
    assert left.square().sum() < 0.1 * x.square().sum()


def test_matching_pursuit_finds_codes_over_orthogonal_atoms_exactly() -> None:
    W = torch.linalg.qr(draw(12, 12)).Q
    z = torch.zeros(40, 12, dtype=torch.float64)
    z.scatter_(1, draw(40, 12, seed=2).topk(4, dim=1).indices, draw(40, 4, seed=3).abs() + 0.1)
    torch.testing.assert_close(MatchingPursuitRule(4)(z @ W @ W.T, W), z)


@pytest.mark.parametrize("positive", [False, True])
def test_fista_code_is_the_lasso_solution(positive: bool) -> None:
    """Scikit-learn divides the squared error by the number of samples, here the d coordinates of one row."""
    W, x, lam = unit(draw(30, 12)), draw(1, 12, seed=1), 0.15
    rule = (NonnegativeFistaRule if positive else FistaRule)(lam, steps=500)
    z = rule(x @ W.T, W)
    lasso = Lasso(lam / 12, fit_intercept=False, positive=positive, tol=1e-12, max_iter=100_000)
    expected = lasso.fit(W.T.numpy(), x[0].numpy()).coef_
    assert 3 < np.count_nonzero(expected) < 13
    np.testing.assert_allclose(z[0], expected, atol=1e-7)
    assert rule.signed == bool((z < 0).any())


def test_fista_without_a_penalty_is_nonnegative_least_squares() -> None:
    W, x = draw(6, 10), draw(15, 10, seed=1)
    z = NonnegativeFistaRule(0.0, steps=500)(x @ W.T, W)
    expected = np.stack([nnls(W.T.numpy(), row.numpy())[0] for row in x])
    assert 0 < np.count_nonzero(expected) < expected.size
    np.testing.assert_allclose(z, expected, atol=1e-7)


def test_momentum_that_starts_anew_converges_on_atoms_that_are_alike() -> None:
    """200 steps are within 4e-10 of the minimum; with Beck and Teboulle's momentum alone they are not within 1e-7."""
    W = unit(draw(20, 10) + draw(1, 10, seed=5))
    x = draw(10, 20, seed=1).relu() @ W
    objective = lambda z: float((x - z @ W).square().sum() / 2 + 0.5 * z.abs().sum())  # noqa: E731
    lasso = Lasso(0.5 / 10, fit_intercept=False, tol=1e-14, max_iter=100_000)
    least = objective(torch.tensor(np.stack([lasso.fit(W.T.numpy(), row.numpy()).coef_ for row in x])))
    assert objective(FistaRule(0.5, steps=200)(x @ W.T, W)) < least * (1 + 1e-8)


@pytest.mark.parametrize(
    "rule", [FistaRule(0.1), NonnegativeFistaRule(0.1), MatchingPursuitRule(3), NearestRule(), SparsemaxRule()]
)
def test_folding_the_scale_of_rows_keeps_the_reconstruction(rule: object) -> None:
    W = unit(draw(20, 8))
    on_scaled = Dictionary(W, torch.zeros(20, dtype=torch.float64), W, draw(8, seed=2), rule)
    x = draw(30, 8, seed=1)
    torch.testing.assert_close(on_scaled.folded(0.2).reconstruct(5 * x), 5 * on_scaled.reconstruct(x))


@pytest.mark.parametrize("rule", [FistaRule(0.1), MatchingPursuitRule(3), NearestRule(), SparsemaxRule()])
def test_a_row_has_the_same_code_in_any_company(rule: object) -> None:
    W, x = unit(draw(20, 8)), draw(30, 8, seed=1)
    alone = torch.cat([rule(x[n : n + 1] @ W.T, W) for n in range(30)])
    torch.testing.assert_close(rule(x @ W.T, W), alone)
