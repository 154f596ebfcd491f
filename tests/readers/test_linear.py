"""Linear readers on twelve rows worked by hand, and against scikit-learn's own estimators."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as RidgeRegression
from sklearn.preprocessing import StandardScaler

from theodolite.core.errors import UserError
from theodolite.readers.difference_in_means import DifferenceInMeans
from theodolite.readers.k_sparse import KSparse
from theodolite.readers.lat import Lat, _first_component
from theodolite.readers.lda import Lda
from theodolite.readers.logistic import Logistic
from theodolite.readers.majority import Majority
from theodolite.readers.prompting import Prompting
from theodolite.readers.random_direction import RandomDirection
from theodolite.readers.ridge import Ridge
from theodolite.readers.shuffled_labels import ShuffledLabels

Twelve = tuple[np.ndarray, np.ndarray]


def hidden_states(n: int, d: int, seed: int = 0) -> Twelve:
    """Correlated columns of very unequal size and offset, as activations have, with labels that can nearly be read."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, d)) @ (rng.normal(size=(d, d)) * np.arange(1, d + 1) ** -0.7)
    y = (rows @ rng.normal(size=d) / np.sqrt(d) + rng.normal(size=n) > 0).astype(int)
    return rows * 10 ** rng.uniform(-2, 2, d) + rng.normal(size=d), y


def test_difference_in_means_by_hand(twelve: Twelve) -> None:
    """mu+ - mu- = (4, 0, 1, 0); half-way is (2, 0, .5, 7), so the intercept is -8.5."""
    reader = DifferenceInMeans().fit(*twelve)
    exactly = {"rel": 4e-16, "abs": 0}  # to one unit in the last place, which the order of a sum decides
    assert reader.coef_ == pytest.approx([4, 0, 1, 0], **exactly)
    assert reader.intercept_ == pytest.approx(-8.5, **exactly)
    assert reader.direction_ == pytest.approx(np.array([4, 0, 1, 0]) / np.sqrt(17))
    assert reader.decision_function([[2, 9, 0.5, 9], [3, 0, 0, 0]]) == pytest.approx([0, 3.5], rel=0, abs=4e-15)


def test_ridge_by_hand(twelve: Twelve) -> None:
    """Column a has variance 2/3 + 4 = 14/3 about its mean 2, and sum((a - 2) t) = 24.

    On the standardised column beta = (24 / s) / (12 + alpha); in units of a that is 24 / (14/3 (12 + 12)) = 3/14.
    """
    rows, y = twelve
    reader = Ridge(alpha=12.0).fit(rows[:, [0, 1]], y)
    assert reader.coef_ == pytest.approx([3 / 14, 0])
    assert reader.intercept_ == pytest.approx(-2 * 3 / 14)


@pytest.mark.parametrize("shrinkage", [0.001, 0.5, 1.0])
def test_lda_by_hand(twelve: Twelve, shrinkage: float) -> None:
    """a and b are uncorrelated within classes: the correlation matrix is the identity, however much it is shrunk.

    The coefficient of a is its mean difference over its within-class variance, 4 / (2/3) = 6, zero half-way at 2.
    """
    rows, y = twelve
    reader = Lda(shrinkage=shrinkage).fit(rows[:, [0, 1]], y)
    assert reader.coef_ == pytest.approx([6, 0])
    assert reader.intercept_ == pytest.approx(-12)


def test_lda_keeps_a_column_that_is_constant_in_each_class_and_drops_one_that_is_constant(twelve: Twelve) -> None:
    rows, y = twelve
    reader = Lda(shrinkage=0.5).fit(np.column_stack([rows, y]), y)
    assert reader.coef_[4] > 0
    assert reader.coef_[3] == 0


def test_lda_knows_how_common_the_classes_are(twelve: Twelve) -> None:
    """With the positive rows twice, the intercept rises by log 2."""
    rows, y = twelve
    reader = Lda().fit(np.vstack([rows[:6, [0, 1]], rows[:, [0, 1]]]), np.concatenate([y[:6], y]))
    assert reader.intercept_ == pytest.approx(-12 + np.log(2))


def test_k_sparse_by_hand(twelve: Twelve) -> None:
    """|mean difference| / deviation: a 4 / sqrt(14/3) = 1.85, c 1 / sqrt(1 + 1/4) = .89, b 0, the constant d last."""
    rows, y = twelve
    assert KSparse(k=2).fit(rows, y).latents_.tolist() == [0, 2]
    assert KSparse(k=99).fit(rows, y).latents_.tolist() == [0, 2, 1, 3]
    assert KSparse(k=99).fit(rows * [0.01, 100, 1, 1], y).latents_.tolist() == [0, 2, 1, 3]
    reader = KSparse(k=1, C=1.0).fit(rows, y)
    alone = Logistic(C=1.0).fit(rows[:, :1], y)
    assert reader.coef_[1:].tolist() == [0, 0, 0]
    assert reader.coef_[0] == pytest.approx(alone.coef_[0])
    assert reader.intercept_ == pytest.approx(alone.intercept_)


