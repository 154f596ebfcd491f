"""The JSON documents of a Run: one of another shape is refused by its file's name, whatever its hash says."""

import copy
from pathlib import Path
from typing import Any

import pytest

from theodolite.core import provenance
from theodolite.core.errors import UserError
from theodolite.core.run import Run

LINE = {"method": "a", "than": "b", "dataset": "d", "verdict": "better", "value": 0.1, "needs": {}}
WRONG: list[tuple[str, Any, str]] = [
    ("verdict", [1], "it holds a list"),
    ("verdict", {}, "contrasts is missing"),
    ("verdict", {"contrasts": [], "read": 3}, "read is 3"),
    ("verdict", {"contrasts": [3]}, "in contrasts, it holds a int"),
    ("verdict", {"contrasts": [{**LINE, "value": "x"}]}, "in contrasts, value is 'x'"),
    ("verdict", {"contrasts": [{**LINE, "needs": "more rows"}]}, "in contrasts, needs is 'more rows'"),
    ("verdict", {"contrasts": [], "everywhere": 3}, "everywhere is 3"),
    ("verdict", {"contrasts": [], "notes": [{}]}, "in notes, code is missing"),
    ("answers", {"margin": 0.02, "read_well_from": 0.7}, "datasets is missing"),
    ("answers", {"margin": 0.02, "read_well_from": 0.7, "datasets": [{}]}, "in datasets, dataset is missing"),
    ("audit", {"overviews": 3}, "overviews is 3"),
    ("audit", {"overviews": [], "baselines": []}, "shortcuts is missing"),
    ("card", {"tokens": True}, "tokens is True"),
    ("dictionary", {}, "datasets is missing"),
    ("selection", {"level": 0.9, "claims": {}, "choices": []}, "claims is {}"),
    ("baselines", None, "it holds a NoneType"),
    ("poolings", "x", "it holds a str"),
]


@pytest.mark.parametrize(("name", "value", "wrong"), WRONG)
def test_a_document_of_another_shape_is_refused_by_name(tmp_path: Path, name: str, value: Any, wrong: str) -> None:
    run = Run.create(tmp_path, {"name": "weather"}, "a" * 64)
    run.write_json(name, copy.deepcopy(value))
    with pytest.raises(UserError, match=rf"{name}\.json' is no {name} of a run \({wrong}\): restore it"):
        run.read_json(name)


def test_a_good_verdict_and_a_document_of_no_known_name_are_read(tmp_path: Path) -> None:
    run = Run.create(tmp_path, {"name": "weather"}, "a" * 64)
    for name, value in (("verdict", {"contrasts": [LINE], "notes": [{"code": "no dictionary"}]}), ("further", [1])):
        run.write_json(name, value)
        assert run.read_json(name) == value


def test_a_finished_run_of_other_versions_or_code_says_so_when_it_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again() -> str:
        return Run.create(tmp_path, {"name": "weather"}, "a" * 64).made_with

    run = Run.create(tmp_path, {"name": "weather"}, "a" * 64)
    run.finish()
    assert (run.made_with, again()) == ("", "")
    now = provenance.versions()
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "versions", lambda: now | {"torch": "9.9"})
        assert again() == (f"This run was made with torch {now['torch']}; this is torch 9.9: --force runs it again.")
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "code", lambda: "edited")
        assert "made with other code of theodolite; this is changed code: --force" in again()
