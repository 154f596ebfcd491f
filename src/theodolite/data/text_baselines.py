"""Accuracy of length, surface form and words alone: a probe that does no better has read the data set instead."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from theodolite.core import surface
from theodolite.core.bootstrap import bootstrap_weights, crossed_variance, fewest_groups, hidden_failures, with_crossing
from theodolite.core.metrics import auroc
from theodolite.data.clean import MIN_PER_CLASS
from theodolite.data.splits import folds

N_BOOT = 500
N_FOLDS = 5


@dataclass(frozen=True)
class TextBaseline:
    """AUROC of a text-only classifier with a 95 % interval over groups of rows.

    Fitted on other rows, the interval is of that one fit. Fitted on itself, it is of the fit that such rows give: there
    every pair of rows is scored twice, once each way round, and where the texts say nothing both scores are the same
    luck. The bootstrap of the scores sees it once, so its variance counts twice: where labels are random the
    interval covers .5 in 95 to 98 % (`benchmarks/text_baselines.py`).
    feature: one of `FEATURES`. fitted_on: "itself" (grouped cross-validation), "train", or "train without SOURCE".
    """

    feature: str
    fitted_on: str
    scored_on: str
    auroc: float
    lo: float
    hi: float
    n: int
    n_groups: int


def text_baselines(train: pd.DataFrame, shifts: Mapping[str, pd.DataFrame], seed: int) -> list[TextBaseline]:
    """Every feature inside every data set, from the training mix to every shift, and from the other sources to each.

    A data set or source with too few rows of a class is left out: there is no AUROC of one class. One whose classes
    are too few clusters for folds has no baseline fitted on itself (`can_be_folded`).
    """
    rows = []
    for feature, make in FEATURES.items():
        for fitted_on, scored_on, frame, scores in _comparisons(train, shifts, make, seed):
            variance = 2.0 if fitted_on == "itself" else 1.0
            rows.append(TextBaseline(feature, fitted_on, scored_on, *_interval(frame, scores, seed, variance)))
    return rows


def _comparisons(
    train: pd.DataFrame, shifts: Mapping[str, pd.DataFrame], make: Callable[[], Pipeline], seed: int
) -> Iterator[tuple[str, str, pd.DataFrame, np.ndarray]]:
    whole = make().fit(train["text"], train["label"])
    for name, frame in {"train": train, **shifts}.items():
        if not _has_both(frame):
            continue
        # wrapped, a request stands in several rows beside its counterpart of the other class
        if not _is_wrapped(frame) and can_be_folded(frame, seed):
            yield "itself", name, frame, _out_of_fold(frame, make, seed)
        if name != "train":
            yield "train", name, frame, whole.decision_function(frame["text"])
    for source, frame in train.groupby("source"):
        others = train[~train["cluster"].isin(frame["cluster"])]
        if _has_both(frame) and _has_both(others):
            fitted = make().fit(others["text"], others["label"])
            yield f"train without {source}", str(source), frame, fitted.decision_function(frame["text"])


def _length() -> Pipeline:
    """Logistic regression on the logarithms of the numbers of characters and of words."""
    return make_pipeline(FunctionTransformer(surface.log_lengths), StandardScaler(), LogisticRegression())


def _words() -> Pipeline:
    """Logistic regression on tf-idf of words and pairs of words; one-letter words and question marks count."""
    vectoriser = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD)
    return make_pipeline(vectoriser, LogisticRegression(C=10.0, max_iter=1000))


def _surface() -> Pipeline:
    """Logistic regression on how a text is written: casing, digits, marks, white space, scripts, length."""
    return make_pipeline(FunctionTransformer(surface.features), StandardScaler(), LogisticRegression(max_iter=1000))


def _characters() -> Pipeline:
    """Logistic regression on tf-idf of runs of up to four characters as they stand, in their case."""
    vectoriser = TfidfVectorizer(analyzer=surface.character_ngrams, sublinear_tf=True)
    return make_pipeline(vectoriser, LogisticRegression(C=10.0, max_iter=1000))


WORD = r"\w+|[^\w\s]"
FEATURES = {"length": _length, "surface": _surface, "words": _words, "characters": _characters}


def _out_of_fold(frame: pd.DataFrame, make: Callable[[], Pipeline], seed: int) -> np.ndarray:
    fold, scores = folds(frame, N_FOLDS, seed), np.empty(len(frame))
    for k in range(N_FOLDS):
        held = fold == k
        fitted = make().fit(frame["text"][~held], frame["label"][~held])
        scores[held] = fitted.decision_function(frame["text"][held])
    return scores


def can_be_folded(frame: pd.DataFrame, seed: int) -> bool:
    """Return whether each class has a cluster for every fold, so that no fold is left with one class to train on."""
    per_class = frame.groupby("label")["cluster"].nunique().reindex([0, 1], fill_value=0)
    if per_class.min() < N_FOLDS:
        return False
    fold = folds(frame, N_FOLDS, seed)
    return all(frame["label"][fold != k].nunique() == 2 for k in range(N_FOLDS))


def _has_both(frame: pd.DataFrame) -> bool:
    return frame["label"].value_counts().reindex([0, 1], fill_value=0).min() >= MIN_PER_CLASS


def _is_wrapped(frame: pd.DataFrame) -> bool:
    return bool((frame["template"] != "").any())


def _interval(
    frame: pd.DataFrame, scores: np.ndarray, seed: int, variance: float
) -> tuple[float, float, float, int, int]:
    """(AUROC, 2.5 %, 97.5 %, rows, groups) of these scores; `variance` times that of the bootstrap.

    Wrapped rows are grouped by request and by template at once.

    Near 0 and 1 the bootstrap sees hardly any failure: what the groups of the smaller class can hide bounds it there.
    """
    groupings = [frame["cluster"].to_numpy()]
    if _is_wrapped(frame):
        groupings.append(frame["template"].to_numpy(dtype=str))
    y, n_groups = frame["label"].to_numpy(), min(len(np.unique(grouping)) for grouping in groupings)
    value = float(auroc(y, scores))
    draws = np.array([auroc(y, scores, bootstrap_weights(g, N_BOOT, seed)) for g in with_crossing(groupings)])
    if len(draws) == 1:
        lo, hi = value + variance**0.5 * (np.nanquantile(draws, [0.025, 0.975]) - value)
    else:
        reach = 1.96 * (variance * crossed_variance(np.nanvar(draws, axis=1))) ** 0.5
        lo, hi = value - reach, value + reach
    hidden = hidden_failures(min(fewest_groups(y, grouping) for grouping in groupings))
    lo = min(lo, 1 - hidden) if value > 1 - hidden else lo
    hi = max(hi, hidden) if value < hidden else hi
    return value, float(np.clip(lo, 0, 1)), float(np.clip(hi, 0, 1)), len(y), n_groups
