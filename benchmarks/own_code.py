"""Each piece of code that a library has too: ours and the library's on the same rows, processor seconds and difference.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/own_code.py

Rows are those of benchmarks/readers.py: 800 rows, dense (576 correlated columns of very unequal size) or sparse (4,096
columns). docs/dependencies.md states the figures.
"""

import copy
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from readers import views
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from theodolite.core.newton import logistic_path
from theodolite.data.splits import PARTS, SHARES, folds, split
from theodolite.dictionaries.training import adam
from theodolite.readers._span import Span

PENALTIES = np.logspace(-4, 1, 6)
LATENTS, D_MODEL, STEPS = 4096, 576, 10
Line = tuple[str, str, float, str]


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    found = call()
    return found, time.process_time() - start


def logistic(rows: Any, y: np.ndarray) -> Iterator[Line]:
    """Fits of six penalties: by how much a logit differs, and by how much the library's loss is the larger one."""
    made, making = timed(lambda: Span.of(rows))
    dense = made.scaled.toarray() if sp.issparse(made.scaled) else made.scaled
    dense = dense - dense.mean(axis=0)

    def loss(logit_nk: np.ndarray, square_k: np.ndarray) -> np.ndarray:
        return np.logaddexp(0, logit_nk).sum(axis=0) - y @ logit_nk + square_k / 2 / PENALTIES

    def library(z: np.ndarray, **options: Any) -> tuple[np.ndarray, np.ndarray]:
        fits = [LogisticRegression(C=c, max_iter=10_000, **options).fit(z, y) for c in PENALTIES]
        logit_nk = np.stack([fit.decision_function(z) for fit in fits], axis=1)
        return logit_nk, np.array([np.square(fit.coef_).sum() for fit in fits])

    (beta, intercept), seconds = timed(lambda: logistic_path(made.rows_nr, y.astype(float), PENALTIES))
    wanted = made.rows_nr @ beta + intercept
    least = loss(wanted, np.square(beta).sum(axis=0))
    yield "logistic_path", "", seconds, f"and {making:.2f} s for the span"
    for name, z, options in (
        ("all columns, lbfgs, tol 1e-4 (the default)", dense, {}),
        ("all columns, lbfgs, tol 1e-8", dense, {"tol": 1e-8}),
        ("our span, lbfgs, tol 1e-8", made.rows_nr, {"tol": 1e-8}),
        ("our span, newton-cholesky, tol 1e-8", made.rows_nr, {"tol": 1e-8, "solver": "newton-cholesky"}),
    ):
        (logit_nk, square_k), seconds = timed(lambda z=z, options=options: library(z, **options))
        excess = (loss(logit_nk, square_k) / least - 1).max()
        yield "", name, seconds, f"logits differ by {np.abs(logit_nk - wanted).max():.0e}, loss larger by {excess:+.0e}"


def span(rows: np.ndarray) -> Iterator[Line]:
    """The rotation itself beside a singular value decomposition."""
    made, seconds = timed(lambda: Span.of(rows))
    yield "Span.of", "", seconds, ""
    svd, seconds = timed(lambda: np.linalg.svd(made.scaled, full_matrices=False))
    worst = np.abs(np.sort(made.singular_r)[::-1] - svd.S[: len(made.singular_r)]).max() / svd.S[0]
    yield "", "numpy.linalg.svd", seconds, f"singular values differ by {worst:.0e} of the largest"


