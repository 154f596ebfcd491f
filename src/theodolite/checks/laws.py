"""The contract of a reader as laws: each is tried on rows in which the answer is known, and says what it saw.

Every discovered reader is held to them in our tests, and a user's own by `theodolite check file.py:Class`.
"""

import inspect
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from theodolite.core.artefact import load_reader, save_reader
from theodolite.core.discover import name_of
from theodolite.core.methods import Method
from theodolite.core.metrics import auroc
from theodolite.core.reader import LinearReader, Reader
from theodolite.core.seeds import generator
from theodolite.readers.difference_in_means import DifferenceInMeans
from theodolite.toys.planted_direction import plant


class LawFails(Exception):
    """Raised where a law does not hold; the text says how."""


@dataclass(frozen=True)
class Case:
    """A reader to check, with rows of its view: training rows, fresh rows, and what was planted in both."""

    method: Method
    X: Any
    y: np.ndarray
    fresh: Any
    fresh_y: np.ndarray
    direction_d: np.ndarray

    def reader(self) -> Reader:
        return self.method.reader(seed=0)

    def fitted(self) -> Reader:
        return self.reader().fit(self.X, self.y)


def planted_rows(y: np.ndarray, direction_d: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Unit noise, and four units of distance between the classes."""
    return np.outer(4 * (y - 0.5), direction_d) + rng.normal(size=(len(y), len(direction_d)))


def planted_texts(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random words; a positive text is longer and nine times in ten holds the word `planted`."""
    words = np.array(["stone", "river", "cloud", "apple", "seven", "quiet", "green", "paper", "north", "light"])
    lengths = 5 + rng.integers(0, 6, len(y)) + 5 * y
    marked = rng.random(len(y)) < 0.9 * y
    texts = [" ".join([*rng.choice(words, n), *["planted"] * int(m)]) for n, m in zip(lengths, marked, strict=True)]
    return np.array(texts, dtype=object)


def fit_returns_the_reader(case: Case) -> str:
    reader = case.reader()
    _require(reader.fit(case.X, case.y) is reader, "fit must return self")
    return ""


def parameters_are_only_stored(case: Case) -> str:
    reader = case.reader()
    before = reader.get_params()
    extra = set(vars(reader)) - set(before)
    _require(not extra, f"__init__ sets {sorted(extra)}, which are not parameters")
    after = reader.fit(case.X, case.y).get_params()
    changed = [name for name in before if after[name] is not before[name]]
    _require(not changed, f"fit changes the parameters {changed}")
    return ""


def fitting_again_gives_the_same(case: Case) -> str:
    reader = case.fitted()
    first_n = reader.decision_function(case.fresh)
    _equal(reader.fit(case.X, case.y).decision_function(case.fresh), first_n, "fitting the same object twice")
    _equal(clone(reader).fit(case.X, case.y).decision_function(case.fresh), first_n, "fitting a clone")
    return ""


def input_is_left_alone(case: Case) -> str:
    X, y = case.X.copy(), case.y.copy()
    reader = case.reader().fit(X, y)
    reader.decision_function(X)
    _require(bool((X == case.X).all() and (y == case.y).all()), "fit or decision_function changes its input")
    return ""


def scores_are_one_finite_float_per_row(case: Case) -> str:
    score_n = case.fitted().decision_function(case.fresh)
    _require(score_n.shape == case.fresh_y.shape, f"shape {score_n.shape} for {len(case.fresh_y)} rows")
    _require(score_n.dtype == np.float64 and bool(np.isfinite(score_n).all()), "scores must be finite float64")
    return ""


def rows_are_scored_one_by_one(case: Case) -> str:
    reader = case.fitted()
    together_n = reader.decision_function(case.fresh)[:5]
    alone_n = np.concatenate([reader.decision_function(case.fresh[i : i + 1]) for i in range(5)])
    _close(alone_n, together_n, "scoring a row alone")
    return ""


def predictions_follow_scores(case: Case) -> str:
    reader = case.fitted()
    score_n = reader.decision_function(case.fresh)
    _require(bool((reader.predict(case.fresh) == (score_n > 0)).all()), "predict must be 1 where the score is above 0")
    if not hasattr(reader, "predict_proba"):
        return "no native probabilities"
    probability_n2 = reader.predict_proba(case.fresh)
    _require(np.allclose(probability_n2.sum(axis=1), 1), "probabilities must sum to 1")
    _require(
        bool(((probability_n2[:, 1] > 0.5) == (score_n > 0)).all()),
        "probabilities must cross .5 where the score crosses 0",
    )
    return ""


def any_two_labels_will_do(case: Case) -> str:
    words = np.array(["benign", "harmful"])
    reader = case.reader().fit(case.X, words[case.y])
    _equal(reader.decision_function(case.fresh), case.fitted().decision_function(case.fresh), "labels as words")
    _require(set(reader.predict(case.fresh)) <= set(words), "predict must return the labels it was given")
    return ""


def order_of_rows_does_not_matter(case: Case) -> str:
    if not case.method.cls.order_free:
        return "not claimed (order_free = False)"
    order = generator(1, "laws").permutation(len(case.y))
    shuffled_n = case.reader().fit(case.X[order], case.y[order]).decision_function(case.fresh)
    _close(shuffled_n, case.fitted().decision_function(case.fresh), "another order of the training rows")
    return ""


def columns_may_be_rescaled(case: Case) -> str:
    if not case.method.cls.scale_free:
        return "not claimed (scale_free = False)"
    scale_d = 10 ** generator(2, "laws").uniform(-3, 3, case.X.shape[1])
    scaled_n = case.reader().fit(case.X * scale_d, case.y).decision_function(case.fresh * scale_d)
    _close(scaled_n, case.fitted().decision_function(case.fresh), "rescaled columns")
    return ""


def a_constant_column_is_harmless(case: Case) -> str:
    def widened(X: Any) -> Any:
        return "the " + X if case.method.view == "text" else np.column_stack([X, np.full(len(X), 0.1)])

    score_n = case.reader().fit(widened(case.X), case.y).decision_function(widened(case.fresh))
    _require(bool(np.isfinite(score_n).all()), "a constant column makes scores that are not finite")
    return ""


def sparse_rows_score_like_dense_ones(case: Case) -> str:
    if not case.method.cls.accepts_sparse:
        return "not claimed (accepts_sparse = False)"
    X, fresh = (np.where(abs(rows) > 0.5, rows, 0.0) for rows in (case.X, case.fresh))
    dense_n = case.reader().fit(X, case.y).decision_function(fresh)
    sparse_n = case.reader().fit(sp.csr_array(X), case.y).decision_function(sp.csr_array(fresh))
    _close(sparse_n, dense_n, "csr rows")
    return ""


def bad_rows_are_refused(case: Case) -> str:
    reader = case.fitted()
    for bad in (None,) if case.method.view == "text" else (np.nan, np.inf):
        X = case.X.copy()
        X[3 if X.ndim == 1 else (3, 1)] = bad
        _refuses(f"fitting rows with {bad}", case.reader().fit, X, case.y)
        _refuses(f"scoring rows with {bad}", reader.decision_function, X)
    if case.method.view != "text":
        _refuses("scoring rows of another width", reader.decision_function, case.fresh[:, :-1])
    return ""


def too_little_is_refused(case: Case) -> str:
    fit = case.reader().fit
    _refuses("rows of one class", fit, case.X, np.zeros_like(case.y))
    _refuses("more than two classes", fit, case.X, np.arange(len(case.y)) % 3)
    _refuses("no rows", fit, case.X[:0], case.y[:0])
    _refuses("one row", fit, case.X[:1], case.y[:1])
    _refuses("fewer labels than rows", fit, case.X, case.y[:-1])
    return ""


def grid_is_short_and_valid(case: Case) -> str:
    cls, fixed = case.method.cls, case.method.params
    grid = cls.grid(**fixed)
    _require(1 <= len(grid) <= 12, f"grid() has {len(grid)} configurations, it may have 1 to 12")
    unknown = {name for params in grid for name in params} - set(inspect.signature(cls).parameters)
    _require(not unknown, f"grid() names {sorted(unknown)}, which are not parameters")
    again = {name for params in grid for name in params} & set(fixed)
    _require(not again, f"grid() varies {sorted(again)}, which the recipe fixes")
    for params, path in zip(grid, case.reader().fit_path(case.X, case.y, grid), strict=True):
        alone = case.reader().set_params(**params).fit(case.X, case.y)
        _close(path.decision_function(case.fresh), alone.decision_function(case.fresh), f"fit_path at {params}")
        _equal(path.predict(case.fresh), alone.predict(case.fresh), f"fit_path at {params}")
    return f"{len(grid)} configurations"


def an_artefact_scores_the_same(case: Case) -> str:
    reader = case.fitted()
    with tempfile.TemporaryDirectory() as folder:
        save_reader(reader, folder)
        loaded = load_reader(folder, {name_of(case.method.cls): case.method.cls})
    _equal(loaded.decision_function(case.fresh), reader.decision_function(case.fresh), "saving and loading")
    _equal(loaded.predict(case.fresh), reader.predict(case.fresh), "saving and loading")
    return ""


def labels_that_mean_nothing_are_not_learnt(case: Case) -> str:
    rng = generator(3, "laws")
    nothing, fresh_nothing = np.zeros_like(case.y), np.zeros_like(case.fresh_y)
    if case.method.view == "text":
        X, fresh = planted_texts(nothing, rng), planted_texts(fresh_nothing, rng)
    else:
        X, fresh = (planted_rows(y, case.direction_d, rng) for y in (nothing, fresh_nothing))
    scores = [case.reader().fit(X, rng.permutation(case.y)).decision_function(fresh) for _ in range(8)]
    mean = float(np.mean([auroc(rng.permutation(case.fresh_y), score_n) for score_n in scores]))
    bound = 4 * np.sqrt(1 / 3 / len(case.fresh_y) / len(scores))  # four standard errors of an AUROC at chance
    _require(abs(mean - 0.5) <= bound, f"mean AUROC {mean:.3f} on random labels, more than {bound:.3f} from .5")
    return f"mean AUROC {mean:.3f}"


def a_planted_direction_is_found(case: Case) -> str:
    if not case.method.cls.learns:
        return "not claimed (learns = False)"
    reader = case.fitted()
    area = float(auroc(case.fresh_y, reader.decision_function(case.fresh)))
    _require(area > 0.9, f"AUROC {area:.3f} on fresh rows, where .9 is easy")
    if not isinstance(reader, LinearReader) or case.method.view in ("text", "answer"):
        return f"AUROC {area:.3f}"
    cosine = float(reader.direction_ @ case.direction_d)
    _require(cosine > 0.8, f"cosine {cosine:.2f} with the planted direction, where .8 is easy")
    toy = plant()
    hard, mean = (toy.cosine(r.fit(toy.rows, toy.labels).direction_) for r in (case.reader(), DifferenceInMeans()))
    return f"AUROC {area:.3f}, cosine {cosine:.2f}; under large noise {hard:.2f} (difference in means {mean:.2f})"


def scikit_learn_finds_no_fault(case: Case) -> str:
    if case.method.view == "text":
        return "not applicable to texts"
    results = check_estimator(case.method.cls(), on_skip=None, on_fail=None)
    failed = [f"{r['check_name']} ({r['exception']})" for r in results if r["status"] == "failed"]
    _require(not failed, "; ".join(failed))
    return f"{sum(r['status'] == 'passed' for r in results)} of its checks passed"


LAWS: list[Callable[[Case], str]] = [
    fit_returns_the_reader,
    parameters_are_only_stored,
    fitting_again_gives_the_same,
    input_is_left_alone,
    scores_are_one_finite_float_per_row,
    rows_are_scored_one_by_one,
    predictions_follow_scores,
    any_two_labels_will_do,
    order_of_rows_does_not_matter,
    columns_may_be_rescaled,
    a_constant_column_is_harmless,
    sparse_rows_score_like_dense_ones,
    bad_rows_are_refused,
    too_little_is_refused,
    grid_is_short_and_valid,
    an_artefact_scores_the_same,
    labels_that_mean_nothing_are_not_learnt,
    a_planted_direction_is_found,
    scikit_learn_finds_no_fault,
]


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise LawFails(message)


def _equal(found_n: np.ndarray, wanted_n: np.ndarray, what: str) -> None:
    _require(np.array_equal(found_n, wanted_n), f"{what} changes the scores")


def _close(found_n: np.ndarray, wanted_n: np.ndarray, what: str) -> None:
    """Equal up to rounding: within a millionth of the scores' own spread."""
    worst = float(np.abs(found_n - wanted_n).max())
    _require(worst <= 1e-6 * (np.abs(wanted_n).max() or 1.0), f"{what} changes the scores by up to {worst:.2g}")


def _refuses(what: str, call: Callable[..., Any], *arguments: Any) -> None:
    try:
        call(*arguments)
    except ValueError:
        return
    except Exception as error:
        raise LawFails(f"{what}: raised {type(error).__name__} ({error}), not a ValueError that says so") from None
    raise LawFails(f"{what} must be refused with a ValueError")
