"""Choice of the tokens that are read and of their pooling, where a recipe leaves them open (`auto`).

The choice is made on training rows: for every training set, its `train` part in grouped folds, by the log loss of one
fixed reader on out-of-fold rows, averaged over training sets. No shift row, and no row that only tests, has a part in
it.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from theodolite.core import methods
from theodolite.core.errors import UserError
from theodolite.core.positions import POOLINGS, Positions
from theodolite.core.recipe import AUTO, Recipe
from theodolite.core.seeds import child_seed
from theodolite.core.tick import Tell, silent
from theodolite.data.dataset import Dataset
from theodolite.data.splits import folds, split
from theodolite.models.harvest import harvest
from theodolite.models.harvest_plan import HarvestPlan
from theodolite.study.hardware import DEFAULT, Machine
from theodolite.study.subjects import Subjects
from theodolite.study.tune import tune

# Parameters fixed, as in the sweep over blocks: the candidates are compared, not the settings that suit each.
READER = "logistic(C=0.01)"
# The text, its last token, and what a chat template puts behind it, where the model gathers what it will answer to.
CANDIDATES = ("content", "content[-1]", "suffix")


@dataclass(frozen=True)
class Candidate:
    """One way to make a row of a text, and its loss on out-of-fold training rows; the lowest is chosen."""

    positions: str
    pooling: str
    log_loss: float


def is_open(recipe: Recipe) -> bool:
    """Return whether the recipe leaves pooling or positions to the training rows."""
    return AUTO in (recipe.pooling, recipe.positions)


def choose(
    recipe: Recipe, train: Dataset, subjects: Subjects, tell: Tell = silent, machine: Machine = DEFAULT
) -> tuple[Recipe, list[Candidate]]:
    """The recipe with positions and pooling filled in, and every candidate that was tried at the matched site.

    Ways that give equal rows (every pooling of a single token) are one candidate.
    """
    tried: list[Candidate] = []
    seen: list[np.ndarray] = []
    for positions, pooling, X_nd in _rows(recipe, train, subjects, tell, machine):
        if any(np.array_equal(X_nd, other) for other in seen):
            continue
        seen.append(X_nd)
        tried.append(Candidate(positions, pooling, log_loss(X_nd, train.frame, recipe.seeds)))
    best = min(tried, key=lambda candidate: candidate.log_loss)
    return recipe.model_copy(update={"positions": best.positions, "pooling": best.pooling}), tried


def log_loss(X_nd: np.ndarray, frame: pd.DataFrame, seeds: int) -> float:
    """Mean over training sets of the fixed reader's log loss (nats, Platt-scaled) on out-of-fold training rows."""
    y, method, found = frame["label"].to_numpy(), methods.parse(READER), []
    for seed in range(seeds):
        rows = np.flatnonzero(split(frame, seed) == "train")
        tuned = tune(method, X_nd[rows], y[rows], folds(frame.iloc[rows], seed=seed), child_seed(seed, READER))
        found.append(tuned.cv_log_loss)
    return float(np.mean(found))


def facts(recipe: Recipe, tried: Sequence[Candidate]) -> dict[str, Any]:
    """Facts of the choice for a Run."""
    chosen = {"positions": recipe.positions, "pooling": recipe.pooling}
    return {"chosen": chosen, "reader": READER, "candidates": [vars(candidate) for candidate in tried]}


def _rows(
    recipe: Recipe, train: Dataset, subjects: Subjects, tell: Tell, machine: Machine
) -> Iterator[tuple[str, str, np.ndarray]]:
    """(positions, pooling, rows (n, d)) of every candidate; one pass of the model per positions, kept nowhere."""
    for number, positions in enumerate(_open_positions(recipe, train, subjects)):
        # `last` is the last token of all, whatever the positions: one candidate
        poolings = [p for p in POOLINGS if recipe.pooling in (AUTO, p) and (number == 0 or p != "last")]
        plan = HarvestPlan(
            pooled_sites=recipe.site,
            poolings=poolings,
            positions=positions,
            format=recipe.format,
            max_tokens=recipe.max_tokens,
        )
        tick = partial(tell, f"trying {positions}, tokens")
        with tempfile.TemporaryDirectory() as scratch:
            how: dict[str, Any] = {"batch_tokens": machine.batch_tokens, "map": machine.map(), "progress": tick}
            rows = harvest(subjects.model, train.texts, Path(scratch) / "rows", plan, **how)
            for pooling in poolings:
                yield positions, pooling, rows.pooled(recipe.site, pooling)


def _open_positions(recipe: Recipe, train: Dataset, subjects: Subjects) -> list[str]:
    """The positions to try: the recipe's own, or all candidates that every training text has."""
    if recipe.positions != AUTO:
        return [recipe.positions]
    if recipe.pooling == "last":
        return [CANDIDATES[0]]
    tokens = subjects.model.tokens(train.texts, format=recipe.format, max_tokens=recipe.max_tokens)
    roles_nt = tokens.roles.numpy()
    found = [p for p in CANDIDATES if Positions.parse(p).mask(roles_nt).any(axis=1).all()]
    if not found:
        raise UserError(f"no text has tokens at all of {', '.join(CANDIDATES)}: choose --positions yourself")
    return found
