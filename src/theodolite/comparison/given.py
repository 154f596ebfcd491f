"""A comparison on rows that the caller already has: no model, no text, the dense readers and their controls."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from theodolite.comparison import baselines, conclusion, fits, tables
from theodolite.comparison.jobs import Job
from theodolite.comparison.request import CONTRASTS, METHODS, file_hashes, local_paths
from theodolite.comparison.stages import Progress, Stages
from theodolite.comparison.views import Views, frame_hash
from theodolite.core import methods as naming
from theodolite.core import recipe as recipes
from theodolite.core.cache import cache_root
from theodolite.core.errors import UserError
from theodolite.core.recipe import Recipe, Source
from theodolite.core.run import IN_DISTRIBUTION, Run
from theodolite.data.clean import MIN_PER_CLASS
from theodolite.report import html
from theodolite.report.result import Result

SITE = "rows"
MODEL = "rows given"  # where a Run names its model


def compare_rows(
    X: Any,
    y: Any,
    *,
    methods: Sequence[str] | None = None,
    seeds: int | None = None,
    out: str | Path | None = None,
    force: bool = False,
    progress: Progress,
    command: str = "",
) -> Result:
    """Compare the readers of dense rows (n, d) with labels (n) in 0/1; equal rows stay on one side of every split."""
    rows, frame = _checked(X, y)
    content = hashlib.sha256(rows.tobytes() + frame["label"].to_numpy().tobytes()).hexdigest()
    recipe = _recipe(content, methods, seeds)
    run = Run.create(
        out or Path("runs") / f"rows-{content[:8]}", recipe.model_dump(mode="json"), recipe.digest(), force=force,
        command=command, paths=local_paths(recipe),
    )  # fmt: skip
    if not run.finished:
        with run.alone():
            _carry_out(rows, frame, content, recipe, run, progress)
    html.write(run)
    return Result(run)


def _carry_out(
    rows: np.ndarray, frame: pd.DataFrame, content: str, recipe: Recipe, run: Run, progress: Progress
) -> None:
    """Every fit and every number of the run, and its end."""
    run.begin()
    stages = Stages(run, progress)
    views = Views(cache_root() / "views", {"train": f"rows-{content}"}, {"train": frame_hash(frame)})
    views.put_frame("train", frame, run.note)
    views.put("train", "state", SITE, rows)
    with stages("fitting") as tick:
        wanted = [Job(method, SITE) for method in recipe.methods]
        fitted = list(fits.run(wanted, views, recipe.seeds, cache_root() / "fits", tick, run.note))
    with stages("intervals"):
        matched = tables.matched(fitted, recipe)
        shared = tables.common(recipe, MODEL, content)
        run.add_rows(shared | row for row in tables.with_costs(matched.rows, fitted, {}, {}))
        run.add_scores(pd.concat([f.scores for f in fitted], ignore_index=True))
        run.record("rows_given", True)
        run.record("labels", fitted[0].fits[0]["n_labels"])
        run.record("views", {f.job.label: "state" for f in fitted})
        run.record("protocol", tables.PROTOCOL)
        run.write_json("baselines", baselines.facts(matched, fitted, recipe))
        conclusion.write(matched, recipe, f"{rows.shape[1]} given columns", (), {}, run)
    run.finish()


def _checked(X: Any, y: Any) -> tuple[np.ndarray, pd.DataFrame]:
    rows, label = np.ascontiguousarray(X, np.float32), np.asarray(y)
    if rows.ndim != 2 or len(rows) != len(label):
        raise UserError(f"X must be (n, d) and y (n): got {rows.shape} and {label.shape}")
    if not np.isfinite(rows).all():
        raise UserError(f"{int((~np.isfinite(rows)).any(1).sum())} rows of X hold NaN or infinity")
    values, counts = np.unique(label, return_counts=True)
    if list(values) != [0, 1] or counts.min() < MIN_PER_CLASS:
        found = dict(zip(values.tolist(), counts.tolist(), strict=True))
        raise UserError(f"y must hold 0 and 1 with at least {MIN_PER_CLASS} rows each, got {found}")
    digest = [hashlib.sha256(row.tobytes()).hexdigest()[:16] for row in rows]
    ids = [f"row:{i}" for i in range(len(rows))]
    cluster = np.unique(digest, return_inverse=True)[1]
    columns = {"id": ids, "text": "", "label": label.astype(np.int64), "source": SITE, "cluster": cluster}
    return rows, pd.DataFrame(columns | {"hash": digest, "template": "", "request": ids, "template_tokens": 0})


def _recipe(content: str, methods: Sequence[str] | None, seeds: int | None) -> Recipe:
    chosen = list(methods or [m for m in METHODS if naming.parse(m).view == "state"])
    if other := [m for m in chosen if naming.parse(m).view != "state"]:
        raise UserError(f"given rows have no text and no dictionary for {', '.join(other)}")
    contrasts = [c for c in CONTRASTS if {c.method, c.than} <= set(chosen)]
    fields = {
        "name": SITE, "title": "Rows given", "positive": "label 1", "negative": "label 0", "question": "",
        "model": MODEL, "site": SITE, "sites": [SITE],
        "train": [Source(source=SITE, revision=content)], "methods": chosen,
        "contrasts": contrasts, "dictionaries": [], "private": True, "primary": IN_DISTRIBUTION,
        "files": file_hashes(chosen),
    }  # fmt: skip
    return recipes.validated(fields if seeds is None else fields | {"seeds": seeds}, SITE)
