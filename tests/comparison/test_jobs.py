"""What there is to fit follows from the recipe's methods, the views they read, and the views that exist."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from theodolite.comparison.jobs import HEATMAP, Job, absent, jobs
from theodolite.core.errors import UserError
from theodolite.core.recipe import Recipe, Source
from theodolite.data import concept
from theodolite.models import prompting, sentence
from theodolite.models.model import Model
from theodolite.study.build import build_views
from theodolite.study.subjects import Subjects
from theodolite.study.views import Views
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE, DEEPER = "blocks.1.resid_post", "blocks.2.resid_post"
METHODS = ["difference_in_means", "logistic@latents", "ridge@latents", "word_ngrams", "prompting(column=zero_shot)"]
ASKS = """
from theodolite.readers.logistic import Logistic

class Asks(Logistic):
    view = "answer"
"""


def recipe_with(methods: list[str], **changes: object) -> Recipe:
    fields = {"name": "toy", "title": "toy", "positive": "1", "negative": "0", "question": "Is it?", "site": SITE}
    fields |= {"sites": [SITE, DEEPER], "train": [Source(source="toy")], "dictionaries": []}
    return Recipe.model_validate(fields | {"methods": methods} | changes)


def views_in(folder: Path, families: tuple[str, ...] = ()) -> Views:
    """State at two sites; latents of these families at the first."""
    views = Views(folder, {"train": "given"}, {}, dictionaries={(family, SITE): [f"{family}-0"] for family in families})
    for site in (SITE, DEEPER):
        views.put("train", "state", site, np.ones((2, 2)))
    for family in families:
        views.put("train", "latents", SITE, np.ones((2, 2)), f"{family}-0")
    return views


def test_without_a_dictionary_only_state_and_text_are_fitted(tmp_path: Path) -> None:
    recipe, views = recipe_with(METHODS), views_in(tmp_path)
    assert jobs(recipe, views, []) == [
        Job("difference_in_means", SITE),
        Job("word_ngrams", ""),
        Job("difference_in_means", DEEPER),
    ]
    assert absent(recipe, views) == ["logistic@latents", "ridge@latents", "prompting(column=zero_shot)"]


def test_nothing_to_fit_is_an_error_that_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing to fit: logistic@latents read a dictionary.*--sae"):
        jobs(recipe_with(["logistic@latents"]), views_in(tmp_path), [])


def test_another_corpus_stands_beside_the_main_one_with_few_methods(tmp_path: Path) -> None:
    found = jobs(recipe_with(METHODS), views_in(tmp_path, ("", "text-only")), [])
    beside = [job for job in found if job.family]
    assert [job.label for job in beside] == ["logistic@latents [text-only]"]
    assert {job.method for job in found if not job.family and job.site == SITE} >= {"logistic@latents", "ridge@latents"}


def test_sources_left_out_and_blocks_come_last(tmp_path: Path) -> None:
    found = jobs(recipe_with(METHODS[:1], leave_out=["toy"]), views_in(tmp_path), [SITE])
    assert found[2] == Job("difference_in_means", SITE, leave_out="toy")
    assert found[3:] == [Job(method, SITE, tuned=False) for method in HEATMAP]


@pytest.mark.parametrize(
    ("method", "view"),
    [("logistic@embedding", "embedding"), ("logistic@sentence", "sentence"), ("FILE", "answer"), ("logistic", "")],
)
def test_the_views_built_are_those_the_methods_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, view: str
) -> None:
    """Whatever the method is called: a user's own file says itself what it reads."""
    (tmp_path / "asks.py").write_text(ASKS)
    rng, words = np.random.default_rng(0), ["old", "mill", "tall", "stone", "green", "river", "birds"]
    table = pd.DataFrame({"text": [" ".join(rng.choice(words, 6)) for _ in range(60)], "label": [0, 1] * 30})
    table.to_csv(tmp_path / "mine.csv", index=False)
    source = Source(source="mine", file=str(tmp_path / "mine.csv"), field="text", label="label")
    spec = f"{tmp_path}/asks.py:Asks" if method == "FILE" else method
    recipe = recipe_with([spec], train=[source], sites=[SITE])
    monkeypatch.setattr(sentence, "embed", lambda texts, note: np.ones((len(texts), 3)))
    monkeypatch.setattr(sentence, "truncated", lambda texts: 0)
    monkeypatch.setattr(prompting, "answer_log_odds", lambda model, texts, question, **how: np.ones(len(texts)))
    subjects = Subjects(Model(tiny_model(), byte_tokenizer(), name="tiny", hash="0" * 64))
    views = build_views(recipe, concept.load(recipe), subjects, tmp_path / "cache", lambda done, total: None)
    built = {name for name in ("embedding", "sentence", "answer") if views.has(name)}
    assert built == ({view} if view else set())
    assert absent(recipe, views) == []
    assert [job.method for job in jobs(recipe, views, [])] == [spec]
