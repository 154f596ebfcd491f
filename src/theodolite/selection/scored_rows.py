"""The rows of one reader and one training set, with the reader's scores, as selection rules get them."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd

from theodolite.core import methods
from theodolite.core.calibrator import CALIBRATE, CERTIFY, SUPPORT
from theodolite.core.reader import Reader
from theodolite.core.run import IN_DISTRIBUTION
from theodolite.core.sealed import damaged
from theodolite.data.splits import one_of_each_cluster, split
from theodolite.selection import spaces
from theodolite.selection.protocol import SelectionCase
from theodolite.selection.rules import ColumnSpec
from theodolite.selection.saved import LabelledRows
from theodolite.study.seed_fits import FitEntry
from theodolite.study.views import SITELESS, Views

Array = np.ndarray
IDENTITY = ["id", "hash", "cluster", "template", "request", "label"]


class ScoredRows:
    """All rows of a case with the reader's log-odds, and the part that each training row belongs to.

    The reader is that of the comparison, which was fitted on the support alone (`study.seed_fits`). Scores of the
    support are out of fold: a reader that fits its own rows would classify all of them correctly, and similarity to
    them would carry no information. The reader scores all other rows here, none of which it was fitted on.

    Raises `Damaged` where the fit is of other rows than the support.
    """

    def __init__(self, case: SelectionCase, views: Views, fit: FitEntry) -> None:
        self.case, self.views = case, views
        method = methods.parse(case.reader)
        self.view, self.reader_site = method.view, "" if method.view in SITELESS else case.site
        self.train = views.frame("train")
        part = split(self.train, case.seed)
        self.at = {SUPPORT: np.flatnonzero(part == "train"), CALIBRATE: np.flatnonzero(part == "calibrate")}
        self.at[CERTIFY] = one_of_each_cluster(self.train, np.flatnonzero(part == "certify"))
        self.test = one_of_each_cluster(self.train, np.flatnonzero(part == "test"))
        self.label = self.train["label"].to_numpy()
        rows = self.at[SUPPORT]
        X = views.get("train", self.view, self.reader_site, case.seed)
        shared = fit.open(case.seed, method.cls)
        if not np.array_equal(shared.rows, rows):  # out-of-fold scores would be put on rows that were fitted on
            raise damaged(fit.record)
        self.reader: Reader = shared.reader
        self.platt = shared.platt
        score_n = self.reader.decision_function(X)
        score_n[rows] = shared.out_of_fold_n
        self.log_odds = {"train": self.platt.log_odds(score_n)}
        for name in views.shifts:
            seen = views.get(name, self.view, self.reader_site, case.seed)
            self.log_odds[name] = self.platt.log_odds(self.reader.decision_function(seen))

    def get_view(self, name: str, at: Array | None = None) -> spaces.GetView:
        """Return the function by which a feature space gets views of one data set, or of some of its rows."""

        def get(view: str, site: str) -> Any:
            whole = self._view(name, view, "" if view in SITELESS else site)
            return whole if at is None else whole[at]

        return get

    @cached_property
    def _view(self) -> Any:
        return lru_cache(maxsize=None)(lambda name, view, site: self.views.get(name, view, site, self.case.seed))

    @cached_property
    def targets(self) -> pd.DataFrame:
        """Identity of every row that rules are applied to: test rows, then the shifts."""
        frames = [self.train.iloc[self.test][IDENTITY].assign(dataset=IN_DISTRIBUTION, split="test")]
        frames += [self.views.frame(name)[IDENTITY].assign(dataset=name, split="shift") for name in self.views.shifts]
        return pd.concat(frames, ignore_index=True).rename(columns={"id": "row", "cluster": "group"})


@dataclass(frozen=True)
class RuleInput:
    """A feature space, its column spec, the rows that rules are fitted on, and the rows they are applied to."""

    space: spaces.FeatureSpace
    spec: ColumnSpec
    labelled: LabelledRows
    targets: Array


def rule_input(scored: ScoredRows, name: str) -> RuleInput:
    """Fit the feature space of this name on the support and put all rows of the case into it."""
    case, support = scored.case, scored.at[SUPPORT]
    rows, label = scored.get_view("train", support), scored.label[support]
    space = spaces.fit(name, rows, label, scored.reader, scored.view, case.site, case.blocks)

    def coordinates(data: str) -> Array:
        return spaces.coordinates(space, scored.get_view(data), scored.log_odds[data])

    train = coordinates("train")
    targets = np.concatenate([train[scored.test], *(coordinates(shift) for shift in scored.views.shifts)])
    at = np.concatenate(list(scored.at.values()))
    part = np.repeat(np.array(list(scored.at), dtype=object), [len(rows) for rows in scored.at.values()])
    labelled = LabelledRows(train[at], scored.label[at], part, scored.train["id"].to_numpy(object)[at])
    n_similarity = space.similarity(scored.get_view("train", at[:1])).shape[1]
    return RuleInput(space, ColumnSpec.of(n_similarity, train.shape[1] > 1 + n_similarity), labelled, targets)
