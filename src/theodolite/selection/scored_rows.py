"""The rows of one reader and one training set, as judges see them."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd

from theodolite.core.calibrator import CALIBRATE, CERTIFY, SUPPORT
from theodolite.core.reader import Reader
from theodolite.core.run import IN_DISTRIBUTION
from theodolite.core.seeds import child_seed
from theodolite.data.splits import folds, one_of_each_cluster, split
from theodolite.selection import spaces
from theodolite.selection.protocol import Case
from theodolite.selection.rules import Look
from theodolite.selection.saved import Evidence
from theodolite.study.tune import tune
from theodolite.study.views import SITELESS, Views, configured

Array = np.ndarray
IDENTITY = ["id", "hash", "cluster", "template", "request", "label"]


class Sighted:
    """A case's rows: the reader's log-odds of all of them, and which are for what.

    Scores of the support are those of readers that did not see the row: a reader that fits its own rows would call
    them all right, and similarity would say nothing.
    """

    def __init__(self, case: Case, views: Views) -> None:
        self.case, self.views = case, views
        method = configured(case.reader, views, case.site)
        self.view, self.reader_site = method.view, "" if method.view in SITELESS else case.site
        self.train = views.frame("train")
        part = split(self.train, case.seed)
        self.at = {SUPPORT: np.flatnonzero(part == "train"), CALIBRATE: np.flatnonzero(part == "calibrate")}
        self.at[CERTIFY] = one_of_each_cluster(self.train, np.flatnonzero(part == "certify"))
        self.test = one_of_each_cluster(self.train, np.flatnonzero(part == "test"))
        self.label = self.train["label"].to_numpy()
        rows = self.at[SUPPORT]
        X = views.get("train", self.view, self.reader_site, case.seed)
        inner = folds(self.train.iloc[rows], seed=case.seed)
        tuned = tune(method, X[rows], self.label[rows], inner, seed=child_seed(case.seed, case.reader))
        self.reader: Reader = tuned.estimator
        self.platt = tuned.platt
        score_n = self.reader.decision_function(X)
        score_n[rows] = tuned.out_of_fold_n
        self.log_odds = {"train": self.platt.log_odds(score_n)}
        for name in views.shifts:
            seen = views.get(name, self.view, self.reader_site, case.seed)
            self.log_odds[name] = self.platt.log_odds(self.reader.decision_function(seen))

    def rows(self, name: str, at: Array | None = None) -> spaces.Rows:
        """How a map asks for views of one data set."""

        def get(view: str, site: str) -> Any:
            whole = self._view(name, view, "" if view in SITELESS else site)
            return whole if at is None else whole[at]

        return get

    @cached_property
    def _view(self) -> Any:
        return lru_cache(maxsize=None)(lambda name, view, site: self.views.get(name, view, site, self.case.seed))

    @cached_property
    def asked(self) -> pd.DataFrame:
        """Identity of every row that is judged: test rows, then the shifts."""
        frames = [self.train.iloc[self.test][IDENTITY].assign(dataset=IN_DISTRIBUTION, split="test")]
        frames += [self.views.frame(name)[IDENTITY].assign(dataset=name, split="shift") for name in self.views.shifts]
        return pd.concat(frames, ignore_index=True).rename(columns={"id": "row", "cluster": "group"})


@dataclass(frozen=True)
class Table:
    """A map, how judges look at its rows, those they learn from, and those they are asked about."""

    map: spaces.Map
    look: Look
    evidence: Evidence
    asked: Array


def table_of(sighted: Sighted, name: str) -> Table:
    case, support = sighted.case, sighted.at[SUPPORT]
    rows, label = sighted.rows("train", support), sighted.label[support]
    fitted = spaces.fit(name, rows, label, sighted.reader, sighted.view, case.site, case.blocks)

    def table(data: str) -> Array:
        return spaces.coordinates(fitted, sighted.rows(data), sighted.log_odds[data])

    train = table("train")
    asked = np.concatenate([train[sighted.test], *(table(shift) for shift in sighted.views.shifts)])
    at = np.concatenate(list(sighted.at.values()))
    part = np.repeat(np.array(list(sighted.at), dtype=object), [len(rows) for rows in sighted.at.values()])
    evidence = Evidence(train[at], sighted.label[at], part, sighted.train["id"].to_numpy(object)[at])
    n_near = fitted.near(sighted.rows("train", at[:1])).shape[1]
    return Table(fitted, Look.of(n_near, train.shape[1] > 1 + n_near), evidence, asked)
