"""Classes and instances as methods: written as a recipe writes them, read back equal, or refused with a way out."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.svm import LinearSVC

import theodolite
from theodolite.core.discover import load_file
from theodolite.core.errors import UserError
from theodolite.core.methods import parse
from theodolite.readers.k_sparse import KSparse
from theodolite.readers.logistic import Logistic
from theodolite.readers.scikit import CLASSIFIERS
from theodolite.study.given_methods import in_words

OWN = """
import numpy as np
from theodolite.core.reader import LinearReader

class Mine(LinearReader):
    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def _fit(self, rows, target_n):
        self.coef_ = self.scale * (rows[target_n == 1].mean(0) - rows[target_n == 0].mean(0))
        self.intercept_ = 0.0
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    return path


@pytest.mark.parametrize("given", [Logistic, Logistic(C=0.1), KSparse(k=7), LinearSVC, RidgeClassifier(alpha=3.0)])
def test_what_is_written_is_read_back_as_the_same_method(given: Any) -> None:
    (words,) = in_words([given])
    method = parse(words)
    assert method.spec == words
    reader: Any = method.reader()
    wanted = given() if isinstance(given, type) else given
    if isinstance(wanted, Logistic | KSparse):
        assert type(reader) is type(wanted)
        assert reader.get_params() == wanted.get_params()
    else:
        assert CLASSIFIERS[reader.estimator] is type(wanted)
        assert CLASSIFIERS[reader.estimator](**(reader.options or {})).get_params() == wanted.get_params()


def test_words_stay_and_a_path_becomes_one() -> None:
    assert in_words(["lat", "k_sparse(k=4)@latents", Path("a/b.py")]) == ["lat", "k_sparse(k=4)@latents", "a/b.py"]


def test_a_class_of_ones_own_is_named_by_its_file(file: Path) -> None:
    cls = load_file(str(file))
    assert in_words([cls]) == [f"{file}:Mine"]
    assert in_words([cls(scale=2.0)]) == [f"{file}:Mine(scale=2.0)"]
    assert parse(f"{file}:Mine(scale=2.0)").reader().get_params() == {"scale": 2.0}


def test_a_class_that_no_worker_finds_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Inner(Logistic):
        pass

    with pytest.raises(UserError, match=r"defined inside a function or class: .*methods=\['path/to/file.py:Inner'\]"):
        in_words([Inner])
    typed = type("Typed", (Logistic,), {"__module__": "__main__", "__qualname__": "Typed"})
    for main in (None, str(Path(__file__))):  # at a prompt, and in a script
        monkeypatch.setattr(sys.modules["__main__"], "__file__", main, raising=False)
        with pytest.raises(UserError, match="defined in a notebook, at a prompt or in the script that runs"):
            in_words([typed])


def test_what_is_not_linear_or_cannot_be_written_is_refused() -> None:
    with pytest.raises(UserError, match=r"RandomForestClassifier .*neither a reader nor a linear classifier"):
        in_words([RandomForestClassifier])
    with pytest.raises(UserError, match="random_state is RandomState"):
        in_words([LogisticRegression(random_state=np.random.RandomState(0))])
    with pytest.raises(UserError, match="method int"):
        in_words([3])


def test_a_comparison_takes_classes_and_gives_what_their_words_give(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "cache"))
    y = np.arange(80) % 2
    X = np.random.default_rng(0).normal(size=(80, 5)) + y[:, None]
    own = load_file(str(file))
    run: Any = theodolite.compare(
        (X, y), methods=[own, RidgeClassifier(alpha=2.0), Logistic], seeds=2, out=tmp_path / "r"
    )
    assert set(run.frame["method"]) == {
        "mine.py:Mine",
        "scikit(estimator=RidgeClassifier, options={'alpha': 2.0})",
        "logistic",
    }
    assert run.run.recipe["files"]
    frame = run.frame
    assert frame["value"].between(0.8, 1).all()
    again: Any = theodolite.compare(
        (X, y),
        method=[f"{file}:Mine", "scikit(estimator=RidgeClassifier, options={'alpha': 2.0})", "logistic"],
        seeds=2,
        out=tmp_path / "r",
    )
    assert again.run.manifest["finished"] == run.run.manifest["finished"]
