"""Every fit of a comparison: one job per method, site and training set, cached, in parallel."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from theodolite.comparison.jobs import Job
from theodolite.core import methods
from theodolite.core.atomic import publish
from theodolite.core.code_hash import code_hash
from theodolite.core.errors import Damaged, UserError
from theodolite.core.metrics import threshold_at
from theodolite.core.parallel import Map
from theodolite.core.reader import Reader
from theodolite.core.run import AGAINST, IN_DISTRIBUTION, LEFT_OUT
from theodolite.core.sealed import Note, entry, facts_of, no_note, seal
from theodolite.core.seeds import child_seed
from theodolite.core.tick import Tick
from theodolite.data.splits import folds, split
from theodolite.study.parallel import in_parallel
from theodolite.study.seed_fits import FitEntry, save_seed
from theodolite.study.stages import peak_mb
from theodolite.study.training_sets import left_out
from theodolite.study.tune import Platt, Tuned, tune
from theodolite.study.views import Views, configured

FALSE_POSITIVE_RATES = (0.01, 0.05, 0.1)
RECORD, SCORES = "fits.json", "scores.parquet"
Frames = Callable[[str], pd.DataFrame]


@dataclass(frozen=True)
class Fitted:
    """Scores of one job, and the record of each seed's fit: parameters, fits, seconds, thresholds."""

    job: Job
    scores: pd.DataFrame
    fits: list[dict[str, Any]]


def run(
    jobs: Sequence[Job],
    views: Views,
    seeds: int,
    cache: Path,
    tick: Tick,
    note: Note = no_note,
    map: Map | None = None,  # noqa: A002 (the name of this seam)
) -> Iterator[Fitted]:
    """Fit all jobs, unfinished ones in parallel; every finished job is kept on disk, so a second run starts there.

    What is kept is compared with its hashes; a damaged job is fitted again, and counted in a note. map:
    where the fits run (see `in_parallel`).
    """
    from joblib import delayed

    keys = {job: _key(job, views, seeds) for job in jobs}
    folders = {job: cache / key[:32] for job, key in keys.items()}
    waiting = [job for job in jobs if entry(folders[job] / RECORD, keys[job], "fits", note) is None]
    here = Path.cwd()
    work = [delayed(_work)(job, views, seeds, keys[job], cache, here) for job in waiting]
    in_parallel(work, len(jobs), tick, map)
    for job in jobs:
        facts = facts_of(folders[job] / RECORD, keys[job])
        yield Fitted(job, _own_scores(folders[job] / SCORES, job, seeds), facts)


def fit_entry(cache: Path, job: Job, views: Views, seeds: int) -> FitEntry:
    """Return the entry that holds a tuned job's readers, one for each seed, with their out-of-fold scores.

    Jobs that leave a source out, or take parameters as written, keep their scores alone.
    """
    key = _key(job, views, seeds)
    return FitEntry(cache / key[:32] / RECORD, key)


def fit_entries(cache: Path, jobs: Sequence[Job], views: Views, seeds: int) -> dict[str, FitEntry]:
    """Return the entries of all jobs that keep their readers, by label; where a method has several sites, its first."""
    kept = {job.label: job for job in reversed(jobs) if job.tuned and not job.leave_out}
    return {label: fit_entry(cache, job, views, seeds) for label, job in kept.items()}


def _own_scores(path: Path, job: Job, seeds: int) -> pd.DataFrame:
    """Return the scores in a job's file; raises `Damaged` for those of another method, site or number of seeds."""
    scores = pd.read_parquet(path)
    found = {name: set(scores[name]) for name in ("method", "site", "seed")}
    if found != {"method": {job.label}, "site": {job.site}, "seed": set(map(str, range(seeds)))}:
        raise Damaged(
            f"{path} is not of {job.label} at {job.site!r}: delete {path.parent} and run the same command again"
        )
    return scores


