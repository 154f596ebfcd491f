"""The whole comparison on a tiny random model and a file of 160 rows: every stage, every artefact, twice the same."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import theodolite
from theodolite.comparison import reading
from theodolite.core.errors import UserError
from theodolite.core.run import differences
from theodolite.dictionaries import opening
from theodolite.models.model import Model
from theodolite.report import html, verdict_words
from theodolite.report.sheet import Sheet
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

METHODS = ["difference_in_means", "logistic", "k_sparse@latents", "logistic@state+latents", "word_ngrams", "majority"]
COMMAND = "theodolite compare mine.csv"
WORDS = ["house", "river", "green", "walk", "slowly", "over", "tall", "stone", "bridge", "near", "old", "mill", "birds"]


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model("llama"), byte_tokenizer(), name="tiny", hash="tiny-0")


def table(n: int, seed: int) -> pd.DataFrame:
    """Random words; positives hold one word more, which bytes and n-grams can both see."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    texts = [" ".join([*rng.choice(WORDS, 7), "zzzz"][: 7 + y]) for y in label]
    return pd.DataFrame({"prompt": texts, "bad": label})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files lie, and a cache for all tests."""
    folder = tmp_path_factory.mktemp("runner")
    table(160, 0).to_csv(folder / "mine.csv", index=False)
    table(80, 1).to_csv(folder / "other.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def finished(home: Path, model: Model) -> Path:
    """A finished Run of one method, for tests to copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THEODOLITE_CACHE", str(home / "cache"))
        compared((home / "mine.csv", home / "other.csv"), model, home / "a", methods=METHODS[:1], command=COMMAND)
    return home / "a"


