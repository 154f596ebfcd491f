"""Exact, whatever the order of rows or the number of queries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theodolite.calibration import _neighbours
from theodolite.calibration._neighbours import Neighbours, by_faiss, by_scikit


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 5), st.integers(1, 80))
def test_neighbours_are_those_of_all_distances_sorted(seed: int, m: int, d: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    support, rows = rng.integers(-2, 3, (m, d)).astype(float), rng.integers(-2, 3, (7, d)).astype(float)
    distance, index = Neighbours(support).nearest(rows, k)
    every = ((rows[:, None] - support[None]) ** 2).sum(2)
    assert distance.shape == index.shape == (7, min(k, m))
    assert (distance == np.sort(every, axis=1)[:, :k]).all()
    assert (index == np.lexsort((np.broadcast_to(np.arange(m), every.shape), every), axis=1)[:, :k]).all()


def test_a_support_row_is_not_its_own_neighbour_but_its_double_is() -> None:
    rows = np.array([[0.0], [5.0], [0.0], [9.0]])
    distance, index = Neighbours(rows).nearest(rows, 1, itself=True)
    assert index[:, 0].tolist() == [2, 3, 0, 1]
    assert distance[:, 0].tolist() == [0, 16, 0, 16]


def test_equal_rows_are_exactly_0_apart_though_products_round() -> None:
    rows = np.random.default_rng(0).normal(size=(300, 576)) * 1e3
    distance, index = Neighbours(rows).nearest(rows, 1)
    assert (index[:, 0] == np.arange(300)).all()
    assert (distance == 0).all()


def test_asking_one_by_one_gives_the_same() -> None:
    rng = np.random.default_rng(0)
    support, rows = Neighbours(rng.normal(size=(500, 64))), rng.normal(size=(40, 64))
    distance, index = support.nearest(rows, 32)
    singles = [support.nearest(row[None], 32) for row in rows]
    assert (np.concatenate([s[0] for s in singles]) == distance).all()
    assert (np.concatenate([s[1] for s in singles]) == index).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("away", [0.0, 1e4])
def test_faiss_and_scikit_learn_find_the_same_neighbours(monkeypatch, dtype: type, away: float) -> None:
    """Far from the origin float32 products say little: what they cannot tell is asked of all rows."""
    rng = np.random.default_rng(0)
    support, rows = (away + rng.normal(size=(n, 8)) for n in (5000, 50))
    support[100:200] = support[0]  # more equal rows than there are spare candidates
    rows[0] = support[0]
    rows, support = rows.astype(dtype), support.astype(dtype)
    ours = Neighbours(support).nearest(rows, 32)
    assert len(support) >= _neighbours._LARGE
    monkeypatch.setattr(_neighbours, "by_faiss", lambda _: None)
    theirs = Neighbours(support).nearest(rows, 32)
    every = ((rows.astype(float)[:, None] - support.astype(float)[None]) ** 2).sum(2)
    assert (ours[1] == theirs[1]).all()
    assert (ours[0] == theirs[0]).all()
    assert (ours[1] == np.argsort(every, axis=1, kind="stable")[:, :32]).all()
    assert ours[1][0].tolist() == [0, *range(100, 131)]


def test_the_searches_are_two() -> None:
    rows = np.random.default_rng(0).normal(size=(100, 4))
    (one, far), (other, also_far) = (search(rows[:1], 5) for search in (by_faiss(rows), by_scikit(rows)))
    assert one[0].tolist() == other[0].tolist()
    assert far == pytest.approx(also_far, rel=1e-5)


def test_of_equal_distances_the_lower_index_wins_whoever_the_search_found() -> None:
    """A search may find any of many equal rows; what ties with them is asked of all rows."""
    support = Neighbours(np.repeat([[0.0], [5.0]], [100, 20], axis=0))

    def from_the_end(rows: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        return np.tile(np.arange(99, 99 - n, -1), (len(rows), 1)), np.zeros(len(rows))

    support._search = from_the_end
    assert support.nearest(np.zeros((2, 1)), 5)[1].tolist() == [[0, 1, 2, 3, 4]] * 2
