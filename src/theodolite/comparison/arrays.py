"""A comparison on rows that the caller already has: no model, no text, the dense readers and their controls."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from theodolite.comparison import answers, baselines, conclusion, fits, tables
from theodolite.comparison.jobs import Job
from theodolite.core.cache import cache_root
from theodolite.core.errors import UserError
from theodolite.core.methods import parse
from theodolite.core.recipe import Recipe, Source, validated
from theodolite.core.run import IN_DISTRIBUTION, Run
from theodolite.core.tick import Tell
from theodolite.data.clean import MIN_PER_CLASS
from theodolite.data.splits import require_splittable
from theodolite.report import html
from theodolite.report.result import Result
from theodolite.study import training_sets
from theodolite.study.compare_request import CompareRequest
from theodolite.study.request import CONTRASTS, METHODS, file_hashes, local_paths, with_shuffles
from theodolite.study.stages import Stages
from theodolite.study.views import Views, frame_hash

SITE = "rows"
MODEL = "arrays"  # where a Run names its model
NEIGHBOURS_OF = 2000  # rows among which near repeats are looked for
NEAR = 0.5  # of the median distance between rows


def compare_rows(request: CompareRequest, progress: Tell) -> Result:
    """Compare the readers of dense rows (n, d) with labels (n) in 0/1: the request's data are (X, y).

    groups: (n,), which rows belong together (tokens of one document, prompts of one template); they, and rows that are
    equal, stay on one side of every split and count as one in every interval. The order of the rows plays no role.
    """
    assert isinstance(request.data, tuple)
    X, y = request.data
    rows, frame = _checked(X, y, request.groups)
    content = hashlib.sha256(rows.tobytes() + frame[["label", "cluster"]].to_numpy().tobytes()).hexdigest()
    recipe = _recipe(content, request.methods, {"seeds": request.seeds, "margin": request.margin})
    require_splittable(frame, recipe.seeds)
    run = Run.create(
        request.out or Path("runs") / f"rows-{content[:8]}",
        recipe.model_dump(mode="json"),
        recipe.digest(),
        force=request.force,
        command=request.command,
        paths=local_paths(recipe),
    )
    if not run.finished:
        with run.alone():
            _carry_out(rows, frame, content, recipe, run, progress, grouped=request.groups is not None)
    html.write(run)
    return Result(run)


def _carry_out(
    rows: np.ndarray, frame: pd.DataFrame, content: str, recipe: Recipe, run: Run, progress: Tell, grouped: bool
) -> None:
    """Every fit and every number of the run, and its end; grouped: the caller said which rows belong together."""
    run.begin()
    run.tasks = tables.TASKS
    if not grouped and (near := near_repeats(rows, frame)):
        run.note(
            "repeated",
            near,
            "rows lie much nearer to another row of their label than to rows at large, as tokens or "
            "copies of one text do, and groups= is missing: intervals take every row as independent and may be much "
            "too narrow; give groups= with what belongs together",
        )
    stages = Stages(run, progress)
    views = Views(cache_root() / "views", {"train": f"rows-{content}"}, {"train": frame_hash(frame)})
    views.put_frame("train", frame, run.note)
    views.put("train", "state", SITE, rows)
    with stages("fitting") as tick:
        wanted = [Job(method, SITE) for method in recipe.methods]
        fitted = list(fits.run(wanted, views, recipe.seeds, cache_root() / "fits", tick, run.note))
    with stages("intervals"):
        training = training_sets.measured(frame, recipe.seeds)
        training_sets.record(training, run)
        matched = tables.matched(fitted, recipe, training)
        shared = tables.common(recipe, MODEL, content)
        run.add_rows(shared | row for row in tables.with_costs(matched.rows, fitted, {}, {}))
        run.add_scores(pd.concat([f.scores for f in fitted], ignore_index=True))
        run.record("from_arrays", True)
        run.record("labels", fitted[0].fits[0]["n_labels"])
        run.record("views", {f.job.label: "state" for f in fitted})
        run.record("protocol", tables.PROTOCOL | {"margin": recipe.margin})
        run.write_json("baselines", baselines.facts(matched, fitted, recipe))
        picked = baselines.chosen(fitted, recipe)
        run.write_json("answers", answers.facts(tables.matched_scores(fitted, recipe), recipe, picked, training))
        conclusion.write(matched, recipe, {"columns": rows.shape[1]}, (), {}, run)
    run.finish()


def near_repeats(rows: np.ndarray, frame: pd.DataFrame) -> int:
    """Rows that lie suspiciously near to a row of their label in another cluster; 0 where that can be chance.

    Independent rows of many columns are all about as far apart; tokens of one document, or copies with little noise,
    are not. A row counts where its nearest neighbour (after equal rows, in columns of unit variance) is nearer than
    half the median distance and bears its label; fewer than one in ten are no sign of groups.
    """
    some = frame.drop_duplicates("cluster").sort_values("hash").index[:NEIGHBOURS_OF]
    x = rows[some].astype(np.float64)
    scale = x.std(0)
    x = (x - x.mean(0)) / np.where(scale > 0, scale, 1.0)
    square = (x**2).sum(1)
    distance = np.sqrt(np.maximum(square[:, None] + square - 2 * x @ x.T, 0.0))
    np.fill_diagonal(distance, np.inf)
    y = frame["label"].to_numpy()[some]
    nearest = distance.argmin(1)
    typical = np.median(distance[np.isfinite(distance)])
    near = (distance[np.arange(len(x)), nearest] < NEAR * typical) & (y[nearest] == y)
    return int(near.sum()) if near.mean() > 0.1 else 0


def _checked(X: Any, y: Any, groups: Any) -> tuple[np.ndarray, pd.DataFrame]:
    """Rows and their frame in an order of their own, by content: that of the caller plays no role afterwards."""
    rows, label = _array(X, "X", np.float32), _array(y, "y")
    if rows.ndim != 2 or label.ndim != 1 or len(rows) != len(label):
        raise UserError(f"X must be (n, d) and y (n): got {rows.shape} and {label.shape}")
    if not np.isfinite(rows).all():
        raise UserError(
            f"{int((~np.isfinite(rows)).any(1).sum())} rows of X hold NaN, infinity or a number beyond float32 (3.4e38)"
        )
    found = pd.Series(label).value_counts(dropna=False).to_dict()
    if set(found) != {0, 1} or min(found.values()) < MIN_PER_CLASS:
        raise UserError(f"y must hold 0 and 1 with at least {MIN_PER_CLASS} rows each, got {found}")
    rows = rows + np.float32(0)  # -0 and 0 are one value
    digest = np.array([hashlib.sha256(row.tobytes()).hexdigest()[:16] for row in rows])
    cluster = _clusters(digest, groups)
    order = np.lexsort((label, digest))  # equal rows of one label are the same row whichever comes first
    first = pd.Series(digest).groupby(cluster).min().rank().astype(int).to_numpy() - 1  # numbers follow content too
    rows, digest, label, cluster = rows[order], digest[order], label[order].astype(np.int64), first[cluster[order]]
    ids = [f"row:{at}" for at in order]
    columns = {"id": ids, "text": "", "label": label, "source": SITE, "cluster": cluster}
    return np.ascontiguousarray(rows), pd.DataFrame(
        columns | {"hash": digest, "template": "", "request": ids, "template_tokens": 0}
    )


def _array(values: Any, name: str, dtype: Any = None) -> np.ndarray:
    """Return what a caller passed as an array, of `dtype` if one is named; values that NumPy would change are refused.

    It drops the imaginary part of complex numbers with a warning, and the mask of masked ones without.
    """
    try:
        if np.ma.is_masked(values):
            raise ValueError("some values are masked")
        found = np.asarray(values)
        if found.dtype.kind in "cmM":
            raise ValueError(f"its values are {found.dtype}")
        with np.errstate(over="ignore"):  # becomes infinity, which the caller refuses
            return found if dtype is None else np.ascontiguousarray(found, dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{name} is no array of {'labels' if dtype is None else 'real numbers'}: {error}; give a NumPy array "
            "(X.toarray() of a sparse matrix, X.detach().float().cpu().numpy() of a torch tensor), and texts in a "
            "DataFrame"
        ) from None


def _clusters(digest: np.ndarray, groups: Any) -> np.ndarray:
    """Number of the cluster of each row: what the caller's groups or equal rows tie together."""
    same = np.unique(digest, return_inverse=True)[1]
    if groups is None:
        return same
    try:
        group = pd.Series(groups)
    except ValueError as error:
        raise UserError(f"groups must be one value for each row of X: {error}") from None
    if len(group) != len(digest):
        raise UserError(f"groups must name the group of each row of X: got {len(group)} for {len(digest)} rows")
    if missing := int(group.isna().sum()):
        raise UserError(f"{missing} of the {len(group)} groups are missing: name one for every row")
    own = pd.factorize(group)[0]
    ties = csr_matrix((np.ones(len(own)), (own, own.max() + 1 + same)), shape=(own.max() + same.max() + 2,) * 2)
    return np.unique(connected_components(ties, directed=False)[1][own], return_inverse=True)[1]


def _recipe(content: str, methods: Sequence[str] | None, changes: dict[str, Any]) -> Recipe:
    chosen = with_shuffles(methods or [m for m in METHODS if parse(m).view == "state"])
    if other := [m for m in chosen if parse(m).view != "state"]:
        raise UserError(f"arrays have no text and no dictionary for {', '.join(other)}")
    contrasts = [c for c in CONTRASTS if {c.method, c.than} <= set(chosen)]
    fields = {
        "name": SITE,
        "title": "Arrays",
        "positive": "label 1",
        "negative": "label 0",
        "question": "",
        "model": MODEL,
        "site": SITE,
        "sites": [SITE],
        "train": [Source(source=SITE, revision=content)],
        "methods": chosen,
        "contrasts": contrasts,
        "dictionaries": [],
        "private": True,
        "primary": IN_DISTRIBUTION,
        "files": file_hashes(chosen),
    }
    return validated(fields | {k: v for k, v in changes.items() if v is not None}, SITE)
