"""Saved readers: bit-equal after loading, and everything that does not fit is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from theodolite.core.artefact import load_reader, save_reader
from theodolite.core.discover import discover
from theodolite.core.errors import UserError
from theodolite.core.reader import LinearReader
from theodolite.readers.logistic import Logistic
from theodolite.readers.word_ngrams import WordNgrams

ROWS = np.random.default_rng(0).normal(size=(30, 4))
Y = (ROWS[:, 0] > 0).astype(int)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_reader(Logistic(C=0.3).fit(ROWS, Y), tmp_path, about={"site": "blocks.17.resid_post"})
    return tmp_path


def edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_two_files_say_everything(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    assert sorted(p.name for p in saved.iterdir()) == ["config.json", "model.safetensors"]
    assert config["method"] == "logistic"
    assert config["params"] == {"C": 0.3, "split": None}
    assert config["origin"].startswith("theodolite ")
    assert config["about"] == {"site": "blocks.17.resid_post"}
    assert config["arrays"] == ["classes_", "coef_"]


@pytest.mark.parametrize("y", [Y, np.array(["benign", "harmful"])[Y], np.array(["no", "yes"], dtype=object)[Y], Y > 0])
def test_scores_and_labels_are_bit_equal(tmp_path: Path, y: np.ndarray) -> None:
    reader = Logistic(C=0.3).fit(ROWS, y)
    save_reader(reader, tmp_path)
    loaded = load_reader(tmp_path)
    np.testing.assert_array_equal(loaded.decision_function(ROWS), reader.decision_function(ROWS))
    np.testing.assert_array_equal(loaded.predict(ROWS), reader.predict(ROWS))
    assert loaded.classes_.dtype == reader.classes_.dtype
    assert loaded.get_params() == reader.get_params()


def test_a_vocabulary_of_any_script(tmp_path: Path) -> None:
    texts = ["größer 火", "größer", "klein 火 x", "klein \u2028 y"]
    reader = WordNgrams().fit(texts, [1, 1, 0, 0])
    save_reader(reader, tmp_path)
    np.testing.assert_array_equal(load_reader(tmp_path).decision_function(texts), reader.decision_function(texts))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has format 2, this version reads 1"),
        ({"extra": 1}, "must have the keys about, arrays"),
        ({"method": "logistics"}, "did you mean 'logistic'"),
        ({"origin": "elsewhere 1.0"}, "the saved reader from elsewhere 1.0: they need not be the same code"),
        ({"params": {"C": 1, "power": 9}}, r"logistic has no parameter \['power'\]"),
        ({"fitted": {"__class__": "x"}}, "'__class__' is not the name of anything fitted"),
        ({"fitted": {"fit": 1}}, "'fit' is not the name of anything fitted"),
        ({"fitted": {"x_": {"labels": ["a", "b"], "dtype": "<U400000000"}}}, "x_ is no list of labels of type '<U4"),
        ({"fitted": {"x_": {"labels": ["a", "b"], "dtype": "V9"}}}, "x_ is no list of labels"),
        ({"fitted": {"x_": {"labels": ["a", [1]], "dtype": "object"}}}, "x_ is no list of labels"),
        ({"fitted": {"x_": {"labels": ["a"], "dtype": "<f8"}}}, "x_ is no list of labels"),
        ({"fitted": {"x_": {"labels": 3}}}, "x_ is no list of labels"),
        ({"fitted": {"intercept_": "x"}}, "intercept_ is 'x', and logistic fits another kind"),
        ({"fitted": {"intercept_": True}}, "intercept_ is True"),
        ({"fitted": {"coef_": {"labels": ["a"], "dtype": "object"}}}, "coef_ stands in both files"),
        ({"fitted": {"n_features_in_": 4.5}}, "n_features_in_ is 4.5"),
        ({"fitted": {"intercept_": float("nan")}}, r"config\.json is damaged or not JSON \(NaN is not a finite number"),
        ({"params": {"C": float("inf")}}, "Infinity is not a finite number"),
        ({"fitted": 3}, r"config\.json holds no valid fitted"),
        ({"arrays": ["coef_"]}, r"holds \['classes_', 'coef_'\], config.json names \['coef_'\]"),
    ],
)
def test_what_does_not_fit_is_refused(saved: Path, changes: dict[str, Any], message: str) -> None:
    edit(saved, **changes)
    with pytest.raises(UserError, match=message):
        load_reader(saved)


def test_broken_files_are_named(saved: Path) -> None:
    (saved / "model.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        load_reader(saved)
    save_file({"coef_": np.zeros(4), "fit": np.zeros(1)}, saved / "model.safetensors")
    with pytest.raises(UserError, match="holds"):
        load_reader(saved)
    (saved / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is damaged or not JSON"):
        load_reader(saved)
    (saved / "config.json").unlink()
    with pytest.raises(UserError, match="no saved reader"):
        load_reader(saved)


def test_fitted_arrays_are_of_the_kind_that_the_reader_declares(tmp_path: Path) -> None:
    save_reader(Logistic(C=0.3).fit(ROWS, np.array(["no", "yes"])[Y]), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    three = config["fitted"] | {"classes_": {"labels": ["no", "yes", "x"], "dtype": "<U3"}}
    edit(tmp_path, fitted=three)
    with pytest.raises(UserError, match=r"classes_ is an array of <U3 and shape \(3,\)"):
        load_reader(tmp_path)
    save_file({}, tmp_path / "model.safetensors")
    for coef in ({"labels": ["a"], "dtype": "object"}, [0.0] * 4, 3):
        edit(tmp_path, fitted=config["fitted"] | {"coef_": coef}, arrays=[])
        with pytest.raises(UserError, match=r"coef_ is .*, and logistic fits another kind"):
            load_reader(tmp_path)


def test_a_number_too_large_for_a_float_is_no_finite_one(saved: Path) -> None:
    path = saved / "config.json"
    path.write_text(path.read_text().replace("0.3", "1e999"))
    with pytest.raises(UserError, match="1e999 is not a finite number"):
        load_reader(saved)


def test_a_reader_from_a_file_needs_that_very_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from theodolite.readers.ridge import Ridge\nclass Mine(Ridge):\n    'Mine.'\n")
    registry = discover(files=[str(path)])
    save_reader(registry["mine"]().fit(ROWS, Y), tmp_path / "saved")
    with pytest.raises(UserError, match="unknown method 'mine'"):
        load_reader(tmp_path / "saved")
    assert load_reader(tmp_path / "saved", registry).coef_.shape == (4,)
    path.write_text(path.read_text() + "# changed\n")
    with pytest.raises(UserError, match="need not be the same code"):
        load_reader(tmp_path / "saved", registry)


def test_what_cannot_be_written_is_the_methods_mistake(tmp_path: Path) -> None:
    reader = Logistic().fit(ROWS, Y)
    reader.helper_ = LinearReader()
    with pytest.raises(UserError, match="helper_ is LinearReader: what a reader fits must be arrays"):
        save_reader(reader, tmp_path)
    assert list(tmp_path.iterdir()) == []
