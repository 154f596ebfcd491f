"""Tuning by hand: scripted scores with a known winner, ties, costs; no row is scored by a reader that saw it."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

from theodolite.core.errors import UserError
from theodolite.core.methods import Method, parse
from theodolite.core.reader import Reader
from theodolite.study.tune import Platt, fit_platt, ties, tune


class Scripted(Reader):
    """Scores with column `column` of the rows; remembers the rows it was fitted on."""

    def __init__(self, column: int = 0, seed: int = 0) -> None:
        self.column = column
        self.seed = seed

    @classmethod
    def grid(cls, **fixed: Any) -> list[dict[str, Any]]:
        return [{"column": column} for column in range(3)]

    def _fit(self, rows: Any, target_n: np.ndarray) -> None:
        self.seen_ = rows[:, -1]

    def _scores(self, rows: Any) -> np.ndarray:
        return np.where(np.isin(rows[:, -1], self.seen_), np.nan, rows[:, self.column])


class Native(Scripted):
    log_odds = True


def method(cls: type, **params: Any) -> Method:
    return Method("scripted", "scripted", cls, params, cls.view)


def scripted_rows(*columns: np.ndarray) -> np.ndarray:
    return np.column_stack([*columns, np.arange(len(columns[0]))])


Y = np.arange(60) % 2
FOLDS = np.arange(60) // 2 % 3
NOISE = np.random.default_rng(0).normal(size=(3, 60))


def test_the_best_column_wins_and_the_fits_are_counted() -> None:
    tuned = tune(method(Scripted), scripted_rows(NOISE[0], Y + 0.1 * NOISE[1], NOISE[2]), Y, FOLDS)
    assert tuned.params == {"column": 1}
    assert tuned.n_fits == 3 * 3 + 1
    assert [row.tied for row in tuned.table] == [False, True, False]
    assert tuned.cv_log_loss == tuned.table[1].log_loss == min(row.log_loss for row in tuned.table)


def test_no_row_is_scored_by_a_reader_that_saw_it() -> None:
    column = Y + NOISE[0]
    tuned = tune(method(Scripted), scripted_rows(column, NOISE[1], NOISE[2]), Y, FOLDS)
    np.testing.assert_array_equal(tuned.out_of_fold_n, column)  # a seen row would be nan
    assert len(tuned.estimator.seen_) == 60  # and the last fit is on all rows


def test_within_one_standard_error_the_simpler_wins() -> None:
    column = Y + NOISE[0]
    nearly = column + 0.02 * NOISE[1]
    assert tune(method(Scripted), scripted_rows(nearly, column, column), Y, FOLDS).params == {"column": 0}
    assert tune(method(Scripted), scripted_rows(NOISE[2], nearly, column), Y, FOLDS).params == {"column": 1}


def test_ties_by_hand() -> None:
    # excess of row 0 over row 1: mean .1, deviation .1, so its standard error over 4 rows is .05: not a tie
    assert ties(np.array([[0.2, 0.4, 0.2, 0.4], [0.2, 0.2, 0.2, 0.2]])).tolist() == [False, True]
    # mean .1, deviation .3, standard error .15: a tie
    assert ties(np.array([[0.6, 0.0, 0.6, 0.0], [0.2, 0.2, 0.2, 0.2]])).tolist() == [True, True]


def test_readers_with_log_odds_are_judged_like_all_others() -> None:
    """Ten times too sure is no worse once rescaled, whoever said it."""
    fair = 2 * (2 * Y - 1) + 2 * NOISE[0]
    rows = scripted_rows(10 * fair, fair, np.zeros(60))
    rescaled, native = tune(method(Scripted), rows, Y, FOLDS), tune(method(Native), rows, Y, FOLDS)
    assert rescaled.params == native.params == {"column": 0}
    assert rescaled.table[0].log_loss == pytest.approx(rescaled.table[1].log_loss, abs=1e-6)
    assert native.cv_log_loss == pytest.approx(rescaled.cv_log_loss)


def test_probabilities_are_platts() -> None:
    rows = scripted_rows(2 * Y - 1 + NOISE[0], NOISE[1], NOISE[2])
    fresh = rows + np.array([0, 0, 0, 1000])
    tuned, native = tune(method(Scripted), rows, Y, FOLDS), tune(method(Native), rows, Y, FOLDS)
    np.testing.assert_allclose(tuned.probability(fresh), tuned.platt(rows[:, 0]))
    np.testing.assert_allclose(native.probability(fresh), tuned.probability(fresh))


def test_platt_is_scikit_learns_logistic_regression_on_the_smoothed_targets() -> None:
    score_n = 5 + 3 * (Y + NOISE[0])
    positive = np.where(Y == 1, 31 / 32, 1 / 32)
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10000).fit(
        np.tile(score_n, 2)[:, None], np.repeat([1, 0], 60), sample_weight=np.concatenate([positive, 1 - positive])
    )
    platt = fit_platt(score_n, Y)
    assert platt.slope == pytest.approx(reference.coef_[0, 0], rel=1e-4)
    assert platt.intercept == pytest.approx(reference.intercept_[0], rel=1e-4)


def test_platt_learns_no_sign() -> None:
    backwards = fit_platt(-1.0 * Y, Y)
    assert backwards == Platt(0.0, pytest.approx(0.0))
    assert fit_platt(np.zeros(60), np.arange(60) < 20).slope == 0
    assert fit_platt(np.zeros(60), np.arange(60) < 20)(np.zeros(1))[0] == pytest.approx(1 / 3, abs=0.02)


def test_fixed_parameters_stay_fixed_and_seeds_arrive() -> None:
    rows = np.random.default_rng(1).normal(size=(60, 30))
    tuned = tune(parse("k_sparse(k=2)"), sp.csr_matrix(rows), Y, FOLDS)
    assert tuned.params["k"] == 2
    assert len(tuned.estimator.latents_) == 2
    assert tuned.n_fits == 37
    one, other = (tune(parse("lat"), rows, Y, FOLDS, seed=seed).estimator for seed in (1, 2))
    assert (one.seed, other.seed) == (1, 2)
    assert abs(one.direction_ @ other.direction_) < 0.99
    assert tune(parse("lat(seed=7)"), rows, Y, FOLDS, seed=1).estimator.seed == 7


def test_labels_may_be_words_and_texts_may_be_a_list() -> None:
    texts = ["a red one", "the blue one"] * 30
    tuned = tune(parse("word_ngrams"), texts, np.array(["no", "yes"])[Y], FOLDS)
    assert tuned.estimator.predict(["blue"]).tolist() == ["yes"]


@pytest.mark.parametrize(
    ("y", "folds", "message"),
    [
        (np.zeros(60), FOLDS, "two classes"),
        (Y, FOLDS[:-1], "equally many"),
        (Y, np.zeros(60), "at least 2 folds"),
        (Y, Y, "without fold 0 the training rows have one class"),
    ],
)
def test_what_cannot_be_tuned_is_said(y: np.ndarray, folds: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        tune(method(Scripted), scripted_rows(*NOISE), y, folds)