def test_logistic_by_hand(twelve: Twelve) -> None:
    """At the minimum, beta / C = sum((t - p) z) for every standardised column, and sum(t - p) = 0."""
    rows, y = twelve
    reader = Logistic(C=0.7).fit(rows, y)
    z = (rows - rows.mean(axis=0)) / np.array([np.sqrt(14 / 3), np.sqrt(2 / 3), np.sqrt(5 / 4), 1])
    beta = reader.coef_ * np.array([np.sqrt(14 / 3), np.sqrt(2 / 3), np.sqrt(5 / 4), 1])
    error = y - reader.predict_proba(rows)[:, 1]
    assert z.T @ error == pytest.approx(beta / 0.7, abs=1e-8)
    assert error.sum() == pytest.approx(0, abs=1e-8)
    assert reader.coef_[3] == 0


@pytest.mark.parametrize(("n", "d"), [(12, 4), (60, 200), (300, 40)])
@pytest.mark.parametrize("C", [1e-4, 1e-2, 3.0])
def test_logistic_is_scikit_learns(n: int, d: int, C: float, twelve: Twelve) -> None:
    """Also where the classes are separable (d > n): coefficients within .001, scores within .0001."""
    rows, y = twelve if n == 12 else hidden_states(n, d)
    scaled = StandardScaler().fit_transform(rows)
    reference = LogisticRegression(C=C, tol=1e-12, solver="newton-cholesky", max_iter=1000).fit(scaled, y)
    reader = Logistic(C=C).fit(rows, y)
    scale = np.where(rows.std(axis=0) > 0, rows.std(axis=0), 1)
    np.testing.assert_allclose(reader.coef_ * scale, reference.coef_[0], atol=1e-3)
    np.testing.assert_allclose(reader.decision_function(rows), reference.decision_function(scaled), atol=1e-4)


@pytest.mark.parametrize(("n", "d"), [(60, 200), (300, 40)])
def test_ridge_is_scikit_learns(n: int, d: int) -> None:
    rows, y = hidden_states(n, d)
    scaled = StandardScaler().fit_transform(rows)
    reference = RidgeRegression(alpha=30.0).fit(scaled, 2 * y - 1)
    np.testing.assert_allclose(
        Ridge(alpha=30.0).fit(rows, y).decision_function(rows), reference.predict(scaled), atol=1e-8
    )


@pytest.mark.parametrize(("n", "d"), [(60, 200), (300, 40)])
@pytest.mark.parametrize("shrinkage", [0.01, 0.3, 1.0])
def test_lda_is_scikit_learns(n: int, d: int, shrinkage: float) -> None:
    rows, y = hidden_states(n, d)
    within = np.sqrt(sum(rows[y == t].var(axis=0) * np.mean(y == t) for t in (0, 1)))
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(rows / within, y)
    reader = Lda(shrinkage=shrinkage).fit(rows, y)
    np.testing.assert_allclose(reader.coef_ * within, reference.coef_[0], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(reader.decision_function(rows), reference.decision_function(rows / within), atol=1e-5)


@pytest.mark.parametrize(
    "reader", [Logistic(C=0.03), Ridge(alpha=100.0), Lda(shrinkage=0.3), Lat(), DifferenceInMeans()]
)
@pytest.mark.parametrize(("n", "d"), [(60, 200), (300, 40)])
@pytest.mark.parametrize("density", [0.03, 0.5])
def test_csr_rows_give_the_same_reader(reader: Any, n: int, d: int, density: float) -> None:
    rng = np.random.default_rng(0)
    rows = rng.exponential(size=(n, d)) * (rng.random((n, d)) < density)
    y = (rows[:, :5].sum(axis=1) + 0.1 * rng.normal(size=n) > np.median(rows[:, :5].sum(axis=1))).astype(int)
    dense = reader.fit(rows, y).coef_
    for sparse in (sp.csr_matrix(rows), sp.csr_array(rows)):
        np.testing.assert_allclose(reader.fit(sparse, y).coef_, dense, atol=1e-7 * abs(dense).max())


def test_split_gives_both_blocks_the_same_variance() -> None:
    """Blocks of 1 and 3 columns, divided by sqrt(2/4) and sqrt(6/4), have 2 units of variance each."""
    rows, y = hidden_states(50, 4)
    reader = Logistic(C=0.1, split=1).fit(rows, y)
    scaled = StandardScaler().fit_transform(rows) / np.sqrt([2 / 4, 6 / 4, 6 / 4, 6 / 4])
    assert scaled.var(axis=0).tolist() == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3])
    reference = LogisticRegression(C=0.1, tol=1e-10).fit(scaled, y)
    np.testing.assert_allclose(reader.decision_function(rows), reference.decision_function(scaled), atol=1e-4)


