"""Limits follow from the run, and the methods paragraph states only what was recorded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted_run import CARD, FACTS, PRIMARY, VERDICT, row

from theodolite.core.run import IN_DISTRIBUTION, Run
from theodolite.report import findings, html, prose
from theodolite.report.blocks import Points, Text
from theodolite.report.sheet import Sheet

Build = Callable[..., Run]


def sheet(build: Build, folder: Path, **parts: Any) -> Sheet:
    return Sheet(build(folder, only=[row("logistic", PRIMARY), row("lat", IN_DISTRIBUTION)], **parts))


def limits(shown: Sheet) -> str:
    (points,) = prose.limits(shown).blocks
    assert isinstance(points, Points)
    return " ".join(points.sentences)


def paragraph(shown: Sheet) -> str:
    text = prose.methods(shown).blocks[-1]
    assert isinstance(text, Text)
    return text.words


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"quick": True}, "A quick run"),
        ({"seeds": 2}, "2 training sets are too few"),
        ({"sealed": "vault", "final": False}, "vault stayed closed"),
        ({"sealed": "vault", "final": True}, "vault was opened by this run (--final)"),
    ],
)
def test_limits_name_what_this_run_did(build: Build, tmp_path: Path, recipe: dict[str, Any], said: str) -> None:
    assert said in limits(sheet(build, tmp_path / "it", recipe=recipe))
    assert said not in limits(sheet(build, tmp_path / "not", recipe={"sealed": None}))


def test_limits_of_the_dictionary_need_a_dictionary(build: Build, tmp_path: Path) -> None:
    assert "One dictionary, not in the intervals" in limits(sheet(build, tmp_path / "one"))
    assert "3 dictionary seeds" in limits(sheet(build, tmp_path / "three", facts={"dictionaries": 3}))
    assert "dictionary" not in limits(sheet(build, tmp_path / "none", card=None))


def test_a_dictionary_without_a_card_is_named_and_its_training_left_open(build: Build, tmp_path: Path) -> None:
    rows = [row("logistic", PRIMARY), row("k_sparse@latents", PRIMARY)]
    measured = {"hub:a/b": {"train": 0.25, PRIMARY: 0.4}}
    shown = Sheet(build(tmp_path, only=rows, card=None, facts={"dictionaries": 1, "fvu": measured}))
    assert "One dictionary, not in the intervals" in limits(shown)
    said = "Latents come from hub:a/b (FVU .250 on the training rows), whose training is not recorded here."
    assert said in paragraph(shown)


def test_draws_of_a_control_and_another_dictionary_are_no_methods_more(build: Build, tmp_path: Path) -> None:
    named = [*(f"random_direction(draw={i})" for i in range(10)), "logistic@latents", "logistic@latents [text-only]"]
    shown = Sheet(build(tmp_path, only=[row(method, PRIMARY, value=0.6) for method in named]))
    assert "We compared 2 methods" in paragraph(shown)


GIVEN: dict[str, Any] = {
    "facts": {"from_arrays": True, "labels": 60, "model": {}},
    "card": None,
    "audit": None,
    "verdict": VERDICT | {"read": {"columns": 12}},
    "recipe": {
        "positive": "label 1",
        "negative": "label 0",
        "site": "rows",
        "primary": IN_DISTRIBUTION,
        "shifts": {},
        "sealed": None,
        "model": "arrays",
        "question": "",
    },
}


def test_rows_that_were_given_are_no_texts_in_a_model(build: Build, tmp_path: Path) -> None:
    run = build(tmp_path, only=[row("logistic", IN_DISTRIBUTION, site="rows")], **GIVEN)
    shown = Sheet(run)
    said = paragraph(shown)
    assert said.startswith("We compared 1 method at telling label 1 from label 0 on rows that were given. For each of")
    assert "sets of equal rows were split 50/15/15/20 % into train" in said
    assert "stratified by label." in said
    assert dict(findings.subject(shown)) == {
        "Read": "rows that were given: no text, no model",
        "Repeated over": "5 training sets of 60 labelled rows",
    }
    assert "how rows from elsewhere fare is unknown" in limits(shown)
    page = html.page(run)
    assert "no dictionary took part" in page
    for wrong in ("smollm2", "chat-formatted", "tokens;", "One model", "character 4-gram", "Model hash", "None"):
        assert wrong not in said + limits(shown) + page, wrong


def test_a_trained_out_dictionary_in_its_domain_gets_no_warning(build: Build, tmp_path: Path) -> None:
    fine = CARD | {"undertrained": False, "fvu": {**CARD["fvu"], "last": {"value": 0.4, "lo": 0.3, "hi": 0.5, "n": 9}}}
    said = limits(sheet(build, tmp_path, card=fine))
    assert "outside its domain" not in said
    assert "more tokens" not in said


def test_the_methods_paragraph_is_filled_from_the_run(build: Build, tmp_path: Path) -> None:
    said = paragraph(sheet(build, tmp_path))
    for words in [
        "We compared 2 methods at telling harmful from benign texts in smollm2-135m-instruct (135M parameters, "
        "dequantised Q4_1)",
        "chat-formatted and cut at 256 tokens",
        "4,096 latents, k = 32",
        "FVU .213 on held-out documents",
        "split 50/15/15/20 % into train",
        "within .7 character 4-gram cosine",
        "at most 12 configurations",
        "3 grouped folds",
        "2,000 replicates",
        "contrasts on jailbreak-wrapped (3)",
        "within .02 counts as equivalent",
    ]:
        assert words in said, words


@pytest.mark.parametrize("key", ["shares", "configurations", "bootstrap", "leak_cosine"])
def test_what_was_not_recorded_is_not_claimed(build: Build, tmp_path: Path, key: str) -> None:
    words = {
        "shares": "split 50",
        "configurations": "configurations",
        "bootstrap": "bootstrap",
        "leak_cosine": "4-gram",
    }
    protocol = {name: value for name, value in FACTS["protocol"].items() if name != key}
    assert words[key] not in paragraph(sheet(build, tmp_path, facts={"protocol": protocol}))


def test_limits_of_a_run_on_ones_own_rows_do_not_speak_of_another_headline(build: Build, tmp_path: Path) -> None:
    alone = Sheet(build(tmp_path, only=[row("logistic", IN_DISTRIBUTION)], recipe={"primary": None, "shifts": {}}))
    assert "how a new kind of text fares is unknown" in limits(alone)


def test_the_paragraph_names_the_rows_the_contrasts_were_decided_on(build: Build, tmp_path: Path) -> None:
    mine = VERDICT | {"contrasts": [VERDICT["contrasts"][0] | {"dataset": IN_DISTRIBUTION}]}
    said = paragraph(sheet(build, tmp_path / "own", recipe={"primary": None}, verdict=mine))
    assert "The contrasts on the test rows (1) were fixed in advance" in said
    none = paragraph(sheet(build, tmp_path / "none", verdict=VERDICT | {"contrasts": []}))
    assert "fixed in advance" not in none
    assert none.endswith(".")
    assert "Software: theodolite" in none