@pytest.fixture
def files(home: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setenv("THEODOLITE_CACHE", str(home / "cache"))
    return home / "mine.csv", home / "other.csv"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished Run."""
    return Path(shutil.copytree(finished, tmp_path / "a"))


def compared(files: tuple[Path, Path], model: Model, out: Path, **options: object) -> theodolite.Result:
    settings = {
        "text": "prompt",
        "label": "bad",
        "shifts": [str(files[1])],
        "seeds": 2,
        "methods": METHODS,
        "sae": "none",
    }
    return theodolite.compare(files[0], model=model, out=out, **settings | options)


def test_a_file_of_ones_own_becomes_a_finished_run(files, model, tmp_path) -> None:
    result = compared(files, model, tmp_path / "run", seeds=5)
    rows = result.rows
    best = rows.query("method == 'word_ngrams' and metric == 'auroc' and seed == 'all' and task == 'matched'")
    assert set(best["dataset"]) == {"in-distribution", "other"}
    assert (best["value"] > 0.95).all()
    assert (best["lo"] <= best["value"]).all()
    chance = rows.query("method == 'majority' and metric == 'auroc' and seed == 'all' and task == 'matched'")
    assert (chance["value"] == 0.5).all()
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert "zzzz" not in (tmp_path / "run" / "report.html").read_text()
    assert {n["kind"] for n in result.notes} >= {"absent"}
    assert "no dictionary" in verdict_words.sentence(Sheet(result.run))


def test_a_second_run_equals_the_first_and_reopens(files, model, tmp_path, monkeypatch) -> None:
    first = compared(files, model, tmp_path / "a", methods=METHODS[:2])
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "another"))  # or it would read the first one's fits
    second = compared(files, model, tmp_path / "b", methods=METHODS[:2])
    assert differences(first.run, second.run) == []
    again = compared(files, model, tmp_path / "a", methods=METHODS[:2])
    assert again.run.manifest["finished"] == first.run.manifest["finished"]


def test_another_request_into_the_same_folder_is_refused(files, model, run: Path) -> None:
    with pytest.raises(UserError, match="another recipe"):
        compared(files, model, run, methods=METHODS[:2])


def test_a_dry_run_writes_no_run(files, model, tmp_path) -> None:
    plan = compared(files, model, tmp_path / "a", seeds=5, dry_run=True)
    assert not (tmp_path / "a").exists()
    assert plan.rows == {"train": 160, "other": 80}
    assert any("smallest AUROC difference" in line for line in plan.lines())
    assert "dictionaries: none at these sites, so nothing reads latents" in plan.lines()


def test_rows_of_ones_own_need_no_model(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    X = rng.normal(size=(120, 6)) + 2 * y[:, None] * np.eye(6)[0]
    result = theodolite.compare((X, y), methods=["difference_in_means", "logistic", "majority"], out=tmp_path / "rows")
    values = result.rows.query("metric == 'auroc' and seed == 'all' and task == 'matched'").set_index("method")["value"]
    assert values["difference_in_means"] > 0.8
    assert values["majority"] == 0.5
    with pytest.raises(UserError, match="NaN"):
        theodolite.compare((np.full((60, 2), np.nan), np.arange(60) % 2))
    with pytest.raises(UserError, match="no text"):
        theodolite.compare((X, y), methods=["word_ngrams"])
    with pytest.raises(UserError, match="so model, limit, dry_run cannot apply"):
        theodolite.compare((X, y), model="tiny", limit=100, dry_run=True, out=tmp_path / "none")
    with pytest.raises(UserError, match=r"seeds: .*got 0"):
        theodolite.compare((X, y), seeds=0, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_finished_run_gets_its_page_back_and_shows_texts_when_asked(files, model, run: Path) -> None:
    page = run / "report.html"
    first = page.read_bytes()
    assert COMMAND.encode() in first
    page.unlink()
    compared(files, model, run, methods=METHODS[:1])
    assert page.read_bytes() == first
    compared(files, model, run, methods=METHODS[:1], show_text=True)
    assert page.read_bytes() != first
    compared(files, model, run, methods=METHODS[:1])
    assert page.read_bytes() == first  # without texts again


def test_force_keeps_the_finished_run_until_the_new_request_is_sound(files, model, run: Path) -> None:
    with pytest.raises(UserError, match="lable"):
        compared(files, model, run, methods=METHODS[:1], label="lable", force=True)
    assert len(theodolite.open_run(run).rows)


def test_other_weights_do_not_reopen_a_finished_run(files, run: Path) -> None:
    other = Model(tiny_model("llama", seed=1), byte_tokenizer(), name="tiny")
    with pytest.raises(UserError, match="another recipe"):
        compared(files, other, run, methods=METHODS[:1])


def test_a_run_made_without_the_dictionary_that_now_exists_is_not_reopened(
    files, model, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"methods": METHODS[:1], "sae": "shipped"}
    compared(files, model, tmp_path / "a", **asked)
    compared(files, model, tmp_path / "a", **asked)
    found = opening.Found(tmp_path, "blocks.1.resid_post", 0, False, "text-chat", 4096, 32)
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(opening, "find", lambda model: [found])
    with pytest.raises(UserError, match=r"other dictionaries .*new: text-chat-0 at blocks.1.*--force"):
        compared(files, model, tmp_path / "a", **asked)


def test_admit_selects_single_predictions_and_read_says_whether_to_accept_one(model, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "cache"))
    mine, other = tmp_path / "mine.csv", tmp_path / "other.csv"
    table(460, 0).to_csv(mine, index=False)
    table(80, 1).to_csv(other, index=False)
    methods = ["logistic", "lat", "word_ngrams"]
    asked = {"methods": methods, "admit": True, "alpha": [0.8, 0.9], "seeds": 2}
    result = compared((mine, other), model, tmp_path / "run", **asked)
    claims = result.run.read_json("selection")["claims"]
    assert {(c["method"], c["dataset"]) for c in claims} == {
        (m, d) for m in ("logistic", "lat") for d in ("in-distribution", "other")
    }
    rows = result.rows.query("task == 'select' and metric == 'coverage'")
    assert set(rows["method"]) == set(methods)
    assert rows["value"].between(0, 1).all()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Do certified predictions stay accurate on new data?" in page
    assert "not detectable" in page
    assert "zzzz" not in page
    detail = result.run.read_table("selection")
    first = detail[(detail["seed"] == "0") & (detail["method"] == "logistic") & (detail["dataset"] == "other")].iloc[3]
    frames = [pd.read_parquet(path) for path in (tmp_path / "cache" / "views" / "frames").glob("*.parquet")]
    rows = pd.concat(frames).set_index("id")
    frame = next(frame for frame in frames if first["row"] in set(frame["id"]))
    text = rows.loc[first["row"], "text"]
    found = reading.read_text(tmp_path / "run", text, method="logistic", model=model).selection
    assert (found.reason, [near.id for near in found.exemplars]) == (first["reason"], first["exemplars"].split())
    assert [near.label for near in found.exemplars] == rows["label"][[near.id for near in found.exemplars]].tolist()
    assert [near.distance for near in found.exemplars] == sorted(near.distance for near in found.exemplars)
    assert sum(found.shifts.values()) == 1
    assert found.probability == pytest.approx(first["probability"], abs=1e-4)
    assert found.name == result.run.recipe["positive" if found.label else "negative"]
    assert_a_file_is_selected_from_as_in_the_comparison(tmp_path, model, frame, detail, monkeypatch)
    with_text = html.page(result.run, show_text=True)
    assert "zzzz" in with_text


def assert_a_file_is_selected_from_as_in_the_comparison(tmp_path, model, frame, detail, monkeypatch) -> None:
    """Rows of a shift with one empty text among them, read in three parts."""
    monkeypatch.setattr(reading, "TEXTS", 30)
    rows = pd.concat([frame.iloc[:2], frame.iloc[:1].assign(text=None, id="none"), frame.iloc[2:]])
    rows.to_csv(tmp_path / "new.csv", index=False)
    ticks: list[tuple[str, int, int]] = []
    with pytest.warns(UserWarning, match="have no text"):
        got = reading.read_file(
            tmp_path / "run",
            tmp_path / "new.csv",
            method="logistic",
            model=model,
            progress=lambda *tick: ticks.append(tick),
        )
    assert ticks == [("reading", done, len(frame)) for done in (0, 30, 60, len(frame))]
    kept = detail.query("seed == '0' and method == 'logistic' and dataset == 'other'").set_index("row")
    seen = got[got["id"] != "none"].set_index("id").loc[kept.index]
    assert seen["reason"].tolist() == kept["reason"].tolist()
    assert seen["predicted"].tolist() == kept["predicted"].tolist()
    assert (seen["accepted"] == (kept["reason"] == "")).all()
    assert set(seen["alpha"]) == {0.9}
    assert got.loc[2, ["predicted", "accepted", "reason"]].isna().all()


def test_alpha_without_admit_and_levels_that_are_none_are_refused(files, model, tmp_path) -> None:
    with pytest.raises(UserError, match="give --admit too"):
        compared(files, model, tmp_path / "run", alpha=[0.9])
    with pytest.raises(UserError, match=r"alpha 1\.5: give an accuracy above"):
        compared(files, model, tmp_path / "run", admit=True, alpha=[1.5])
    for dry in (False, True):
        with pytest.raises(UserError, match="needs 30 rows of each class to calibrate on"):
            compared(files, model, tmp_path / "run", admit=True, dry_run=dry)
    assert not (tmp_path / "run").exists()
