import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_rows import frame_of

from theodolite.data.splits import PARTS, SHARES, folds, one_of_each_cluster, split


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    """Rows in clusters of 1 to 6, each cluster of one label and source or mixed."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    sizes = rng.integers(1, draw(st.integers(2, 7)), size=draw(st.integers(20, 80)))
    n = int(sizes.sum())
    cluster = np.repeat(rng.permutation(len(sizes)), sizes)
    mixed = draw(st.booleans())
    label = rng.integers(0, 2, n if mixed else len(sizes))
    source = rng.choice(["a", "b", "c"], n if mixed else len(sizes), p=[0.6, 0.3, 0.1])
    if not mixed:
        label, source = np.repeat(label, sizes), np.repeat(source, sizes)
    return frame_of([f"text {i}" for i in range(n)], label.tolist(), source.tolist(), cluster)


@settings(max_examples=40, deadline=None)
@given(frames(), st.integers(0, 5))
def test_no_cluster_stands_in_two_parts(frame: pd.DataFrame, seed: int) -> None:
    for part in (split(frame, seed), folds(frame, 3, seed)):
        assert pd.Series(part).groupby(frame["cluster"].to_numpy()).nunique().max() == 1


@settings(max_examples=40, deadline=None)
@given(frames(), st.integers(0, 5))
def test_shares_are_met_to_a_few_clusters(frame: pd.DataFrame, seed: int) -> None:
    part = split(frame, seed)
    largest = frame["cluster"].value_counts().max()
    for name, share in zip(PARTS, SHARES, strict=True):
        assert abs((part == name).sum() - share * len(frame)) <= 2 * largest + 6  # 6 strata, each rounded by under 1


@settings(max_examples=20, deadline=None)
@given(frames(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_and_the_names_of_the_clusters_play_no_role(frame: pd.DataFrame, random: object) -> None:
    order = list(range(len(frame)))
    random.shuffle(order)
    shuffled = frame.iloc[order].assign(cluster=lambda f: 1000 - f["cluster"])
    np.testing.assert_array_equal(split(shuffled, 3), split(frame, 3)[order])
    np.testing.assert_array_equal(folds(shuffled, 3, 3), folds(frame, 3, 3)[order])


def singles(n: int) -> pd.DataFrame:
    return frame_of([f"text {i}" for i in range(n)], [0, 1] * (n // 2), ["a", "a", "b", "b"] * (n // 4))


def test_single_rows_fill_every_stratum_exactly() -> None:
    frame = singles(400)
    table = pd.crosstab([frame["label"], frame["source"]], split(frame, 0))
    assert (table[list(PARTS)].to_numpy() == [50, 15, 15, 20]).all()
    assert (pd.crosstab([frame["label"], frame["source"]], folds(frame, 4, 0)).to_numpy() == 25).all()


def test_seeds_differ_and_repeat() -> None:
    frame = singles(400)
    assert (split(frame, 0) == split(frame, 0)).all()
    assert (split(frame, 0) != split(frame, 1)).mean() > 0.3


def test_a_row_alone_in_its_stratum_goes_to_each_part_in_its_share() -> None:
    frame = frame_of([f"text {i}" for i in range(41)], [0] * 41, ["rare"] + ["common"] * 40)
    parts = [split(frame, seed)[0] for seed in range(250)]
    for name, share in zip(PARTS, SHARES, strict=True):
        assert np.mean([part == name for part in parts]) == pytest.approx(share, abs=0.1)  # 3 standard errors


def test_the_row_that_stands_for_a_cluster_does_not_follow_the_order_of_the_file() -> None:
    frame = frame_of([f"text {i}" for i in range(60)], [0, 1] * 30, cluster=np.arange(60) // 5)
    rng, at = np.random.default_rng(0), np.arange(60)
    first = frame["hash"].iloc[one_of_each_cluster(frame, at)]
    assert first.tolist() == frame.groupby("cluster", sort=False)["hash"].min().tolist()
    for _ in range(5):
        shuffled = frame.iloc[rng.permutation(60)].reset_index(drop=True)
        found = one_of_each_cluster(shuffled, at)
        assert set(shuffled["hash"].iloc[found]) == set(first)
        assert (np.diff(found) > 0).all()