def test_lat_takes_its_sign_from_the_labels() -> None:
    rows = np.random.default_rng(0).normal(size=(100, 8))
    y = np.arange(100) % 2
    rows[:, 2] += 5 * y
    for seed in range(5):  # the component's own sign differs between seeds, the reader's must not
        assert Lat(seed=seed).fit(rows, y).direction_[2] > 0.9
        assert Lat(seed=seed).fit(rows, 1 - y).direction_[2] < -0.9


def test_lat_shuffles_within_pairs() -> None:
    """A constant class difference (3, in column 0) has a variance only because its sign is random within a pair."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 6)) * [0.1, 1, 0.5, 0.5, 0.5, 0.5]
    y = np.arange(400) % 2
    rows[:, 0] += 3 * y
    assert Lat().fit(rows, y).direction_[0] > 0.98


@pytest.mark.parametrize("shape", [(6, 3), (3, 6)])
def test_the_first_component_is_of_the_variance_not_of_the_mean(shape: tuple[int, int]) -> None:
    rows = np.zeros(shape)
    rows[:, 0] = 100
    rows[::2, 2] = 1
    assert abs(_first_component(rows)).tolist() == pytest.approx([0, 0, 1, 0, 0, 0][: shape[1]])


def test_lat_uses_each_row_of_the_smaller_class_once() -> None:
    rows, y = hidden_states(50, 5)
    y = (np.arange(50) < 10).astype(int)
    assert np.isfinite(Lat().fit(rows, y).coef_).all()
    assert np.isfinite(Lat().fit(np.ones((4, 2)), [0, 1, 0, 1]).coef_).all()  # nothing varies


def test_random_directions_differ_and_know_nothing(twelve: Twelve) -> None:
    rows, y = twelve
    draws = [RandomDirection(draw=draw).fit(rows, y) for draw in range(10)]
    assert len({float(reader.coef_[0]) for reader in draws}) == 10
    np.testing.assert_allclose([np.linalg.norm(reader.coef_) for reader in draws], 1)
    np.testing.assert_array_equal(draws[3].coef_, RandomDirection(draw=3).fit(rows, 1 - y).coef_)
    assert draws[0].decision_function(rows).mean() == pytest.approx(0)


def test_shuffled_labels_permute_and_nothing_else() -> None:
    rows, y = hidden_states(60, 10)
    honest = Logistic(C=0.1).fit(rows, y)
    null = [ShuffledLabels(C=0.1, seed=seed).fit(rows, y) for seed in (0, 1)]
    assert abs(null[0].coef_ - null[1].coef_).max() > 1e-3
    assert abs(null[0].coef_ - honest.coef_).max() > 1e-3
    assert null[0].predict_proba(rows)[:, 1].mean() == pytest.approx(y.mean())  # as many positives as before
    draws = [ShuffledLabels(C=0.1, draw=draw).fit(rows, y).coef_ for draw in range(3)]
    assert all(abs(draws[i] - draws[j]).max() > 1e-3 for i in range(3) for j in range(i))
    assert ShuffledLabels.grid() == [{}]  # nothing to tune


def test_majority_by_hand(twelve: Twelve) -> None:
    rows, y = twelve
    reader = Majority().fit(rows[:9], y[:9])
    assert reader.decision_function(rows).tolist() == pytest.approx([np.log(2)] * 12)
    assert reader.predict_proba(rows)[0].tolist() == pytest.approx([1 / 3, 2 / 3])


def test_prompting_returns_what_the_model_said() -> None:
    answers = np.array([[1.0, -2.0], [-3.0, 4.0]])
    assert Prompting().fit(answers, [0, 1]).decision_function(answers).tolist() == [
        1,
        -3,
    ]  # wrong way round, and kept so
    assert Prompting(column="few_shot").fit(answers, [1, 0]).decision_function(answers).tolist() == [-2, 4]
    with pytest.raises(UserError, match="zero_shot and few_shot, not 'both'"):
        Prompting(column="both").fit(answers, [0, 1])
    with pytest.raises(UserError, match="no column few_shot"):
        Prompting(column="few_shot").fit(answers[:, :1], [0, 1])


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (Logistic(C=0), "C must be positive, got 0"),
        (Logistic(split=4), "split=4 must lie inside the 4 columns"),
        (Ridge(alpha=0), "alpha must be positive, got 0"),
        (Lda(shrinkage=1.5), r"shrinkage must lie in \(0, 1\], got 1.5"),
        (KSparse(k=0), "k must be at least 1, got 0"),
    ],
)
def test_impossible_parameters_are_named(reader: Any, message: str, twelve: Twelve) -> None:
    with pytest.raises(UserError, match=message):
        reader.fit(*twelve)
