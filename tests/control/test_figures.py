"""Figures of planted measurements: what is called control, and what the random band counts."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from theodolite.control.figures import Measured, _bands, _cell_rows, _damage, _dose, _selectivity
from theodolite.core.training_sets import TrainingSets

NATS = (0.03, 0.1, 0.3)
SCATTER = np.linspace(-0.1, 0.1, 20)  # of the effect over openings
RNG = np.random.default_rng(0)
SLOPES = RNG.normal(0, 0.5, 100)  # of random directions: effects at .1 nat, the same for all openings


def push(slopes: tuple[float, float], matched: tuple[float, ...] = NATS) -> dict[str, Any]:
    """Numbers of one seed whose effect grows with the root of the nats: by the first slope at +, the second at -."""
    cells: list[dict[str, Any]] = []
    for split, slope in zip("+-", slopes, strict=True):
        for nats in NATS:
            size = (nats / 0.1) ** 0.5 * (1 if split == "+" else -1)
            cell = {"split": split, "nats": nats, "strength": size, "kl": nats, "reason": ""}
            known = {"effects": {"effect_targets": (size * slope + SCATTER).tolist()}}
            cells.append(cell | known if nats in matched else cell | {"reason": "cap"})
    return {"site": "blocks.1.resid_post", "cells": cells}


def draw(slope: float, **more: Any) -> dict[str, Any]:
    cells = [{"nats": n, "reason": "", "effect_targets": slope * (n / 0.1) ** 0.5} | more for n in NATS]
    return {"cells": cells, "spent": 1.0}


def measured(methods: dict[str, dict[str, Any]], draws: Any, draws_written: int = 12) -> Measured:
    recipe: Any = SimpleNamespace(nats=list(NATS), primary=0.1, draws_written=draws_written)
    ground: Any = SimpleNamespace(openings=["a"] * 20, groups=np.arange(20))
    return Measured(recipe, ground, {m: [one] for m, one in methods.items()}, TrainingSets(), draws=list(draws))


def word(found: Measured, method: str = "push") -> tuple[str, str]:
    judged = _dose(found, method, "effect_targets", _bands(found))
    assert judged is not None
    return judged["word"], judged["why"]


DRAWS = [draw(slope) for slope in SLOPES]


def test_a_random_direction_is_not_called_control() -> None:
    # it moves all openings alike, up at + and down at -, or the other way round; these are deciles of such slopes
    deciles = 0.5 * norm.ppf([0.1, 0.3, 0.7, 0.9])
    moved = {str(s): push((s, s)) for s in deciles}
    assert {word(measured(moved, DRAWS), method)[0] for method in moved} == {"no effect shown"}
    # by the intervals over openings alone, those with a rising slope would be
    assert [word(measured(moved, []), method)[0] for method in list(moved)[2:]] == ["control", "control"]


def test_a_push_beyond_random_directions_is_control() -> None:
    assert word(measured({"push": push((2.0, 2.0))}, DRAWS)) == ("control", "")


def test_a_push_whose_opposite_does_no_more_than_random_directions_is_none() -> None:
    assert word(measured({"push": push((2.0, 0.3))}, DRAWS)) == (
        "damage, not control",
        "one sign beyond random directions",
    )


def test_a_push_the_wrong_way_keeps_its_reason() -> None:
    assert word(measured({"push": push((-2.0, -2.0))}, DRAWS)) == ("damage, not control", "wrong way")


def test_where_the_primary_level_is_not_matched_the_highest_one_is_compared() -> None:
    assert word(measured({"push": push((2.0, 2.0), matched=(0.03,))}, DRAWS)) == ("control", "")
    assert word(measured({"push": push((0.3, 0.3), matched=(0.03,))}, DRAWS))[0] == "no effect shown"


def test_the_band_of_written_text_counts_the_draws_that_text_was_asked_of() -> None:
    unmatched = {"reason": "cap"}
    draws = [draw(s, effect_sentence=s) for s in SLOPES[:11]] + [draw(0.0, **unmatched) for _ in range(3)]
    for one in draws[11:]:
        for cell in one["cells"]:
            del cell["effect_targets"]
    bands = _bands(measured({}, draws, draws_written=12))
    assert (bands[0.1, "effect_sentence"].n, bands[0.1, "effect_sentence"].n_left_out) == (11, 1)
    assert (bands[0.1, "effect_targets"].n, bands[0.1, "effect_targets"].n_left_out) == (11, 3)
    assert bands[0.1, "effect_sentence"].width == pytest.approx(1.959964 * np.sqrt(np.mean(SLOPES[:11] ** 2)))


def test_what_an_edit_does_to_other_concepts_names_the_one_that_moves_most() -> None:
    numbers = push((2.0, 2.0))
    for cell in numbers["cells"]:
        if cell["nats"] == 0.1:
            sign = 1 if cell["split"] == "+" else -1
            cell["others"] = {"fear": (0.5 + SCATTER).tolist(), "joy": (-sign * (1.5 + SCATTER)).tolist()}
    found = measured({"push": numbers}, DRAWS)
    for split, sign in (("+", 1), ("-", -1)):
        told = _selectivity(found, "push", split)
        assert told is not None
        assert told["size"]["value"] == pytest.approx(1)
        assert (told["most_of"], told["most"]) == ("joy", pytest.approx(-1.5 * sign))
        assert told["concepts"] == 2
    assert _selectivity(measured({"push": push((2.0, 2.0))}, DRAWS), "push", "+") is None


def test_damage_is_the_rise_over_the_unchanged_model_text_by_text() -> None:
    numbers, base_n = push((2.0, 2.0)), np.array([1.0, 3.0, 5.0])
    for cell in numbers["cells"]:
        cell["ce"] = (base_n * (1 + abs(cell["strength"]) * 0.1)).tolist()  # a tenth more at strength 1
        if (cell["split"], cell["nats"]) == ("+", 0.1):
            cell |= {"ce": (base_n + 0.5).tolist(), "top1": [0.2, 0.4, 0.3], "cloze": [5.0, 7.0]}
    found = measured({"push": numbers}, DRAWS)
    found.ground.damaged = SimpleNamespace(loss=base_n, top1=np.full(3, 0.5))  # type: ignore[misc, assignment]
    found.ground.cloze_base = SimpleNamespace(nats=np.array([4.0, 4.0]))  # type: ignore[misc, assignment]
    rows = [row for row in _cell_rows(found) if (row["split"], row["nats"]) == ("+", 0.1)]
    at = {row["metric"]: row for row in rows}
    # losses of the texts differ by 4 nats and their rises by none: the interval is over the pairs
    assert (at["ce"]["value"], at["ce"]["lo"], at["ce"]["hi"]) == pytest.approx((0.5, 0.5, 0.5))
    assert (at["top1"]["value"], at["cloze"]["value"]) == pytest.approx((-0.2, 2.0))
    assert at["top1"]["task"] == "steer-damage"
    at_5_percent = _damage(found, "push", "-")
    assert at_5_percent is not None
    assert at_5_percent["value"] == pytest.approx(0.5)  # on the line from strength 0


def test_a_cell_at_its_cap_is_counted_and_in_no_mean() -> None:
    matched, capped = push((2.0, 2.0)), push((2.0, 2.0), matched=())
    for cell in capped["cells"]:
        cell |= {"strength": 99.0, "kl": 0.01}
    found = measured({}, DRAWS)
    found.methods["push"] = [matched, matched, capped]
    found.ground.damaged = SimpleNamespace(loss=np.ones(3), top1=np.ones(3))  # type: ignore[misc, assignment]
    found.ground.cloze_base = SimpleNamespace(nats=np.ones(3))  # type: ignore[misc, assignment]
    (kl,) = [r for r in _cell_rows(found) if (r["metric"], r["split"], r["nats"]) == ("kl", "+", 0.1)]
    assert (kl["value"], kl["n"], kl["n_unscored"], kl["strength"]) == pytest.approx((0.1, 2, 1, 1.0))