def splitting() -> Iterator[Line]:
    """Clusters of unequal size in eight strata: how far a part's share of a stratum is from what was asked for."""
    rng = np.random.default_rng(0)
    cluster = np.sort(rng.zipf(1.6, 4000).clip(max=400))
    cluster = np.repeat(np.arange(len(cluster)), np.minimum(cluster, 40))[:4000]
    label, source = rng.integers(0, 2, cluster.max() + 1), rng.integers(0, 4, cluster.max() + 1)
    frame = pd.DataFrame(
        {
            "cluster": cluster,
            "label": label[cluster],
            "source": np.char.add("s", source[cluster].astype(str)),
            "hash": [f"{h:016x}" for h in rng.permutation(len(cluster))],
        }
    )
    strata = frame["label"].astype(str) + frame["source"]

    def gap(part: np.ndarray, share: dict[Any, float]) -> float:
        found = pd.crosstab(strata, part, normalize="index")
        return float(max(abs(found[name] - wanted).max() for name, wanted in share.items()))

    def library(stratify: pd.Series, rows: pd.DataFrame) -> np.ndarray:
        part = np.empty(len(rows), int)
        cut = StratifiedGroupKFold(3, shuffle=True, random_state=0)
        for k, (_, test) in enumerate(cut.split(rows, stratify, rows["cluster"])):
            part[test] = k
        return part

    thirds = dict.fromkeys(range(3), 1 / 3)
    ours, seconds = timed(lambda: folds(frame))
    shuffled = frame.sample(frac=1, random_state=0)
    moved = (folds(shuffled) != ours[shuffled.index]).mean()
    yield (
        "folds",
        "",
        seconds,
        f"share off by {gap(ours, thirds):.3f}; rows that move when rows are reordered {moved:.0%}",
    )
    theirs, seconds = timed(lambda: library(strata, frame))
    again = library(strata[shuffled.index], shuffled)
    # folds have no names: two rows of one fold must be in one fold again
    pairs = pd.crosstab(theirs[shuffled.index], again).max(axis=1).sum()
    yield (
        "",
        "StratifiedGroupKFold on label x source",
        seconds,
        f"share off by {gap(theirs, thirds):.3f}; rows that move {1 - pairs / len(frame):.0%}",
    )
    parts, seconds = timed(lambda: split(frame, 0))
    asked = dict(zip(PARTS, SHARES, strict=True))
    yield "split", "no library has unequal parts", seconds, f"share off by {gap(parts, asked):.3f}"


def adam_step() -> Iterator[Line]:
    """Project, clip and step a decoder: ours in two passes over memory beside torch's own functions."""
    generator = torch.Generator().manual_seed(0)
    w = torch.nn.functional.normalize(torch.randn(LATENTS, D_MODEL, generator=generator), dim=1)
    gradients = [torch.randn(w.shape, generator=generator) for _ in range(STEPS)]

    def run(one: Callable[[torch.optim.Adam, torch.Tensor, torch.Tensor], None]) -> torch.Tensor:
        mine = copy.deepcopy(w)
        optimizer = torch.optim.Adam([mine], lr=1e-3, fused=True)
        for gradient in gradients:
            one(optimizer, mine, gradient.clone())
        return mine

    def ours(optimizer: torch.optim.Adam, mine: torch.Tensor, gradient: torch.Tensor) -> None:
        norm, taken = adam.gradient_norm({"w": gradient}, {"w": mine})
        adam.step(optimizer, {"w": mine}, {"w": gradient}, min(1.0, 1 / norm), taken)
        adam.normalise_rows(mine)

    def library(optimizer: torch.optim.Adam, mine: torch.Tensor, gradient: torch.Tensor) -> None:
        mine.grad = gradient - (gradient * mine).sum(1, keepdim=True) * mine
        torch.nn.utils.clip_grad_norm_([mine], 1.0)
        optimizer.step()
        mine /= mine.norm(dim=1, keepdim=True)

    with torch.no_grad():
        run(ours)  # compiles
        wanted, seconds = timed(lambda: run(ours))
        yield "adam, 10 steps", "", seconds, ""
        found, seconds = timed(lambda: run(library))
    yield "", "torch: fused Adam, clip_grad_norm_", seconds, f"weights differ by {(found - wanted).abs().max():.0e}"


def main() -> None:
    """Print one line per piece of ours and per library beside it."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    torch.set_num_threads(1)
    view, y, _ = views()
    rows = np.asarray(view["state"], np.float64)
    parts = {
        "dense": logistic(rows, y),
        "sparse": logistic(view["latents"], y),
        "rotation": span(rows),
        "splits": splitting(),
        "optimiser": adam_step(),
    }
    for title, lines in parts.items():
        print(f"\n{title}")
        for own, library, seconds, result in lines:
            print(f"  {own:22s} {library:46s} {seconds:7.2f} s  {result}", flush=True)


if __name__ == "__main__":
    main()
