"""Which methods of a comparison are measured where: at each site, once, or not at all."""

from types import SimpleNamespace
from typing import Any

import pytest

from theodolite.control import analysis
from theodolite.control.material import Absent
from theodolite.control.recipe import SteerRecipe

SITES = ["blocks.1.resid_post", "blocks.2.resid_post"]


def measured(
    monkeypatch: pytest.MonkeyPatch, lacking: set[tuple[str, str, int]]
) -> tuple[dict[str, dict[str, int]], list[Any], list[Any]]:
    """Fits by site and method, the notes, and what was asked for; lacking: site, method and seed without a part."""
    asked: list[Any] = []
    notes: list[Any] = []

    def made(state: Any, site: str, method: str, seed: int, tick: Any) -> dict[str, Any]:
        asked.append((site, method, seed))
        if (site, method, seed) in lacking:
            raise Absent("no dictionary")
        return {"site": site}

    monkeypatch.setattr(analysis, "_measured", made)
    monkeypatch.setattr(analysis, "_kept", lambda state, site, about, make: make())
    monkeypatch.setattr(analysis, "code_hash", lambda *entries: "")
    methods = ["lat", "latent", "prompt"]
    given: dict[str, Any] = {"methods": methods, "seeds": 3, "site": SITES[0], "sites": SITES}
    recipe = SteerRecipe(kind="steer", name="a", title="A", concept="joy", **given)
    run = SimpleNamespace(note=lambda *one: notes.append(one), notes=[], begin=lambda: None)
    state: Any = SimpleNamespace(recipe=recipe, measured={}, run=run)
    tick: Any = SimpleNamespace(tell=lambda *now: None)
    analysis._measure(state, tick)
    return {site: {m: len(fits) for m, fits in by.items()} for site, by in state.measured.items()}, notes, asked


def test_a_method_at_no_depth_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found, notes, _ = measured(monkeypatch, set())
    assert found == {SITES[0]: {"lat": 3, "latent": 3, "prompt": 3}, SITES[1]: {"lat": 3, "latent": 3}}
    assert notes == []


def test_a_method_that_only_some_training_sets_can_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # its fits have no partner in a contrast of three fits
    found, notes, asked = measured(monkeypatch, {(SITES[0], "latent", 1)})
    assert found == {SITES[0]: {"lat": 3, "prompt": 3}, SITES[1]: {"lat": 3}}
    assert [one for one in asked if one[1] == "latent"] == [(SITES[0], "latent", 0), (SITES[0], "latent", 1)]
    assert len(notes) == 1


def test_a_method_that_another_site_lacks_is_left_out_there_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found, notes, _ = measured(monkeypatch, {(SITES[1], "latent", seed) for seed in range(3)})
    assert found == {SITES[0]: {"lat": 3, "latent": 3, "prompt": 3}, SITES[1]: {"lat": 3}}
    assert [text for _, _, text in notes] == ["latent at blocks.2.resid_post: no dictionary"]


def test_a_method_that_does_not_say_that_it_is_at_no_depth_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = SimpleNamespace(at_depth=True, fit=lambda material: SimpleNamespace(site=None))
    monkeypatch.setattr(analysis, "control_method", lambda spec: silent)
    state: Any = SimpleNamespace(material=lambda site, seed: None)
    with pytest.raises(TypeError, match="mine has at_depth=True and changes no site"):
        analysis._measured(state, "", "mine", 0, lambda done: None)
