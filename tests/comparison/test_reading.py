"""`read` gives a text the very score that the comparison gave it, and refuses another model, dictionary or code."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import theodolite
from theodolite.cli import app
from theodolite.comparison import reading
from theodolite.comparison.read_selection import rejected
from theodolite.comparison.reading import read_file, read_text
from theodolite.core.errors import UserError
from theodolite.core.positions import Positions
from theodolite.core.run import Run
from theodolite.dictionaries import native
from theodolite.dictionaries.opening import trained_folder
from theodolite.dictionaries.variants.topk import TopK
from theodolite.models.model import Model
from theodolite.selection.saved import PredictionRecords
from theodolite.study import subjects
from theodolite.study.hardware import Machine
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE = "blocks.1.resid_post"
WORDS = ["house", "river", "green", "walk", "slowly", "over", "tall", "stone", "bridge", "near", "old", "mill", "birds"]
METHODS = ["difference_in_means", "logistic@latents", "ridge@state+latents", "word_ngrams"]
MINE = """
import numpy as np
from theodolite.core.reader import LinearReader

class Mine(LinearReader):
    def _fit(self, rows, target_n):
        self.coef_ = rows[target_n == 1].mean(0) - rows[target_n == 0].mean(0)
        self.intercept_ = 0.0
"""
Made = tuple[Run, Model, Path]


def table(n: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    label = np.arange(n) % 2
    return pd.DataFrame({"text": [" ".join([*rng.choice(WORDS, 5), "zz"][: 5 + y]) for y in label], "label": label})


def train_dictionary(model: Model, corpus: str, seed: int) -> Path:
    """A dictionary that fits the toy rows, where `theodolite train` would put it."""
    x = torch.from_numpy(
        model.read(table().text.tolist(), SITE, positions="content+suffix", pooling=None)[model.site(SITE)].rows
    )
    trained = TopK(32, width=64, k=16, lr=1e-2, seed=seed).fit([x] * 60).dictionary()
    info = {"site": SITE, "model": "tiny", "model_hash": model.hash, "seed": 0, "frozen_encoder": False}
    info |= {"training": {"corpus": corpus}}
    return native.save(replace(trained, info=trained.info | info), trained_folder(model) / corpus)


def compared(folder: Path, model: Model, **changes: object) -> Run:
    table().to_csv(folder / "mine.csv", index=False)
    (folder / "mine.py").write_text(MINE)
    train = {"source": "mine", "file": str(folder / "mine.csv"), "field": "text", "label": "label"}
    recipe = {
        "name": "toy",
        "title": "toy",
        "positive": "1",
        "negative": "0",
        "question": "?",
        "model": "tiny",
        "site": SITE,
        "sites": [SITE],
        "train": [train],
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump(recipe | changes))
    methods = [*METHODS, f"{folder}/mine.py:Mine"]
    result = theodolite.compare(folder / "toy.yaml", model=model, quick=True, methods=methods, out=folder / "run")
    return result.run


@pytest.fixture(scope="module", params=["mean content", "last content", "max suffix"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A finished run, its model and the folder of the cache."""
    pooling, positions = request.param.split()
    folder = tmp_path_factory.mktemp(pooling)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THEODOLITE_CACHE", str(folder / "cache"))
        model = Model(tiny_model(), byte_tokenizer(), name="tiny", hash="0" * 64)
        for seed, corpus in enumerate(("text-chat", "text-only")):
            train_dictionary(model, corpus, seed)
        yield compared(folder, model, pooling=pooling, positions=positions), model, folder


def stored(made: Made, method: str) -> tuple[str, float, float]:
    """A text of the training file with the score and probability that the first seed's reader got for it."""
    run, _, folder = made
    (frame,) = [pd.read_parquet(path) for path in (folder / "cache" / "views" / "frames").glob("*.parquet")]
    scores = run.scores.query("method == @method and seed == '0' and dataset == 'in-distribution'")
    row = scores.iloc[3]
    return frame.set_index("id").loc[row["row"], "text"], float(row["score"]), float(row["probability"])


