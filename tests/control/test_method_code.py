"""Code that the cache's keys of a measured method hold: that of the method and of its reader."""

from types import SimpleNamespace
from typing import Any

import pytest

from theodolite.control import analysis
from theodolite.control.method import control_method
from theodolite.core.code_hash import closure


@pytest.mark.parametrize(
    ("method", "module"),
    [
        ("latent_set", "theodolite.control.latent_choice"),
        ("logistic(C=0.1)", "theodolite.readers.logistic"),
    ],
)
def test_a_measured_method_is_kept_under_the_code_that_fits_it(method: str, module: str) -> None:
    # a change of that code changes the key: else a fitted control of old code would be read from the cache
    assert module in closure(*control_method(method).made_by()).modules
    assert module not in closure(*analysis.MAKERS).modules  # there it would be in every key anyway


def test_the_stages_that_measure_are_in_every_key_and_those_that_conclude_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(analysis, "code_hash", lambda *entries: seen.extend(entries) or "")
    analysis.Steering.makers.func(SimpleNamespace(model=SimpleNamespace(identity="")))  # type: ignore[arg-type]
    steps = [*analysis.MAKERS, analysis._material, analysis._measured]
    assert seen == steps
    # a new sentence of a page or another interval has to leave what was measured as it is
    assert "theodolite.control.figures" not in closure(*steps).modules
