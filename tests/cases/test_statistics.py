"""Statistics: the cases of shared/cases/statistics and 16-all-rows-one-group, by the law behind each."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from case_kit import QUICK, model_folder, table, theodolite

import theodolite as package
from theodolite.core.errors import UserError
from theodolite.core.training_sets import TrainingSets
from theodolite.data.splits import PARTS, dominant, require_splittable, split

ZIPF = [int(300 / (k + 1)) + 1 for k in range(60)]
EIGHT = [200, 120, 80, 60, 50, 40, 30, 20]


def pool(sizes: list[int], seed: int = 0) -> pd.DataFrame:
    """Rows in groups of these sizes, both labels in every group of more than a few."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    hashes = [f"{v:016x}" for v in rng.integers(1 << 60, size=len(group))]
    return pd.DataFrame({"hash": hashes, "cluster": group, "label": rng.integers(0, 2, len(group)), "source": "s"})


def shared(frame: pd.DataFrame, seeds: int = 10) -> TrainingSets:
    train = np.array([split(frame, seed) == PARTS[0] for seed in range(seeds)])
    return TrainingSets.measured(train, frame["cluster"].to_numpy(), frame["label"].to_numpy(), dominant(frame))


def test_training_sets_of_a_few_unequal_groups_are_not_one_set() -> None:
    """topicgrp.py: five seeds gave one training set and one test set."""
    frame = pool(EIGHT)
    parts = [split(frame, seed) for seed in range(5)]
    for name in ("train", "test"):
        assert len({tuple(frame["cluster"][part == name].unique()) for part in parts}) >= 4, name
    assert "effective groups" in shared(frame).reason  # and eight are too few for an interval


@pytest.mark.parametrize("sizes", [[1] * 600, ZIPF, [30] * 20, [80] * 5 + [1] * 200])
def test_half_of_a_training_set_is_shared_whatever_the_groups(sizes: list[int]) -> None:
    """overlap.py: .54 to 1.00 was shared where .5 was assumed, and the largest groups were never tested."""
    found = shared(pool(sizes), seeds=20)
    assert found.overlap == pytest.approx(0.5, abs=0.05)
    assert found.reason == ""
    frame = pool(sizes)
    tested = np.mean([split(frame, seed)[0] == "test" for seed in range(200)])  # row 0 lies in the largest group
    assert 0.1 < tested < 0.35


def test_one_dominant_group_is_always_trained_on_and_said_so() -> None:
    frame = pool([240] + [1] * 360)
    assert (frame["cluster"][dominant(frame)] == 0).all()
    for seed in range(3):
        part = split(frame, seed)
        assert (part[:240] == "train").all()
        assert np.mean(part[240:] == "test") == pytest.approx(0.2, abs=0.01)
    found = shared(frame)
    assert (found.fixed, found.fixed_share, found.reason) == (1, 0.4, "")
    assert found.groups > 150
    assert "40% of the rows, always trained on and never tested" in found.scope


def test_identical_training_sets_have_no_interval() -> None:
    member = np.tile(np.arange(40) < 20, (5, 1))
    found = TrainingSets.measured(member, np.arange(40), np.arange(40) % 2, np.zeros(40, bool))
    assert found.reason == "all training sets hold the same rows"


@pytest.mark.parametrize(
    ("column", "cause"),
    [
        ("constant", "all 120 rows belong to one group, and one group cannot be split"),
        ("label", "every group holds one class and every class is one group"),
    ],
)
def test_groups_that_cannot_be_split_are_refused_with_the_cause(column: str, cause: str, tmp_path: Path) -> None:
    """Case 16: a ZeroDivisionError, and an advice that would not help."""
    table().assign(constant="x").to_csv(tmp_path / "mine.csv", index=False)
    ended = theodolite(
        "compare",
        tmp_path / "mine.csv",
        "--group",
        column,
        "--model",
        model_folder(tmp_path / "model"),
        *QUICK,
        "--out",
        tmp_path / "run",
    )
    assert ended.code != 0
    assert cause in " ".join(ended.stderr.split())


def test_a_part_without_a_class_is_refused() -> None:
    """templ2.csv: three clusters, and a division by zero."""
    frame = pool([130, 140, 130])
    frame["label"] = (frame["cluster"] > 0).astype(int)
    with pytest.raises(UserError, match="hold one class only: groups by label are"):
        require_splittable(frame, 5)


def documents(noise: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """arr.py: 40 documents of 10 rows; the label is the document's, and pure noise."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 10)
    y = rng.integers(0, 2, 40)[group]
    return (rng.normal(size=(40, 30))[group] + noise * rng.normal(size=(400, 30))).astype(np.float32), y, group


def compared(X: Any, y: Any, out: Path, **options: Any) -> Any:
    return package.compare((X, y), methods=["logistic", "difference_in_means", "majority"], out=out, **options)


def level(result: Any, method: str = "logistic", metric: str = "auroc") -> pd.Series:
    rows = result.run.rows
    return rows[
        (rows.method == method) & (rows.metric == metric) & (rows.seed == "all") & (rows.task == "matched")
    ].iloc[0]


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Any:
    X, y, group = documents()
    return compared(X, y, tmp_path_factory.mktemp("grouped") / "run", groups=group)


def test_given_rows_in_groups_hold_chance(grouped: Any) -> None:
    row = level(grouped)
    assert row.lo < 0.5 < row.hi
    assert row.n_groups <= 40
    assert not [note for note in grouped.run.notes if note["kind"] == "repeated"]


def test_repeated_rows_without_groups_are_warned_of(tmp_path: Path) -> None:
    X, y, _ = documents()
    found = compared(X, y, tmp_path / "run")
    assert level(found).lo > 0.5  # what was printed without a word
    (note,) = [note for note in found.run.notes if note["kind"] == "repeated"]
    assert note["count"] > 300
    assert "give groups=" in note["text"]


def test_independent_rows_are_not_warned_of(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    found = compared(rng.normal(size=(120, 30)), np.arange(120) % 2, tmp_path / "run")
    assert not [note for note in found.run.notes if note["kind"] == "repeated"]


def test_the_order_of_given_rows_plays_no_role(grouped: Any, tmp_path: Path) -> None:
    X, y, group = documents()
    order = np.random.default_rng(1).permutation(len(y))
    again = compared(X[order], y[order], tmp_path / "run", groups=[f"document {g}" for g in group[order]])
    for method, metric in (("logistic", "auroc"), ("difference_in_means", "brier")):
        one, other = level(grouped, method, metric), level(again, method, metric)
        np.testing.assert_allclose([one.value, one.lo, one.hi], [other.value, other.lo, other.hi], rtol=1e-5)


def test_a_constant_score_has_no_interval(grouped: Any) -> None:
    row = level(grouped, "majority")
    assert (row.value, np.isnan(row.lo), np.isnan(row.hi)) == (0.5, True, True)


def test_given_groups_must_be_as_many_as_rows(tmp_path: Path) -> None:
    X, y, group = documents()
    with pytest.raises(UserError, match="groups must name the group of each row of X: got 399 for 400 rows"):
        compared(X, y, tmp_path / "run", groups=group[1:])