@pytest.mark.parametrize(
    "method",
    ["difference_in_means", "logistic@latents", "logistic@latents [text-only]", "ridge@state+latents", "word_ngrams"],
)
def test_a_text_gets_the_score_that_the_comparison_gave_it(made: Made, method: str) -> None:
    run, model, _ = made
    text, score, probability = stored(made, method)
    got = read_text(run.folder, text, method=method, model=model)
    assert got.method == method
    assert got.score == pytest.approx(score, abs=1e-4)
    assert got.probability == pytest.approx(probability, abs=1e-4)
    tokens = Positions.parse(run.recipe["positions"]).mask(model.tokens([text]).roles.numpy()).sum()
    assert len(got.tokens) == (0 if method == "word_ngrams" else tokens)


def test_a_file_of_ones_own_is_read_with_its_code(made: Made) -> None:
    run, model, folder = made
    text, score, _ = stored(made, "mine.py:Mine")
    own = f"{folder}/mine.py:Mine"
    assert read_text(run.folder, text, method=own, model=model).score == pytest.approx(score, abs=1e-4)


def test_rows_without_text_are_not_scored_and_counted(made: Made, tmp_path: Path) -> None:
    run, model, _ = made
    pd.DataFrame({"text": ["old mill", None, "tall stone"], "n": [1, 2, 3]}).to_csv(tmp_path / "new.csv", index=False)
    with pytest.warns(UserWarning, match="1 of 3 rows have no text"):
        got = read_file(run.folder, tmp_path / "new.csv", method="difference_in_means", model=model)
    assert got["score"].isna().tolist() == [False, True, False]
    alone = read_text(run.folder, "tall stone", method="difference_in_means", model=model)
    assert got["score"][2] == pytest.approx(alone.score, abs=1e-4)
    pd.DataFrame({"text": [None, " "], "n": [1, 2]}).to_csv(tmp_path / "none.csv", index=False)
    with pytest.raises(UserError, match="holds no text"):
        read_file(run.folder, tmp_path / "none.csv", model=model)
    with pytest.raises(UserError, match="unknown column 'texts'"):
        read_file(run.folder, tmp_path / "new.csv", column="texts", model=model)
    got.to_csv(tmp_path / "scored.csv", index=False)
    with pytest.raises(UserError, match="rename method, score, probability"):
        read_file(run.folder, tmp_path / "scored.csv", method="difference_in_means", model=model)


def test_a_text_longer_than_the_run_reads_is_counted(made: Made, tmp_path: Path) -> None:
    run, model, _ = made
    most = run.recipe["max_tokens"]
    long, short = "a" * (most + 7), "a" * most
    assert read_text(run.folder, long, method="difference_in_means", model=model).cut == 7
    assert read_text(run.folder, short, method="difference_in_means", model=model).cut == 0
    assert read_text(run.folder, long, method="word_ngrams", model=model).cut == 0
    pd.DataFrame({"text": [long, short]}).to_csv(tmp_path / "new.csv", index=False)
    with pytest.warns(UserWarning, match=f"1 of 2 rows have a text cut at {most} tokens"):
        read_file(run.folder, tmp_path / "new.csv", method="difference_in_means", model=model)


def test_a_text_without_a_known_ngram_is_no_reading_and_counted(made: Made, tmp_path: Path) -> None:
    run, model, _ = made
    unknown, known = (read_text(run.folder, text, method="word_ngrams", model=model) for text in ("qqq", "old qqq"))
    assert unknown.blank
    assert not known.blank
    assert unknown.score == read_text(run.folder, "xyx 42", method="word_ngrams", model=model).score
    assert not read_text(run.folder, "qqq", method="difference_in_means", model=model).blank
    pd.DataFrame({"text": ["qqq", "old mill", "42 43"]}).to_csv(tmp_path / "new.csv", index=False)
    with pytest.warns(UserWarning, match="2 of 3 rows have a text without any n-gram that word_ngrams knows"):
        read_file(run.folder, tmp_path / "new.csv", method="word_ngrams", model=model)


