"""The search for a strength on planted curves, whose answer is known, and on a tiny model."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from theodolite.control.calibrate import BUDGET, Calibrated, Curve, calibrate, calibrate_levels
from theodolite.control.control import NeuronControl, VectorControl
from theodolite.control.passes import Passes
from theodolite.core.errors import UserError
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model


@dataclass
class Planted:
    """A control whose policy is its strength, and passes whose divergence is a known function of it."""

    kl: Callable[[float], float]
    cap: float = 10.0
    cost: float = 0.43
    has_dial: bool = True
    method: str = "planted"
    site: Any = None
    spent: float = 0.0
    strongest: float = 0.0

    def at(self, strength: float) -> Any:
        return strength

    def kl_of_rows(self, policy: Any) -> np.ndarray:
        self.spent += self.cost
        self.strongest = max(self.strongest, abs(policy))
        return np.full(3, self.kl(policy))


def found(planted: Planted, nats: float, sign: int = 1, **options: Any) -> Calibrated:
    return calibrate(Curve(planted, planted, sign), nats, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("nats", [0.03, 0.1, 0.3])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_quadratic_disturbance_is_hit_with_two_passes(nats: float, sign: int) -> None:
    one = found(Planted(lambda s: 0.7 * s * s), nats, sign)
    assert one.reached
    assert one.n_evaluations <= 2
    assert one.strength == pytest.approx(sign * math.sqrt(nats / 0.7))
    assert one.kl == pytest.approx(nats)
    assert one.spent == pytest.approx(0.43 * one.n_evaluations)


CURVES = {
    "steep": lambda s: 0.3 * abs(s) ** 2.7 / (1 + abs(s)),
    "flat at the end": lambda s: 3 * math.tanh(abs(s)) ** 4,
    "another side": lambda s: 0.2 * s * s if s > 0 else 0.6 * s * s + 0.1 * abs(s) ** 3,
    "slow": lambda s: 0.2 * math.log1p(50 * s * s),
}


@pytest.mark.parametrize("name", CURVES)
def test_all_levels_and_both_signs_are_hit_within_the_budget(name: str) -> None:
    planted = Planted(CURVES[name])
    every = calibrate_levels(planted, planted)  # type: ignore[arg-type]
    assert [one.nats for one in every] == [0.03, 0.1, 0.3] * 2
    for one, sign in zip(every, [1, 1, 1, -1, -1, -1], strict=True):
        assert one.reached, one
        assert one.strength * sign > 0
        assert abs(CURVES[name](one.strength) / one.nats - 1) <= 0.02
    assert abs(every[0].strength) < abs(every[1].strength) < abs(every[2].strength)
    assert planted.spent <= BUDGET
    assert sum(one.spent for one in every) == pytest.approx(planted.spent)


def test_a_draw_that_begins_where_another_ended_takes_two_passes_and_never_more_than_it_may() -> None:
    for factor in (0.5, 1.0, 3.0):
        planted = Planted(lambda s, f=factor: f * 0.7 * s * s / (1 + 0.1 * abs(s)))
        assert found(planted, 0.1, first=math.sqrt(0.1 / 0.7), tries=4).n_evaluations <= 3
    stuck = found(Planted(lambda s: 0.2 * math.log1p(1e5 * s**8)), 0.1, tries=2)
    assert (stuck.reason, stuck.n_evaluations, stuck.reached, stuck.capped) == ("tries", 2, False, False)


def test_a_level_that_the_cap_keeps_out_of_reach_is_said_to_be_capped() -> None:
    planted = Planted(lambda s: 0.01 * s * s, cap=2.0)
    one = found(planted, 0.1, -1)
    assert (one.strength, one.reason, one.capped, one.reached) == (-2.0, "cap", True, False)
    assert one.kl == pytest.approx(0.04)
    assert planted.strongest <= 2.0
    every = calibrate_levels(planted, planted)  # type: ignore[arg-type]
    assert [each.capped for each in every] == [False, True, True] * 2


def test_latents_that_begin_above_the_level_are_a_floor_and_a_dip_is_followed() -> None:
    """Clamped to nearly 0, latents lose their natural firing: KL begins above 0 and may fall before it rises."""
    floor = found(Planted(lambda s: 0.05 + 0.3 * s * s, cap=1.0), 0.03)
    assert (floor.reason, floor.capped) == ("floor", True)
    above = found(Planted(lambda s: 0.05 + 0.3 * s * s, cap=1.0), 0.1)
    assert above.reached
    assert above.strength == pytest.approx(math.sqrt(0.05 / 0.3), rel=0.05)
    dips = found(Planted(lambda s: 0.12 * math.exp(-8 * s) + 0.3 * s**3, cap=1.0), 0.1)
    assert dips.reached
    assert dips.strength == pytest.approx(0.692, rel=0.02)


def test_the_budget_ends_the_search_with_the_nearest_point() -> None:
    planted = Planted(CURVES["slow"], cost=1.0)
    every = calibrate_levels(planted, planted, budget=4.0)  # type: ignore[arg-type]
    assert planted.spent <= 4.0
    assert every[-1].reason == "budget"
    assert not every[-1].capped


def test_what_has_no_disturbance_to_set_is_refused() -> None:
    with pytest.raises(UserError, match=r"planted at strength -0\.5 disturbs by nan nats"):
        found(Planted(lambda s: math.nan), 0.1, -1)
    with pytest.raises(UserError, match="has no dial"):
        found(Planted(lambda s: s * s, has_dial=False), 0.1)
    for bad in (math.nan, 0.0, -1.0, math.inf):
        with pytest.raises(UserError, match="a finite number above 0"):
            found(Planted(lambda s: s * s), bad)
    with pytest.raises(UserError, match="sign 2"):
        found(Planted(lambda s: s * s), 0.1, 2)


def test_on_a_model_the_strength_found_disturbs_as_wanted() -> None:
    model = Model(tiny_model(), byte_tokenizer())
    texts = ["hello there", "how are you, all of you?", "one more text"]
    passes = Passes.of(model, texts)
    v = np.random.default_rng(0).normal(size=32)
    for control in (
        VectorControl.scaled(model, "difference_in_means", "blocks.1.resid_post", v, 3.0),
        NeuronControl(model, "neurons", model.site("blocks.2.mlp_act"), [3, 7, 9], 4 * v[:3], 48),
    ):
        before = passes.spent
        every = calibrate_levels(control, passes)
        assert passes.spent - before <= BUDGET
        for one in every:
            assert one.reached
            assert abs(one.strength) <= control.cap
            again = model.kl_per_text(texts, interventions=control.at(one.strength).interventions, positions="all")
            assert again @ passes.n_targets / passes.n_rows == pytest.approx(one.nats, rel=0.021)
        assert control.at(0.0).interventions == ()
