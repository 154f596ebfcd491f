"""One data set as arrays: the scores of every method and seed, and the groups of its rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from theodolite.core.seeds import child_seed
from theodolite.core.stats import Interval, Sample
from theodolite.core.training_sets import TrainingSets

Array = np.ndarray
Key = tuple[str, str]  # method, site
Row = dict[str, Any]  # of `Run.add_rows`
N_BOOT = 2000


@dataclass(frozen=True)
class ScoreMatrix:
    """One data set's rows, ids ascending, with their bootstrap weights; scores and probabilities (S, n) by method and
    site, NaN where unscored.
    """

    name: str
    split: str
    seeds: list[str]
    rows: Array
    sample: Sample
    templates: Array | None
    scores: dict[Key, Array]
    probabilities: dict[Key, Array]

    @property
    def has_both_classes(self) -> bool:
        """Return whether ranking is defined: an over-refusal set has only negatives."""
        return len(np.unique(self.sample.y)) == 2

    def is_constant(self, key: Key) -> bool:
        """Return whether every seed gives all rows one score: majority, or a latent that fires on none of them."""
        found = [np.unique(s[~np.isnan(s)]) for s in self.scores[key]]
        return all(len(values) <= 1 for values in found) and any(map(len, found))


def _numbered(names: pd.Series, hashes: pd.Series) -> Array:
    """A number for each group, by the smallest content hash in it: bootstrap weights follow content, not row order."""
    keys = pd.DataFrame({"hash": hashes.groupby(names.to_numpy()).transform("min"), "name": names})
    return keys.groupby(["hash", "name"], sort=True).ngroup().to_numpy()


def read_score_matrix(name: str, frame: pd.DataFrame, *, training: TrainingSets, n_boot: int, seed: int) -> ScoreMatrix:
    """Arrays of one data set from rows of `core.run.SCORE_COLUMNS`.

    A row that one method lacks and another has for the same seed is unscored, not unasked. Rows wrapped in templates
    vary with the request and with the template, all others with their near-duplicate group.
    """
    seed_of, seeds = pd.factorize(frame["seed"].astype(str), sort=True)
    row_of, ids = pd.factorize(frame["row"], sort=True)
    first = frame.iloc[np.unique(row_of, return_index=True)[1]]
    wrapped = bool((first["template"] != "").any())
    columns = ("request", "template") if wrapped else ("group",)
    groups = [_numbered(first[column], first["hash"]) for column in columns]
    asked = np.zeros((len(seeds), len(ids)), bool)
    asked[seed_of, row_of] = True
    places = frame.groupby(["method", "site"], sort=False).indices

    def matrices(column: str) -> dict[Key, Array]:
        values, found = frame[column].to_numpy(float), {}
        for key, at in places.items():
            found[key] = np.full(asked.shape, np.nan)
            found[key][seed_of[at], row_of[at]] = values[at]
        return found

    weights_seed = child_seed(seed, "evaluate", name)
    return ScoreMatrix(
        name=name,
        split=str(first["split"].iloc[0]),
        seeds=list(seeds),
        rows=np.asarray(ids),
        sample=Sample.of(
            first["label"].to_numpy(int), groups, asked, training=training, n_boot=n_boot, seed=weights_seed
        ),
        templates=groups[1] if wrapped else None,
        scores=matrices("score"),
        probabilities=matrices("probability"),
    )


def numbers(figure: Interval) -> Row:
    """A figure as the columns of a row."""
    return {name: getattr(figure, name) for name in ("value", "lo", "hi", "n", "n_groups", "n_unscored")}
