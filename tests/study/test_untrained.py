"""Untrained controls stand beside a dictionary from elsewhere: which gets them, their names, what is fitted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from theodolite.comparison.jobs import jobs
from theodolite.core.recipe import Recipe, Source
from theodolite.data import concept
from theodolite.dictionaries.activations import ReluRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.models.model import Model
from theodolite.study import build
from theodolite.study.subjects import SiteDictionary, Subjects, origin_notes, unchecked_notes
from theodolite.study.untrained import with_untrained
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE = "blocks.1.resid_post"
BOTH_WAYS = torch.cat([torch.eye(32), -torch.eye(32)])  # x = relu(x) - relu(-x)
TEXTS = [f"text {'happy' if i % 2 else 'sad'} number {i}" for i in range(40)]


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model(), byte_tokenizer(), name="tiny")


def foreign(**info: object) -> Dictionary:
    W = BOTH_WAYS
    return Dictionary(W, torch.zeros(64), W, torch.zeros(32), ReluRule(), subtract_b_dec=False, info=dict(info))


def recipe(file: Path | str = "x.csv") -> Recipe:
    source = Source(source="mine", file=str(file), field="text", label="label")
    return Recipe(
        name="toy",
        title="toy",
        positive="1",
        negative="0",
        question="Is it?",
        site=SITE,
        sites=[SITE],
        train=[source],
        max_tokens=30,
        format="raw",
        methods=["logistic@latents", "k_sparse@latents"],
    )


def beside(model: Model, *given: SiteDictionary) -> Subjects:
    return with_untrained(Subjects(model, given), recipe(), TEXTS)


def test_a_dictionary_from_elsewhere_gets_one_of_each_kind(model: Model) -> None:
    mine = SiteDictionary("/home/me/their-sae", "", SITE, foreign())
    found = beside(model, mine).dictionaries
    assert found[0] is mine
    assert [s.family for s in found[1:]] == [
        "untrained random encoder",
        "untrained permuted encoder",
        "untrained random decoder",
    ]
    assert all("untrained" in s.key and "/home" not in s.name for s in found[1:])
    assert {s.site for s in found} == {SITE}


def test_several_are_told_apart_and_seeds_of_one_family_draw_anew(model: Model) -> None:
    wide = replace(foreign(), b_dec=torch.ones(32))
    found = beside(
        model,
        SiteDictionary("a", "", SITE, foreign()),
        SiteDictionary("b", "", SITE, wide),
        SiteDictionary("/x/c", "/x/c", SITE, replace(wide, b_dec=torch.zeros(32) - 1)),
    ).dictionaries[3:]
    families = [s.family for s in found]
    assert families.count("untrained random encoder") == 2
    assert families.count("untrained random encoder of c") == 1
    assert len({s.dictionary.fingerprint() for s in found}) == len(found) == 9


def test_a_trained_control_wins_and_our_own_dictionaries_get_none(model: Model) -> None:
    one = SiteDictionary("a", "", SITE, foreign(), control=foreign(frozen="encoder"))
    other = SiteDictionary("b", "", SITE, foreign(training={"corpus": "text-chat"}))
    assert len(beside(model, one, other).dictionaries) == 2
    again = beside(model, SiteDictionary("a", "", SITE, foreign()))
    assert with_untrained(again, recipe(), TEXTS).dictionaries[:4] == again.dictionaries  # no control of a control


def test_it_is_active_as_often_as_the_dictionary_on_the_training_rows(model: Model) -> None:
    rows = torch.from_numpy(model.read(TEXTS, SITE, pooling=None, format="raw", max_tokens=30)[SITE].rows)
    d, *controls = (s.dictionary for s in beside(model, SiteDictionary("a", "", SITE, foreign())).dictionaries)
    l0 = [float((c.encode_sparse(rows)[1] != 0).sum(1).double().mean()) for c in (d, *controls)]
    np.testing.assert_allclose(l0, l0[0], rtol=0.02)


def test_they_become_views_and_methods_of_their_own_and_no_warning(model: Model, tmp_path: Path) -> None:
    pd.DataFrame({"text": TEXTS, "label": np.arange(40) % 2}).to_csv(tmp_path / "mine.csv", index=False)
    wanted = recipe(tmp_path / "mine.csv")
    found = concept.load(wanted)
    subjects = with_untrained(Subjects(model, (SiteDictionary("a", "", SITE, foreign()),)), wanted, found.train.texts)
    views = build.build_views(wanted, found, subjects, tmp_path / "cache", lambda *_: None)
    labels = [job.label for job in jobs(wanted, views, [])]
    assert {"logistic@latents [untrained random encoder]", "k_sparse@latents [untrained permuted encoder]"} <= set(
        labels
    )
    assert origin_notes(subjects, 30) == []
    (note,) = unchecked_notes(subjects)
    assert note[:2] == ("unchecked", 1)
    assert "untrained" not in note[2]