def _key(job: Job, views: Views, seeds: int) -> str:
    """Hash of everything a score depends on: rows, method, all code that runs, libraries, site, seeds."""
    method = methods.parse(job.method)
    parts = {
        **asdict(job),
        "views": views.key(method.view, job.site, job.family),
        "over_refusal": views.over_refusal,
        "code": code_hash(_work, Job, Views, method.cls),
        "seeds": seeds,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _work(job: Job, views: Views, seeds: int, key: str, cache: Path, here: Path) -> None:
    os.chdir(here)  # workers outlive a comparison; paths of the next one may be relative to another folder
    folder = cache / key[:32]
    if _key(job, views, seeds) != key:
        raise UserError("the program's code, or that of a method, was edited while it ran: run the same command again")
    results = [_one_seed(job, views, seed, folder) for seed in range(seeds)]
    scores = pd.concat([one.scores for one in results], ignore_index=True)
    publish(folder / SCORES, scores.to_parquet(index=False))
    readers = [path for one in results for path in one.files]
    seal(folder / RECORD, key, [folder / SCORES, *readers], [one.record for one in results])


class _SeedResult(NamedTuple):
    """Scores of one seed's reader, the record of its fit, and the files that keep the reader."""

    scores: pd.DataFrame
    record: dict[str, Any]
    files: list[Path]


def _one_seed(job: Job, views: Views, seed: int, folder: Path) -> _SeedResult:
    start = time.perf_counter()
    method = configured(job.method, views, job.site)
    frame_of = cache(views.frame)  # read and checked once for a seed, not at each of four uses
    frame = frame_of("train")
    part = split(frame, seed)
    rows = np.flatnonzero((part == "train") & ~left_out(frame, job.leave_out))
    X = _rows(job, views, frame_of, "train", seed)[rows]
    y = frame["label"].to_numpy()[rows]
    files: list[Path] = []
    if job.tuned:
        tuned = tune(method, X, y, folds(frame.iloc[rows], seed=seed), seed=child_seed(seed, job.method))
        reader, platt, record = tuned.estimator, tuned.platt, _record(tuned, y)
        if not job.leave_out:
            files = save_seed(folder, seed, tuned, rows, _about(job, views, method.view, seed))
    else:
        reader, platt = method.reader(child_seed(seed, job.method)).fit(X, y), None
        record = {"params": method.params, "n_fits": 1}
    scored = [
        _score(reader, platt, _rows(job, views, frame_of, name, seed)[at], frame_of(name).iloc[at]).assign(
            dataset=dataset, split="test" if dataset == IN_DISTRIBUTION else "shift"
        )
        for dataset, name, at in _evaluations(job, views, frame_of, part)
    ]
    record |= {"seed": seed, "n_labels": len(rows), "seconds": time.perf_counter() - start, "peak_mb": peak_mb()}
    scores = pd.concat(scored, ignore_index=True)
    return _SeedResult(scores.assign(method=job.label, site=job.site, seed=str(seed)), record, files)


def _about(job: Job, views: Views, view: str, seed: int) -> dict[str, str]:
    """Return where a saved reader reads: its view, site, and the dictionary of its seed."""
    dictionary = views.dictionary(view, job.site, seed, job.family)
    return {"method": job.label, "view": view, "site": job.site, "family": job.family, "dictionary": dictionary}


def _rows(job: Job, views: Views, frame_of: Frames, name: str, seed: int) -> Any:
    """Input of the job's method on a data set, one row for each of its rows."""
    view = methods.parse(job.method).view
    found, expected = views.get(name, view, job.site, seed, job.family), len(frame_of(name))
    if found.shape[0] != expected:
        raise Damaged(
            f"the view {view!r} of {name} holds {found.shape[0]} rows, the data set {expected}: "
            f"delete {views.home(name)} and run the same command again"
        )
    return found


def _record(tuned: Tuned, y: np.ndarray) -> dict[str, Any]:
    """Record of what tuning chose, and the thresholds of false-positive rates on out-of-fold negatives."""
    negatives = tuned.out_of_fold_n[y == 0]
    levels = {str(rate): threshold_at(negatives, rate) for rate in FALSE_POSITIVE_RATES}
    thresholds = {rate: level for rate, level in levels.items() if level is not None}
    return {"params": tuned.params, "cv_log_loss": tuned.cv_log_loss, "n_fits": tuned.n_fits, "thresholds": thresholds}


def _evaluations(job: Job, views: Views, frame_of: Frames, part: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (dataset, frame, rows) that this job's readers are scored on; never a row they were trained on."""
    frame = frame_of("train")
    if job.leave_out:
        dataset = f"{LEFT_OUT}{job.leave_out}"
        own = frame["source"].str.startswith(job.leave_out).to_numpy()
        yield dataset, "train", np.flatnonzero(own)
        for name in views.over_refusal:
            yield f"{dataset}{AGAINST}{name}", "train", np.flatnonzero(own & (frame["label"] == 1))
            yield f"{dataset}{AGAINST}{name}", name, np.arange(len(frame_of(name)))
        return
    yield IN_DISTRIBUTION, "train", np.flatnonzero(part == "test")
    for name in views.shifts:
        yield name, name, np.arange(len(frame_of(name)))


def _score(reader: Reader, platt: Platt | None, X: Any, rows: pd.DataFrame) -> pd.DataFrame:
    score = reader.decision_function(X)
    probability = platt(score) if platt else np.full(len(score), np.nan)
    columns = rows[["id", "hash", "cluster", "template", "request", "label"]].rename(
        columns={"id": "row", "cluster": "group"}
    )
    return columns.assign(score=score, probability=probability)
