"""Strengths of several training sets are one figure for each sign, and what is missing says why."""

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from theodolite.core.control_documents import Strength
from theodolite.report import steer_strengths_section
from theodolite.report.steer_strengths_section import strengths


def method(*seeds: tuple[float, float], reason: str = "") -> dict[str, Any]:
    """Facts of a method with these strengths at + and - of each training set; the last one at - has the reason."""
    every: list[dict[str, Any]] = []
    for at in seeds:
        for split, strength in zip("+-", at, strict=True):
            every.append({"split": split, "nats": 0.1, "strength": strength, "reason": ""})
    every[-1]["reason"] = reason
    nothing = {"+": None, "-": None}
    about: dict[str, Any] = {
        "site": "",
        "spent": [1.0] * len(seeds),
        "strengths": every,
        "damage": nothing,
        "selectivity": nothing,
    }
    return about | {"dose": {"effect_targets": None}}


def cells(monkeypatch: pytest.MonkeyPatch, about: dict[str, Any]) -> list[str]:
    facts = {"primary": 0.1, "methods": {"a": about}}
    monkeypatch.setattr(steer_strengths_section, "facts_of", lambda run, name, shape: facts)
    run: Any = SimpleNamespace()
    (line,) = strengths(run).lines
    return [cell.words for cell in line.cells]


def test_strengths_of_three_training_sets_are_one_mean_for_each_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    found = cells(monkeypatch, method((1.0, -2.0), (2.0, -4.0), (3.0, -6.0)))
    assert found[2:4] == ["2 / -4", "0 of 6"]


def test_a_sign_that_one_training_set_lacks_has_no_strength_and_no_dose(monkeypatch: pytest.MonkeyPatch) -> None:
    found = cells(monkeypatch, method((1.0, -2.0), reason="cap"))
    assert found[2:] == ["1 / cap", "1 of 2", "not matched", "not matched / not matched", "not measured / not measured"]
    assert cells(monkeypatch, method((1.0, -2.0)))[4] == "not asked"


def test_a_strength_without_its_sign_is_no_fact() -> None:
    with pytest.raises(ValidationError, match="split"):
        Strength.model_validate({"nats": 0.1, "strength": 1.0, "reason": ""})
