"""Whole near-duplicate clusters into parts, stratified by label x source: train, calibrate, certify, test; folds."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from theodolite.core.seeds import generator

PARTS = ("train", "calibrate", "certify", "test")
SHARES = (0.5, 0.15, 0.15, 0.2)


def split(frame: pd.DataFrame, seed: int, shares: Sequence[float] = SHARES) -> np.ndarray:
    """The part of each row: an array of "train", "calibrate", "certify" and "test".

    Rows of one cluster are never in two parts. Inside each label x source stratum a part's share is missed by at most
    about the largest cluster. The order of the rows plays no role.
    """
    return np.array(PARTS)[_assign(frame, generator(seed, "split"), np.asarray(shares, dtype=float))]


def folds(frame: pd.DataFrame, n: int = 3, seed: int = 0) -> np.ndarray:
    """The cross-validation fold (0 .. n-1) of each row, by the same rules."""
    return _assign(frame, generator(seed, "folds", n), np.full(n, 1 / n))


def one_of_each_cluster(frame: pd.DataFrame, at: np.ndarray) -> np.ndarray:
    """Of these row numbers, ascending, the one with the smallest hash of each near-duplicate cluster."""
    kept = frame.iloc[at].assign(at=at).sort_values("hash").drop_duplicates("cluster")
    return np.sort(kept["at"].to_numpy())


def _assign(frame: pd.DataFrame, rng: np.random.Generator, shares: np.ndarray) -> np.ndarray:
    """Part number of each row: clusters in random order, big ones first, each to the part that lacks it most."""
    cluster, sizes = _cluster_table(frame)
    wanted = _quotas(sizes.sum(axis=0), shares, rng)
    part = np.empty(len(sizes), dtype=np.int64)
    shuffled = rng.permutation(len(sizes))
    for c in shuffled[np.argsort(-sizes[shuffled].sum(axis=1), kind="stable")]:
        part[c] = _neediest(wanted @ sizes[c], rng)
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


def _neediest(lack: np.ndarray, rng: np.random.Generator) -> int:
    best = np.flatnonzero(lack == lack.max())
    return int(best[0] if len(best) == 1 else rng.choice(best))
