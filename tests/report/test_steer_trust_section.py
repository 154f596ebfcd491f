"""The section on selective steering: what a Run's own document says, and what a foreign one may hold."""

import json
from pathlib import Path
from typing import Any

import pytest
from spoilt import check_pages

from theodolite.core.errors import UserError
from theodolite.core.run import Run
from theodolite.report import html
from theodolite.report.steer_page import phrase
from theodolite.report.steer_trust_section import trust_section, trust_table

FIGURE = {"value": 0.6, "lo": 0.5, "hi": 0.7}
SELECTED = {
    "verdict": "selected",
    "why": "certified",
    "development_share": 0.6,
    "contrasted": True,
    "certificate": {"right": 40, "n": 41, "delta": 0.1, "lower": 0.91},
    "left_support": {"before": 1, "after": 4, "n": 60},
    "right_share": FIGURE,
    "coverage": FIGURE,
    "accuracy": FIGURE,
    "contrasts": {"margin": FIGURE | {"n": 40, "n_groups": 40}},
}
UNSTEERABLE = SELECTED | {
    "verdict": "not steerable",
    "development_share": 0.1,
    "contrasted": False,
    "certificate": None,
    "left_support": None,
    "accuracy": {"value": None, "lo": None, "hi": None},
    "contrasts": {},
}
TOLD: dict[str, Any] = {
    "alpha": 0.9,
    "delta": 0.1,
    "nats": 0.1,
    "prompts": 200,
    "kind": "openings",
    "draws": 40,
    "methods": {
        "latent_set": SELECTED,
        "logit_bias": UNSTEERABLE,
        "neurons": {"verdict": "not matched", "why": "cap"},
    },
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", {"name": "steer", "admit": 0.9}, "e" * 64)


def page(run: Run) -> str:
    return html.render("title", "subtitle", [trust_section(run, phrase)])


def test_verdict_certificate_and_gain_of_each_method_are_said(run: Run) -> None:
    run.write_json("trust", TOLD)
    shown = page(run)
    for words in (
        "latent set: some prompts may be steered",
        "neurons: no strength has",
        "40 of 41 right",
        "1 / 4 of 60",
    ):
        assert words in shown
    assert "the unsteered log-odds of the targets" in shown
    assert len(trust_table(run, phrase).lines) == 3


def test_a_spoilt_document_is_an_error_or_a_page_without_its_script(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt_page(facts: Any) -> str:
        monkeypatch.setattr(Run, "read_json", lambda self, name: facts)
        return page(run)

    check_pages(TOLD, spoilt_page, "trust.json")


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ([], r"trust.json'?: Input should be a valid dictionary"),
        ({}, "alpha: Field required"),
        (TOLD | {"methods": {"neurons": {"verdict": "not matched", "why": "", "certificate": 7}}}, ""),
        (TOLD | {"methods": {"lat": SELECTED | {"verdict": "<b>trusted</b>"}}}, "methods.lat: Input tag '<b>trusted"),
        (TOLD | {"methods": {"lat": SELECTED | {"why": "<img src=x>" + "x" * 10**7}}}, ""),
        (TOLD | {"prompts": float("nan")}, "prompts: Input should be a finite number"),
    ],
)
def test_foreign_documents_end_in_one_sentence_or_in_escaped_text(run: Run, spoilt: Any, said: str) -> None:
    place = run.folder / "artefacts" / "trust.json"
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(spoilt))
    if said:
        with pytest.raises(UserError, match=said):
            page(run)
    else:
        assert "<img src=x>" not in page(run)


def test_a_run_that_was_asked_for_it_and_lacks_the_document_is_damaged(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"trust.json' is missing: restore it"):
        page(run)
    other = Run.create(tmp_path / "other", {"name": "steer", "admit": None}, "e" * 64)
    assert "This run has no selective steering" in page(other)
    with pytest.raises(UserError, match="no selective steering"):
        trust_table(other, phrase)
