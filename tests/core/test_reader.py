"""The reader contract: what is checked before a method sees a row, and what its tags tell."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from theodolite.core.errors import UserError
from theodolite.core.reader import VIEWS, LinearReader, Reader, class_means
from theodolite.readers.difference_in_means import DifferenceInMeans
from theodolite.readers.logistic import Logistic
from theodolite.readers.random_direction import RandomDirection
from theodolite.readers.word_ngrams import WordNgrams

ROWS = [[0.0, 1.0], [0.0, 3.0], [2.0, 1.0], [2.0, 3.0]]


class Seen(Reader):
    """Keeps what it was given."""

    def _fit(self, rows: Any, target_n: np.ndarray) -> None:
        self.rows_, self.target_ = rows, target_n

    def _scores(self, rows: Any) -> np.ndarray:
        return rows[:, 0].astype(np.float32)


def test_the_larger_label_is_the_positive_class() -> None:
    assert Seen().fit(ROWS, ["safe", "harmful", "safe", "safe"]).target_.tolist() == [1, 0, 1, 1]
    assert Seen().fit(ROWS, [False, True, True, False]).target_.tolist() == [0, 1, 1, 0]
    assert Seen().fit(pd.DataFrame(ROWS, columns=["a", "b"]), pd.Series([5, 7, 7, 5])).classes_.tolist() == [5, 7]


def test_scores_become_float64_and_predictions_labels() -> None:
    reader = Seen().fit(ROWS, ["no", "no", "yes", "yes"])
    assert reader.decision_function(ROWS).dtype == np.float64
    assert reader.predict(ROWS).tolist() == ["no", "no", "yes", "yes"]  # a score of 0 is not above 0
    assert not hasattr(reader, "predict_proba")


def test_tags_say_what_a_reader_takes_and_claims() -> None:
    assert Logistic().__sklearn_tags__().input_tags.sparse
    assert not Seen().__sklearn_tags__().input_tags.sparse
    assert WordNgrams().__sklearn_tags__().input_tags.string
    assert not WordNgrams().__sklearn_tags__().input_tags.two_d_array
    assert RandomDirection().__sklearn_tags__().classifier_tags.poor_score
    assert not Seen().__sklearn_tags__().classifier_tags.multi_class
    assert {"state", "text", "latents", "control", "state+latents", "answer"} <= set(VIEWS)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (ROWS, [1, 1, 1, 1], "needs rows of two classes, got 1 class: .*1"),
        (ROWS, [0, 1, 2, 0], "Only binary classification is supported"),
        (ROWS, [0, 1, 1], "4 rows and 3 labels"),
        (ROWS, [0, 1, np.nan, 1], "Input y contains NaN"),
        ([[np.nan, 1.0], *ROWS[1:]], [0, 1, 0, 1], "Seen: Input X contains NaN"),
        ([[np.inf, 1.0], *ROWS[1:]], [0, 1, 0, 1], "Seen: Input X contains infinity"),
        (np.empty((0, 2)), [], "Found array with 0 sample"),
    ],
)
def test_what_cannot_be_fitted_is_named(X: Any, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Seen().fit(X, y)


def test_sparse_rows_are_refused_unless_claimed() -> None:
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        Seen().fit(sp.csr_array(ROWS), [0, 1, 0, 1])


def test_a_width_that_changed_is_named() -> None:
    with pytest.raises(UserError, match="X has 1 features, but Seen is expecting 2 features"):
        Seen().fit(ROWS, [0, 1, 0, 1]).decision_function([[1.0]])


@pytest.mark.parametrize("cls", [Reader, LinearReader])
def test_a_reader_without_a_body_says_what_is_missing(cls: type[Reader]) -> None:
    with pytest.raises(TypeError, match=r"must define _fit\(rows, target_n\)"):
        cls().fit(ROWS, [0, 1, 0, 1])


def test_direction_is_a_unit_vector_or_zero() -> None:
    assert DifferenceInMeans().fit(ROWS, [0, 0, 1, 1]).direction_.tolist() == [1, 0]
    assert DifferenceInMeans().fit(ROWS, [0, 1, 0, 1]).direction_.tolist() == [0, 1]
    assert DifferenceInMeans().fit(ROWS, [0, 1, 1, 0]).direction_.tolist() == [0, 0]
    assert not hasattr(DifferenceInMeans(), "direction_")


def test_fit_path_is_fit_for_each() -> None:
    path = RandomDirection().fit_path(ROWS, [0, 1, 0, 1], [{"draw": 4}, {"draw": 5}])
    alone = [RandomDirection(draw=draw).fit(ROWS, [0, 1, 0, 1]) for draw in (4, 5)]
    assert [reader.coef_.tolist() for reader in path] == [reader.coef_.tolist() for reader in alone]


def test_class_means_of_single_precision_rows_are_not_rounded() -> None:
    rows = np.full((4000, 1), 2049.0, dtype=np.float32)
    rows[::2] += 1 / 16
    for kind in (np.asarray, sp.csr_matrix, sp.csr_array):
        negative_d, positive_d = class_means(kind(rows), np.arange(4000) % 2)
        assert negative_d == pytest.approx([2049.0625], rel=1e-12)
        assert positive_d == pytest.approx([2049.0], rel=1e-12)
