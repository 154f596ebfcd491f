"""Several runs on the rows they share: the same texts, found by content hash, scored by each run's own methods."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from theodolite.core.errors import UserError
from theodolite.core.metrics import auroc
from theodolite.core.run import Run, source_left_out
from theodolite.core.stats import HALVES, Sample
from theodolite.core.training_sets import TrainingSets
from theodolite.report.names import DRAW

N_BOOT = 1000
COLUMNS = [
    *("dataset", "method", "run", "value", "lo", "hi", "n", "n_groups"),
    *("difference", "difference_lo", "difference_hi"),
]


def run_names(runs: Sequence[Run]) -> list[str]:
    """Return the names of the runs: their folders, or their ids where two folders have one name."""
    folders = [run.folder.resolve().name for run in runs]
    called = folders if len(set(folders)) == len(runs) else [run.id for run in runs]
    if len(set(called)) < len(runs):
        raise UserError(f"two of these folders hold the same run: {', '.join(called)}")
    return called


def paired(runs: Sequence[Run]) -> pd.DataFrame:
    """AUROC of every method in every run on shared rows and seeds, and its difference from the first run.

    Each run speaks at its own matched site. A method that only one run has keeps its value and gets no difference.
    """
    scores = {name: _matched(run) for name, run in zip(run_names(runs), runs, strict=True)}
    first = next(iter(scores))
    lines = []
    for dataset in dict.fromkeys(scores[first]["dataset"]):
        parts = {name: frame[frame["dataset"] == dataset] for name, frame in scores.items()}
        if all(len(part) for part in parts.values()):
            found = _dataset(parts, _training(runs, dataset))
            lines += [dict(zip(COLUMNS, (dataset, *line), strict=True)) for line in found]
    if not lines:
        raise UserError(f"{', '.join(scores)} share no data set: there are no rows to pair them on")
    return pd.DataFrame(lines, columns=COLUMNS)


def _training(runs: Sequence[Run], dataset: str) -> TrainingSets:
    """Return what training sets have in common in the run that shares most of them; halves where no run says."""
    source = source_left_out(dataset)
    stored = [run.facts["training_sets"][source] for run in runs if source in run.facts.get("training_sets", {})]
    return max((TrainingSets(**sets) for sets in stored), key=lambda sets: sets.overlap, default=HALVES)


def shared(runs: Sequence[Run]) -> pd.DataFrame:
    """Rows of every data set per run, and how many all runs share."""
    hashes = {
        n: _matched(r).groupby("dataset", sort=False)["hash"].agg(set)
        for n, r in zip(run_names(runs), runs, strict=True)
    }
    found = dict.fromkeys(dataset for sets in hashes.values() for dataset in sets.index)
    sizes = {d: {n: len(sets.get(d, set())) for n, sets in hashes.items()} for d in found}
    common = {d: len(set.intersection(*(sets.get(d, set()) for sets in hashes.values()))) for d in found}
    return pd.DataFrame.from_dict(sizes, orient="index").assign(shared=pd.Series(common))


def _matched(run: Run) -> pd.DataFrame:
    """Scores at the run's matched site; draws of a random direction stay out: chance has nothing to pair."""
    scores = run.scores
    here = scores["site"].isin([run.recipe.get("site"), ""])
    return scores[here & ~scores["method"].str.fullmatch(DRAW)]


def _dataset(parts: dict[str, pd.DataFrame], training: TrainingSets) -> Iterator[tuple[object, ...]]:
    """(method, run, value, lo, hi, n, n_groups, difference, lo, hi) of every method and run on one data set."""
    rows, seeds = (_common(parts, column) for column in ("hash", "seed"))
    if not len(rows) or not len(seeds):
        return
    sample = _sample(parts, rows, seeds, training)
    if len(np.unique(sample.y)) < 2:
        return
    for method in dict.fromkeys(m for part in parts.values() for m in part["method"]):
        found = {name: part[part["method"] == method] for name, part in parts.items()}
        grids = {name: _grid(part, rows, seeds) for name, part in found.items() if len(part)}
        unscored = np.logical_or.reduce([np.isnan(grid) for grid in grids.values()])
        scores = {name: np.where(unscored, np.nan, grid) for name, grid in grids.items()}
        yield from ((method, name, *_line(sample, scores, name, next(iter(parts)))) for name in scores)


def _line(sample: Sample, scores: dict[str, np.ndarray], name: str, first: str) -> tuple[float, ...]:
    own = sample.estimate(auroc, scores[name]).interval()
    difference: tuple[float, ...] = (np.nan, np.nan, np.nan)
    if name != first and first in scores:
        apart = sample.paired(auroc, scores[name], scores[first]).interval(bounded=False)
        difference = (apart.value, apart.lo, apart.hi)
    return (own.value, own.lo, own.hi, own.n, own.n_groups, *difference)


def _common(parts: dict[str, pd.DataFrame], column: str) -> list[str]:
    return sorted(set.intersection(*(set(part[column]) for part in parts.values())))


def _sample(parts: dict[str, pd.DataFrame], rows: list[str], seeds: list[str], training: TrainingSets) -> Sample:
    """Return labels, groups and which seed tests which row; every run must have the same label for a row."""
    described = [part.drop_duplicates("hash").set_index("hash").loc[rows] for part in parts.values()]
    for name, other in zip(parts, described, strict=True):
        if differ := int((other["label"] != described[0]["label"]).sum()):
            raise UserError(f"{differ} texts have another label in {name!r}: these runs cannot be paired")
    asked = np.logical_or.reduce([_asked(part, rows, seeds) for part in parts.values()])
    first = described[0]
    crossed = ["request", "template"] if (first["template"] != "").any() else ["group"]
    groups = [first[column].to_numpy(dtype=str) for column in crossed]
    return Sample.of(first["label"].to_numpy(), groups, asked, training=training, n_boot=N_BOOT)


def _grid(part: pd.DataFrame, rows: list[str], seeds: list[str]) -> np.ndarray:
    """Scores (S, n), NaN where a seed did not score a row."""
    wide = part.drop_duplicates(["seed", "hash"]).pivot(index="seed", columns="hash", values="score")
    return wide.reindex(seeds, columns=rows).to_numpy(float)


def _asked(part: pd.DataFrame, rows: list[str], seeds: list[str]) -> np.ndarray:
    """Return whether the run tested a seed on a row, by any method, scored or not; (S, n) bool."""
    wide = part.drop_duplicates(["seed", "hash"]).assign(asked=True).pivot(index="seed", columns="hash", values="asked")
    return wide.reindex(seeds, columns=rows).notna().to_numpy()
