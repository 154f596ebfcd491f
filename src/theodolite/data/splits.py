"""Whole near-duplicate clusters into parts, stratified by label x source: train, calibrate, certify, test; folds."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from theodolite.core.bootstrap import effective_groups
from theodolite.core.errors import UserError
from theodolite.core.seeds import generator
from theodolite.core.training_sets import FEWEST_TRAINING_GROUPS

PARTS = ("train", "calibrate", "certify", "test")
SHARES = (0.5, 0.15, 0.15, 0.2)
FOLDS = 3  # of the cross-validation that tunes a method
DOMINANT = 0.25  # of the rows of a class: a cluster larger than this is always trained on


def split(frame: pd.DataFrame, seed: int, shares: Sequence[float] = SHARES) -> np.ndarray:
    """The part of each row: an array of "train", "calibrate", "certify" and "test".

    Rows of one cluster are never in two parts. Inside each label x source stratum a part's share is missed by at most
    about the largest cluster. The order of the rows plays no role. A cluster of any size is tested in its turn, except
    dominant ones, which all training sets hold; the shares are then those of the other rows.
    """
    frame = frame.reset_index(drop=True)
    free, part = ~dominant(frame), np.zeros(len(frame), dtype=np.int64)
    part[free] = _assign(frame[free], generator(seed, "split"), np.asarray(shares, dtype=float), _drawn)
    return np.array(PARTS)[part]


def dominant(frame: pd.DataFrame) -> np.ndarray:
    """Return which rows (n,) belong to a cluster that holds more than a quarter of a class.

    One draw of such a cluster decides what a training set is, so that no number of seeds tells what another one would
    change: it is trained on always, and figures are for the other clusters. None is dominant where the others are
    fewer than an interval needs; all clusters are dealt alike then.
    """
    cluster, label = frame["cluster"].to_numpy(), frame["label"].to_numpy()
    large = np.zeros(len(frame), bool)
    for value in np.unique(label):
        names, size = np.unique(cluster[label == value], return_counts=True)
        large |= np.isin(cluster, names[size > DOMINANT * size.sum()])
    others = [effective_groups(cluster[~large & (label == value)]) for value in np.unique(label)]
    return large if min(others, default=0) >= FEWEST_TRAINING_GROUPS else np.zeros(len(frame), bool)


def require_splittable(frame: pd.DataFrame, seeds: int) -> None:
    """Refuse rows that whole groups cannot divide into training and test rows of both classes, and say why."""
    n_clusters, labels = frame["cluster"].nunique(), frame["label"].nunique()
    if n_clusters == 1:
        raise UserError(
            f"all {len(frame)} rows belong to one group, and one group cannot be split: use a group column with more "
            "values, or none"
        )
    if (frame.groupby("cluster")["label"].nunique() == 1).all() and n_clusters == labels:
        raise UserError(
            "every group holds one class and every class is one group, so that no class can be both trained on and "
            "tested: use another group column, or none"
        )
    for seed in range(seeds):
        part = split(frame, seed)
        for name in (PARTS[0], PARTS[-1]):
            if frame["label"][part == name].nunique() < labels:
                counts = frame.groupby("label")["cluster"].nunique().to_dict()
                raise UserError(
                    f"the {name} rows of training set {seed} hold one class only: groups by label are {counts}, and "
                    "whole groups are too few or too unequal to give every part both classes: use a finer group "
                    "column, or none"
                )


def folds(frame: pd.DataFrame, n: int = FOLDS, seed: int = 0) -> np.ndarray:
    """The cross-validation fold (0 .. n-1) of each row, by the same rules."""
    return _assign(frame, generator(seed, "folds", n), np.full(n, 1 / n), _neediest)


def one_of_each_cluster(frame: pd.DataFrame, at: np.ndarray) -> np.ndarray:
    """Return, of these row numbers, ascending, the one with the smallest hash of each near-duplicate cluster."""
    kept = frame.iloc[at].assign(at=at).sort_values("hash", kind="stable").drop_duplicates("cluster")
    return np.sort(kept["at"].to_numpy())


def _assign(
    frame: pd.DataFrame,
    rng: np.random.Generator,
    shares: np.ndarray,
    choose: Callable[[np.ndarray, float, np.random.Generator], int],
) -> np.ndarray:
    """Part number of each row: clusters in random order, big ones first, each to the part that `choose` names."""
    if not len(frame):
        return np.zeros(0, dtype=np.int64)
    cluster, sizes = _cluster_table(frame)
    wanted = _quotas(sizes.sum(axis=0), shares, rng)
    part = np.empty(len(sizes), dtype=np.int64)
    shuffled = rng.permutation(len(sizes))
    for c in shuffled[np.argsort(-sizes[shuffled].sum(axis=1), kind="stable")]:
        part[c] = choose(wanted @ sizes[c], float(sizes[c] @ sizes[c]), rng)
        wanted[part[c]] -= sizes[c]
    return part[cluster]


def _cluster_table(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(cluster number of each row, rows of each cluster in each stratum); clusters sorted by their smallest hash."""
    first_hash = frame["hash"].groupby(frame["cluster"].to_numpy()).transform("min")
    cluster = np.unique(first_hash.to_numpy(dtype=str), return_inverse=True)[1]
    strata = frame["label"].astype(str).to_numpy() + "\0" + frame["source"].to_numpy(dtype=str)
    stratum = np.unique(strata, return_inverse=True)[1]
    sizes = np.zeros((cluster.max() + 1, stratum.max() + 1))
    np.add.at(sizes, (cluster, stratum), 1)
    return cluster, sizes


def _quotas(totals: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whole rows wanted of each part (rows) in each stratum (columns), rounded at random so that no part is favoured.

    Plain rounding would send every stratum of one row to the training part.
    """
    borders = np.cumsum(shares / shares.sum())[:, None] * totals + rng.random(len(totals))
    borders[-1] = totals + 0.5
    return np.diff(np.floor(borders), axis=0, prepend=0)


def _neediest(lack: np.ndarray, size: float, rng: np.random.Generator) -> int:
    """The part that lacks this cluster most."""
    best = np.flatnonzero(lack == lack.max())
    return int(best[0] if len(best) == 1 else rng.choice(best))


def _drawn(lack: np.ndarray, size: float, rng: np.random.Generator) -> int:
    """A part drawn by what it lacks, among those that lack at least half of this cluster.

    The neediest part would be the training part of every seed for a large cluster, which then is never tested and in
    which no two training sets differ. A single row goes to the neediest: its place in the order is random already.
    """
    room = np.where(lack >= size / 2, lack, 0.0)
    if size == 1 or not room.any():
        return _neediest(lack, size, rng)
    return int(rng.choice(len(lack), p=room / room.sum()))
