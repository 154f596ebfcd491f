"""Views are made once, made again where their code changed, and say of how many texts they hold only the start."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import theodolite
from theodolite.comparison import build
from theodolite.comparison.instruments import Instruments, Station, open_instruments, unchecked_notes
from theodolite.comparison.views import FROM_DICTIONARY, Views
from theodolite.core.recipe import Recipe, Source
from theodolite.data import concept
from theodolite.dictionaries.activations import ReluRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.models import prompting, sentence
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE = "blocks.1.resid_post"
WORDS = ["house", "river", "green", "walk", "slowly", "over", "tall", "stone", "bridge", "near", "old", "mill", "birds"]
BOTH_WAYS = torch.cat([torch.eye(32), -torch.eye(32)])  # x = relu(x) - relu(-x): half of the 64 latents are active


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model(), byte_tokenizer(), name="tiny", hash="0" * 64)


def table(n: int, seed: int = 0) -> pd.DataFrame:
    rng, label = np.random.default_rng(seed), np.arange(n) % 2
    return pd.DataFrame({"text": [" ".join([*rng.choice(WORDS, 6), "zz"][: 6 + y]) for y in label], "label": label})


@pytest.fixture
def made(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Views]:
    """Views of 60 rows, cut at 30 bytes, for methods that read a dictionary, a sentence and the model's answer."""
    table(60).to_csv(tmp_path / "mine.csv", index=False)
    source = Source(source="mine", file=str(tmp_path / "mine.csv"), field="text", label="label")
    recipe = Recipe(
        name="toy", title="toy", positive="1", negative="0", question="Is it?", site=SITE, sites=[SITE], train=[source],
        max_tokens=30, methods=["logistic@latents", "logistic@sentence", "logistic@embedding", "prompting"],
    )  # fmt: skip
    dictionary = Dictionary(BOTH_WAYS, torch.zeros(64), BOTH_WAYS, torch.zeros(32), ReluRule(), subtract_b_dec=False)
    instruments = Instruments(model, (Station("both", "", SITE, dictionary),))
    monkeypatch.setattr(sentence, "embed", lambda texts: np.ones((len(texts), 3)))
    monkeypatch.setattr(sentence, "truncated", lambda texts: 5)
    monkeypatch.setattr(prompting, "answer_log_odds", lambda model, texts, question, **how: np.ones(len(texts)))
    found = concept.load(recipe)
    return lambda: build.build_views(recipe, found, instruments, tmp_path / "cache", lambda done, total: None)


def test_what_other_code_makes_is_made_again_and_the_states_are_not(
    made: Callable[[], Views], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made()
    before = written(first)
    assert written(made()) == before
    other = (build._stations,)  # stands for the same modules after an edit
    monkeypatch.setattr(build, "MAKERS", build.MAKERS | {"answer": other} | dict.fromkeys(FROM_DICTIONARY, other))
    again = made()
    assert again.folder == first.folder
    fresh = {path.name.split(".")[1] for path in written(again).keys() - before.keys()}
    assert fresh == {"answer", "latents", "reconstruction", "error"}
    assert before.items() <= written(again).items()
    views = ("state", *build.MAKERS)
    assert {view for view in views if again.key(view, SITE) != first.key(view, SITE)} == {"answer"} | FROM_DICTIONARY


def written(views: Views) -> dict[Path, int]:
    """Files of the views and of the harvest, with when each was written."""
    return {path: path.stat().st_mtime_ns for path in views.folder.rglob("*.safetensors")}


def test_texts_cut_on_the_way_to_a_view_are_counted(made: Callable[[], Views]) -> None:
    long = int((table(60)["text"].str.len() > 30).sum())
    assert 0 < long < 60
    assert build.cut_notes(made()) == [
        ("truncated", 5, "texts of train cut at 256 word pieces by the sentence encoder"),
        ("truncated", long, "texts of train cut where the model was asked about them"),
    ]


def test_what_was_read_is_counted_by_view(made: Callable[[], Views]) -> None:
    read = build.tokens_read(made(), ["train"])
    assert read["latents"] == read["embedding"] == read["state"] < read["answer"]


def saelens(folder: Path) -> Path:
    folder.mkdir()
    tensors = {"W_enc": BOTH_WAYS.T, "W_dec": BOTH_WAYS, "b_enc": torch.zeros(64), "b_dec": torch.zeros(32)}
    save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "sae_weights.safetensors")
    config = {"architecture": "standard", "metadata": {"hook_name": "blocks.1.hook_resid_post"}}
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


def gemma_scope(folder: Path) -> Path:
    """Its site is unknown, since the path names no repository; its L0 is."""
    inside = folder / "average_l0_32"
    inside.mkdir(parents=True)
    arrays = {"W_enc": BOTH_WAYS.T, "W_dec": BOTH_WAYS, "b_enc": np.zeros(64), "b_dec": np.zeros(32)}
    np.savez(inside / "params.npz", threshold=np.zeros(64), **{name: np.asarray(a) for name, a in arrays.items()})
    return inside


@pytest.mark.parametrize("order", [[saelens, gemma_scope], [gemma_scope, saelens]], ids=["saelens", "gemma-scope"])
def test_dictionaries_from_elsewhere_come_to_a_page_that_says_so(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: list[Callable[[Path], Path]]
) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "cache"))
    table(120).to_csv(tmp_path / "mine.csv", index=False)
    main, beside = (str(write(tmp_path / f"d{at}")) for at, write in enumerate(order))
    result = theodolite.compare(
        tmp_path / "mine.csv", model=model, sites=[SITE], sae=[main, beside], quick=True, out=tmp_path / "run",
        methods=["logistic", "logistic@latents", "k_sparse@latents", "logistic@twin"],
    )  # fmt: skip
    run = result.run
    main, beside = Path(main).name, Path(beside).name  # what may be passed on names no folder
    assert set(run.rows["method"]) >= {"logistic@latents", f"logistic@latents [{beside}]"}
    assert "logistic@twin" not in set(run.rows["method"])
    assert run.facts["fvu"] == {main: {"train": pytest.approx(0, abs=1e-6)}}
    assert run.read_json("card") is None
    page = (run.folder / "report.html").read_text()
    assert f"{main} without a card" in page
    assert "It came without a card" in page
    assert f"Latents come from {main} (FVU .000 on the training rows), whose training is not recorded here" in page
    assert "One dictionary, not in the intervals" in page
    assert "SAE rows are absent" not in page
    assert "no SAE rows" not in page
    assert "We compared 3 methods" in page
    here = [run.local_path(name, "") for name in run.recipe["dictionaries"]]
    opened = open_instruments(Recipe.model_validate(run.recipe | {"dictionaries": here}), model)
    assert [note[:2] for note in unchecked_notes(opened)] == [("unchecked", 2)]
