"""A file sorted by label inside its groups: which row of a group certifies must not follow the order of rows."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from theodolite.calibration._selected import one_of_each
from theodolite.calibration.certified import Certified, cells
from theodolite.calibration.max_softmax import MaxSoftmax

ALPHA = 0.9


def data(rng: np.random.Generator, n: int, ordered: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups, half of which are one positive row with three negative ones; `ordered`: the positive one first."""
    labels = [[1, 0, 0, 0] if k % 2 else [0] for k in range(n)]
    y = np.concatenate([of if ordered else rng.permutation(of) for of in labels])
    group = np.repeat(np.arange(n), [len(of) for of in labels])
    x = rng.normal(size=(len(y), 3))
    x[:, 0] += np.where(y == 1, 1.7, -1.4)
    return x, y, group


def least_true_accuracy(draw: int) -> float:
    """The lowest of the four conditional accuracies of what is accepted of fresh rows; 1 without a certificate."""
    rng = np.random.default_rng(draw)
    X, y, group = data(rng, 2400, ordered=True)
    fresh, truth, _ = data(rng, 8000, ordered=False)
    part = np.array(["support", "calibrate", "certify"], object)[rng.integers(0, 3, group.max() + 1)][group]
    probe = MaxSoftmax(LogisticRegression(class_weight="balanced"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rule = Certified(probe, alpha=ALPHA).fit(X, y, groups=group, part=part)
    found = rule.predictions(fresh, truth)
    accepted = found.confidence_n >= rule.threshold_
    return min(right / n if n else 1.0 for right, n in cells(found, accepted))


def test_the_promise_holds_in_a_file_sorted_by_label() -> None:
    assert all(least_true_accuracy(draw) >= ALPHA for draw in range(5))  # 0 of 5 before


@pytest.mark.slow
def test_the_promise_holds_in_thirty_such_files() -> None:
    assert sum(least_true_accuracy(draw) < ALPHA for draw in range(30)) <= 6  # delta is .1: more than 6 has p = .03


def test_the_row_of_a_group_does_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(0)
    X, y, group = data(rng, 400, ordered=True)
    shuffled = rng.permutation(len(y))
    one = one_of_each(X, y, group, seed=3)
    other = one_of_each(X[shuffled], y[shuffled], group[shuffled], seed=3)
    assert sorted(map(tuple, X[one])) == sorted(map(tuple, X[shuffled][other]))
    assert len(one) == 400
    assert len(np.unique(group[one])) == 400
    assert not np.array_equal(one, one_of_each(X, y, group, seed=4))


def test_every_row_of_a_group_is_as_likely() -> None:
    """Of [positive, three negatives] a quarter of the draws is positive, and three equal rows count three times."""
    y = np.array([1, 0, 0, 0])
    apart, equal = np.arange(4.0)[:, None], np.array([[0.0], [1.0], [1.0], [1.0]])
    for rows in (apart, equal):
        positive = [y[one_of_each(rows, y, np.zeros(4, int), seed)][0] for seed in range(2000)]
        assert np.mean(positive) == pytest.approx(0.25, abs=0.03)


def test_equal_rows_with_both_labels_are_one_group_and_drawn_by_no_label() -> None:
    """Without groups equal rows are one: sorted by label, the first of each pair would always be negative."""
    rows = np.repeat(np.arange(400.0), 2)[:, None]
    y = np.tile([0, 1], 400)
    drawn = y[one_of_each(rows, y, np.repeat(np.arange(400), 2), seed=0)]
    assert 0.4 < drawn.mean() < 0.6