def test_a_blank_text_is_rejected_however_high_the_confidence() -> None:
    nothing = np.zeros(2)
    reason = np.array(["", "far from the data"], object)
    sure = PredictionRecords(*(nothing for _ in range(3)), reason, *(nothing for _ in range(6)))
    assert rejected(sure, np.array([True, False])).reason.tolist() == ["no known n-gram", "far from the data"]
    assert rejected(sure, np.array([False, False])).reason.tolist() == ["", "far from the data"]


def test_a_session_loads_once_and_scores_as_a_file_is_scored(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, model, _ = made
    texts = [*table(12).text, None, "", "tall stone"]
    pd.DataFrame({"text": texts}).to_csv(tmp_path / "new.csv", index=False)
    loads: list[str] = []
    monkeypatch.setattr(Model, "from_pretrained", lambda name, **_: loads.append("model") or model)
    shipped = subjects._shipped
    monkeypatch.setattr(subjects, "_shipped", lambda of: loads.append("dictionaries") or shipped(of))
    for method in ("difference_in_means", "logistic@latents", "word_ngrams"):
        with pytest.warns(UserWarning, match="2 of 15 rows have no text"):
            asked = read_file(run.folder, tmp_path / "new.csv", method=method, model=model)
        loads.clear()
        with theodolite.open_reader(run.folder, method, model="tiny") as session:
            for _ in range(3):
                got = session.score(texts)
                pd.testing.assert_frame_equal(got, asked[got.columns], check_exact=True)
            alone = [session.score([text])["score"].item() for text in texts]
            # other batches are padded to other lengths, and float32 sums then round otherwise: 5e-7 here
            np.testing.assert_allclose(alone, asked["score"], rtol=1e-5, atol=1e-6)
            read = session.read("tall stone")
            assert session.tokens("tall stone") == read.tokens
            assert session.selection("tall stone") is None
            assert session.score("tall stone")["score"].tolist() == [read.score]
        needed = {"word_ngrams": [], "difference_in_means": ["model"]}.get(method, ["model", "dictionaries"])
        assert loads == needed
        assert read == read_text(run.folder, "tall stone", method=method, model=model)


def test_a_reader_loads_and_reads_as_the_machine_says(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    run, model, _ = made
    texts, loads, sizes = table(12).text.tolist(), [], []
    plain = theodolite.open_reader(run.folder, "logistic@latents", model=model).score(texts)
    read = Model.read
    monkeypatch.setattr(Model, "from_pretrained", lambda name, **how: loads.append(how) or model)
    monkeypatch.setattr(
        Model, "read", lambda self, *a, batch_tokens=None, **k: sizes.append(batch_tokens) or read(self, *a, **k)
    )
    machine = Machine(device="cpu", batch_tokens=64)
    with theodolite.open_reader(run.folder, "logistic@latents", model="tiny", machine=machine) as session:
        pd.testing.assert_frame_equal(session.score(texts), plain)
    assert [(how["device"], how["device_map"]) for how in loads] == [("cpu", None)]
    assert set(sizes) == {64}
    with pytest.raises(UserError, match="device_map places a model while it is loaded"):
        theodolite.open_reader(run.folder, "logistic@latents", model=model, machine=Machine(device_map="auto"))


def test_options_of_read_reach_the_reader(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, model, _ = made
    seen: list[int | None] = []
    passes = reading.FittedReader._read
    monkeypatch.setattr(
        reading.FittedReader, "_read", lambda self, *a: seen.append(self.machine.batch_tokens) or passes(self, *a)
    )
    loads: list[dict[str, Any]] = []
    monkeypatch.setattr(Model, "from_pretrained", lambda name, **how: loads.append(how) or model)
    pd.DataFrame({"text": ["old mill", "tall stone"]}).to_csv(tmp_path / "new.csv", index=False)
    for what in (["old mill"], ["--in", str(tmp_path / "new.csv")]):
        options = ["--run", str(run.folder), "--model", "tiny", "--device", "cpu", "--batch-tokens", "48"]
        app(["read", *what, *options, "--method", "difference_in_means"], result_action="return_value")
    assert set(seen) == {48}
    assert [how["device"] for how in loads] == ["cpu", "cpu"]
    with pytest.raises(UserError, match="--batch-tokens 0: give at least 1"):
        app(["read", "old mill", "--run", str(run.folder), "--batch-tokens", "0"], result_action="return_value")


def test_the_example_of_the_how_to_runs(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    run, model, _ = made
    page = (Path(__file__).parents[2] / "docs" / "how-to.md").read_text(encoding="utf-8")
    (code,) = [part.split("```")[0] for part in page.split("```python\n") if "open_reader" in part.split("```")[0]]
    monkeypatch.setattr(Model, "from_pretrained", lambda name, **_: model)
    namespace = {"theodolite": theodolite, "run": theodolite.open_run(run.folder)}
    exec(code, namespace)
    assert namespace["scores"]["score"].notna().all()


def test_a_session_refuses_weights_that_changed_and_calls_after_its_end(made: Made) -> None:
    run, model, _ = made
    session = theodolite.open_reader(run.folder, "logistic@latents", model=model)
    session.score(["old mill"])
    weight = next(model.network.module.parameters())
    dictionary = session._open().dictionary
    assert dictionary is not None
    for tensor in (weight.data, dictionary.b_enc.data):
        before = tensor.clone()
        tensor.mul_(1.5).add_(0.25)
        for call in (session.score, session.tokens, session.read, session.selection):
            with pytest.raises(UserError, match="changed since the reader was opened"):
                call("old mill")
        tensor.copy_(before)
    assert session.read("old mill").method == "logistic@latents"
    session.close()
    with pytest.raises(UserError, match="the reader is closed"):
        session.score(["old mill"])


def test_a_session_says_what_is_no_text(made: Made) -> None:
    run, model, _ = made
    with theodolite.open_reader(run.folder, "word_ngrams", model=model) as session:
        with pytest.raises(UserError, match="3 is int: give a list of strings"):
            session.score(["old mill", 3])  # type: ignore[list-item]
        with pytest.raises(UserError, match="half a character"):
            session.score(["old \ud800"])
        with pytest.raises(UserError, match="no text to read"):
            session.read(" ")
        nothing = session.score([None, ""])
    assert nothing["score"].isna().all()
    assert nothing["method"].tolist() == ["word_ngrams"] * 2


def test_a_run_that_keeps_no_reader_says_why(tmp_path: Path) -> None:
    recipe = {"name": "toy", "title": "toy", "positive": "1", "negative": "0", "question": "?", "train": []}
    run = Run.create(tmp_path, recipe, "0" * 64)
    with pytest.raises(UserError, match="keeps no fitted readers: it did not finish"):
        read_text(tmp_path, "old mill")
    run.record("from_arrays", True)
    run.finish()
    with pytest.raises(UserError, match="rows that were given, so there is no model to read a text with"):
        read_text(tmp_path, "old mill")


def test_another_model_or_dictionary_is_refused(made: Made) -> None:
    run, model, folder = made
    other = Model(tiny_model(seed=1), byte_tokenizer(), name="tiny", hash="1" * 64)
    with pytest.raises(UserError, match="the run read 'tiny' with the hash 000000000000"):
        read_text(run.folder, "old mill", method="difference_in_means", model=other)
    home = trained_folder(model) / "text-chat"
    home.rename(folder / "away")
    weights = train_dictionary(model, "text-chat", 7)
    try:
        with pytest.raises(UserError, match="was fitted on the dictionary text-chat-0-"):
            read_text(run.folder, "old mill", method="logistic@latents", model=model)
    finally:
        for path in weights.iterdir():
            path.unlink()
        weights.rmdir()
        (folder / "away").rename(home)


def test_what_cannot_be_read_is_said(made: Made) -> None:
    run, model, _ = made
    with pytest.raises(UserError, match="unknown method of this run 'lat'"):
        read_text(run.folder, "old mill", method="lat", model=model)
    with pytest.raises(UserError, match="no text to read"):
        read_text(run.folder, " ", model=model)
