"""Overlap of the training sets of a comparison, for the whole mix and for each source left out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from theodolite.core.run import Run, source_left_out
from theodolite.core.stats import HALVES
from theodolite.core.training_sets import TrainingSets
from theodolite.data.splits import PARTS, dominant, split

Measured = Mapping[str, TrainingSets]  # by the source kept out of training, "" for the whole mix
UNMEASURED: Measured = {}


def measured(frame: pd.DataFrame, seeds: int, leave_out: Sequence[str] = ()) -> dict[str, TrainingSets]:
    """Measure the training sets that `fits` draws from these rows."""
    train = np.array([split(frame, seed) == PARTS[0] for seed in range(seeds)])
    fixed, group, y = dominant(frame), frame["cluster"].to_numpy(), frame["label"].to_numpy()
    found = {}
    for source in ("", *leave_out):
        there = ~left_out(frame, source)
        found[source] = TrainingSets.measured(train[:, there], group[there], y[there], fixed[there])
    return found


def left_out(frame: pd.DataFrame, prefix: str) -> np.ndarray:
    """Return which rows (n,) are kept out of training: those of the source and their near-duplicates elsewhere."""
    if not prefix:
        return np.zeros(len(frame), bool)
    clusters = frame.loc[frame["source"].str.startswith(prefix), "cluster"]
    return frame["cluster"].isin(clusters).to_numpy()


def of_dataset(training: Measured, dataset: str) -> TrainingSets:
    """Training sets of the readers that are scored on a data set; halves of one pool where nothing was measured."""
    return training.get(source_left_out(dataset), HALVES)


def record(training: Measured, run: Run) -> None:
    """Write what was measured into the run, with a note where no interval can be given or where its scope is less."""
    run.record("training_sets", {source: asdict(sets) for source, sets in training.items()})
    for source, sets in training.items():
        where = f"without {source}: " if source else ""
        if sets.reason:
            run.note("no interval", 1, where + sets.reason)
        elif sets.scope:
            run.note("scope", sets.fixed, where + sets.scope)
