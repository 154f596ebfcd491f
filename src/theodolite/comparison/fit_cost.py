"""The time that fitting will take: the jobs of a comparison, and one trial of each of its methods."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from theodolite.comparison.jobs import Job, jobs
from theodolite.core import methods
from theodolite.core.methods import Method
from theodolite.core.recipe import Recipe
from theodolite.core.seeds import generator
from theodolite.data.splits import FOLDS, PARTS, SHARES
from theodolite.study.build import dictionary_keys
from theodolite.study.subjects import Subjects
from theodolite.study.views import Views

TRIAL_ROWS = 128  # rows of a trial; time per row is about the same at 400
ACTIVE = 32  # latents of a trial row
WIDTHS = {"sentence": 384, "answer": 2}


@dataclass(frozen=True)
class FitCost:
    """Jobs and single fits of a comparison, and about how many minutes they take with so many workers.

    Not in it: fits of other poolings and of selective prediction, and reading files.
    """

    jobs: int
    fits: int
    minutes: float
    workers: int


def fit_cost(recipe: Recipe, subjects: Subjects, texts: Sequence[str]) -> FitCost:
    """Count the fits that a run will make, and time each method once on random rows.

    texts: the training texts, on which readers of text are timed. Time is taken to grow with the rows.
    """
    from joblib import cpu_count

    wanted = expected_jobs(recipe, subjects)
    rows = SHARES[PARTS.index("train")] * len(texts)
    seconds, fits = 0.0, 0
    for (spec, tuned), n in Counter((job.method, job.tuned) for job in wanted).items():
        method = methods.parse(spec)
        grid = method.cls.grid(**method.params) if tuned else [{}]
        path = _seconds(method, grid, subjects, texts) * rows / TRIAL_ROWS
        # the search fits the whole grid FOLDS times, on all folds but one, and then its choice on all rows
        seconds += n * recipe.seeds * (path * (FOLDS - 1) + path / len(grid) if tuned else path)
        fits += n * recipe.seeds * (len(grid) * FOLDS + 1 if tuned else 1)
    workers = cpu_count()
    return FitCost(len(wanted), fits, seconds / workers / 60, workers)


def expected_jobs(recipe: Recipe, subjects: Subjects) -> list[Job]:
    """Return the jobs of a run before any view exists."""
    views = Views(Path(), inputs={}, frames={}, dictionaries=dictionary_keys(subjects))  # no data set lacks any view
    controlled = {(s.family, s.site) for s in subjects.dictionaries if s.control is not None}
    return [
        job
        for job in jobs(recipe, views, [] if recipe.quick else subjects.blocks)
        if methods.parse(job.method).view != "control" or (job.family, job.site) in controlled
    ]


def _seconds(method: Method, grid: list[dict[str, Any]], subjects: Subjects, texts: Sequence[str]) -> float:
    """Seconds that one path over the grid takes on `TRIAL_ROWS` rows."""
    y = np.arange(TRIAL_ROWS) % 2
    rows = _trial_rows(method.view, y, subjects, texts)
    if method.view == "state+latents" and "split" in method.reader().get_params():
        method = replace(method, params={"split": subjects.model.d_model, **method.params})
    start = time.perf_counter()
    method.reader().fit_path(rows, y, grid)
    return time.perf_counter() - start


def _trial_rows(view: str, y: np.ndarray, subjects: Subjects, texts: Sequence[str]) -> Any:
    """Return random rows in the shape of a view, shifted a little by the label; for text the training texts again."""
    if view == "text":
        return np.array([texts[at % len(texts)] for at in range(len(y))], dtype=object)
    rng = generator(0, "fit cost", view)
    dense = rng.normal(size=(len(y), WIDTHS.get(view, subjects.model.d_model))).astype(np.float32) + 0.1 * y[:, None]
    if view not in ("latents", "control", "state+latents"):
        return dense
    width = max((s.dictionary.width for s in subjects.dictionaries), default=1)
    share = min(1.0, ACTIVE / width)
    latents = sparse.random(len(y), width, share, format="csr", dtype=np.float32, random_state=rng)
    return latents if view != "state+latents" else sparse.hstack([sparse.csr_matrix(dense), latents], format="csr")
