"""Each law can fail: a reader that breaks it is caught by it, and a reader in a user's file is judged whole."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from theodolite.checks import laws
from theodolite.checks.check import case_for, check, law_result
from theodolite.core.errors import UserError
from theodolite.core.methods import Method, parse
from theodolite.core.reader import LinearReader
from theodolite.readers.difference_in_means import DifferenceInMeans
from theodolite.readers.logistic import Logistic


def verdict(law: Any, cls: type, **params: Any) -> Any:
    return law_result(law, case_for(Method("broken", "broken", cls, params, cls.view)))


class Returns(DifferenceInMeans):
    def fit(self, X: Any, y: Any) -> Any:
        super().fit(X, y)


class Changes(DifferenceInMeans):
    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def _fit(self, rows: Any, target_n: np.ndarray) -> None:
        self.scale = float(rows.std())
        super()._fit(rows, target_n)


class Prepares(DifferenceInMeans):
    def __init__(self) -> None:
        self.cache: dict[str, int] = {}


class Remembers(DifferenceInMeans):
    def _fit(self, rows: Any, target_n: np.ndarray) -> None:
        super()._fit(rows, target_n)
        self.fits_ = getattr(self, "fits_", 0) + 1
        self.intercept_ += self.fits_


class Writes(DifferenceInMeans):
    def _fit(self, rows: Any, target_n: np.ndarray) -> None:
        rows -= rows.mean(axis=0)
        super()._fit(rows, target_n)


class Columns(DifferenceInMeans):
    def decision_function(self, X: Any) -> np.ndarray:
        return super().decision_function(X)[:, None]


class Recentres(DifferenceInMeans):
    def _scores(self, rows: Any) -> np.ndarray:
        score_n = super()._scores(rows)
        return score_n - score_n.mean()


class Disagrees(DifferenceInMeans):
    def predict(self, X: Any) -> np.ndarray:
        return self.classes_[(self.decision_function(X) > 1).astype(int)]


class Numbers(DifferenceInMeans):
    def predict(self, X: Any) -> np.ndarray:
        return (self.decision_function(X) > 0).astype(int)


class Ordered(DifferenceInMeans):
    def _fit(self, rows: Any, target_n: np.ndarray) -> None:
        super()._fit(rows[: len(rows) // 2], target_n[: len(rows) // 2])


class Unscaled(DifferenceInMeans):
    scale_free = True


class Divides(DifferenceInMeans):
    def _fit(self, rows: Any, target_n: np.ndarray) -> None:
        super()._fit(rows, target_n)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.coef_ = self.coef_ / np.ptp(rows, axis=0)


class Dense(DifferenceInMeans):
    def _fit(self, rows: Any, target_n: np.ndarray) -> None:
        super()._fit(rows, target_n)
        if not isinstance(rows, np.ndarray):
            self.coef_ = self.coef_ * 2


class Forgives(LinearReader):
    def _rows(self, X: Any, *, reset: bool) -> Any:
        return np.nan_to_num(np.asarray(X, dtype=float))[:, :23]

    def _fit(self, rows: Any, target_n: np.ndarray) -> None:
        self.coef_, self.intercept_ = rows[target_n == 1].mean(axis=0) - rows[target_n == 0].mean(axis=0), 0.0


class OneClass(Forgives):
    def fit(self, X: Any, y: Any) -> Any:
        self.classes_ = np.unique(y)
        self.coef_, self.intercept_ = np.asarray(X)[0], 0.0
        return self


class LongGrid(Logistic):
    @classmethod
    def grid(cls, **fixed: Any) -> list[dict[str, Any]]:
        return [{"C": 1.0 + k} for k in range(13)]


class WrongGrid(Logistic):
    @classmethod
    def grid(cls, **fixed: Any) -> list[dict[str, Any]]:
        return [{"c": 1.0}]


class Greedy(Logistic):
    def _fit_path(self, readers: Any, rows: Any, target_n: np.ndarray) -> None:
        super()._fit_path(readers[:1], rows, target_n)
        for reader in readers[1:]:
            reader.coef_, reader.intercept_ = readers[0].coef_, readers[0].intercept_


class Hides(DifferenceInMeans):
    def _fit(self, rows: Any, target_n: np.ndarray) -> None:
        super()._fit(rows, target_n)
        self._secret = 1.0

    def _scores(self, rows: Any) -> np.ndarray:
        return super()._scores(rows) * self._secret


class Backwards(DifferenceInMeans):
    def _fit(self, rows: Any, target_n: np.ndarray) -> None:
        super()._fit(rows, 1 - target_n)


class Peeks(DifferenceInMeans):
    def _scores(self, rows: Any) -> np.ndarray:  # its score of row i depends on where the row stands
        return super()._scores(rows) + 100 * (np.arange(rows.shape[0]) % 2)


BROKEN = [
    (laws.fit_returns_the_reader, Returns),
    (laws.parameters_are_only_stored, Changes),
    (laws.parameters_are_only_stored, Prepares),
    (laws.fitting_again_gives_the_same, Remembers),
    (laws.input_is_left_alone, Writes),
    (laws.scores_are_one_finite_float_per_row, Columns),
    (laws.rows_are_scored_one_by_one, Recentres),
    (laws.rows_are_scored_one_by_one, Peeks),
    (laws.predictions_follow_scores, Disagrees),
    (laws.any_two_labels_will_do, Numbers),
    (laws.order_of_rows_does_not_matter, Ordered),
    (laws.columns_may_be_rescaled, Unscaled),
    (laws.a_constant_column_is_harmless, Divides),
    (laws.sparse_rows_score_like_dense_ones, Dense),
    (laws.bad_rows_are_refused, Forgives),
    (laws.too_little_is_refused, OneClass),
    (laws.grid_is_short_and_valid, LongGrid),
    (laws.grid_is_short_and_valid, WrongGrid),
    (laws.grid_is_short_and_valid, Greedy),
    (laws.an_artefact_scores_the_same, Hides),
    (laws.a_planted_direction_is_found, Backwards),
    (laws.scikit_learn_finds_no_fault, Forgives),
]


@pytest.mark.parametrize(("law", "cls"), BROKEN, ids=lambda x: x.__name__)
def test_a_broken_reader_is_caught(law: Any, cls: type) -> None:
    assert not verdict(law, cls).passed
    assert verdict(law, DifferenceInMeans).passed


def test_scores_that_know_the_fresh_labels_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_for(parse("difference_in_means"))
    assert law_result(laws.labels_that_mean_nothing_are_not_learnt, case).passed
    monkeypatch.setattr(laws, "auroc", lambda y, s: np.float64(0.6))  # what a leak of the labels would look like
    assert not law_result(laws.labels_that_mean_nothing_are_not_learnt, case).passed


def test_every_law_but_the_null_has_a_reader_that_breaks_it() -> None:
    assert {law for law, _ in BROKEN} | {laws.labels_that_mean_nothing_are_not_learnt} == set(laws.LAWS)


MINE = '''
import numpy as np
from theodolite.core.reader import LinearReader

class Medians(LinearReader):
    """Difference of the class medians."""
    def _fit(self, rows, target_n):
        positive_d, negative_d = (np.median(rows[target_n == t], axis=0) for t in (1, 0))
        self.coef_ = positive_d - negative_d
        self.intercept_ = float(-self.coef_ @ (positive_d + negative_d) / 2)
'''


def test_a_reader_of_your_own_is_judged_by_every_law(tmp_path: Path) -> None:
    (tmp_path / "medians.py").write_text(MINE)
    verdicts = check(f"{tmp_path / 'medians.py'}:Medians")
    assert [v.law for v in verdicts] == [law.__name__.replace("_", " ") for law in laws.LAWS]
    assert [v for v in verdicts if not v.passed] == []
    planted = next(v for v in verdicts if v.law == "a planted direction is found")
    assert "under large noise 0." in planted.message


def test_the_laws_name_what_is_wrong_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "backwards.py").write_text(MINE.replace("(1, 0)", "(0, 1)"))
    failed = {v.law: v.message for v in check(str(tmp_path / "backwards.py")) if not v.passed}
    assert "AUROC 0.00" in failed["a planted direction is found"]


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UserError, match=r"no file 'nowhere\.py'"):
        check("nowhere.py:Mine")
