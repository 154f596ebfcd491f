"""The dry run promises only what a run could print: no difference without an interval, none that cannot occur."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from theodolite.comparison.planning import MOST_DETECTABLE, ComparisonPlan, _detectable
from theodolite.core.recipe import Recipe
from theodolite.study.training_sets import measured


def planned(sizes: list[int]) -> ComparisonPlan:
    group = np.repeat(np.arange(len(sizes)), sizes)
    frame = pd.DataFrame(
        {
            "hash": [f"{i:016x}" for i in range(len(group))],
            "cluster": group,
            "label": np.arange(len(group)) % 2,
            "source": "s",
            "template": "",
            "request": "",
        }
    )
    recipe = Recipe(name="mine", title="Mine", positive="", negative="", question="", train=[])
    training = measured(frame, recipe.seeds)[""]
    concept: Any = SimpleNamespace(shifts={}, train=SimpleNamespace(frame=frame))
    return ComparisonPlan(recipe, {}, {}, 0.0, 0.0, _detectable(recipe, concept, training), (), training=training)


def test_eight_groups_get_the_reason_instead_of_a_difference() -> None:
    said = "\n".join(planned([200, 120, 80, 60, 50, 40, 30, 20]).lines())
    assert "no interval and no verdict: training rows come from" in said
    assert "smallest AUROC difference" not in said


def test_a_plan_shows_itself_by_its_lines() -> None:
    plan = planned([20] * 40)
    assert repr(plan).splitlines() == list(plan.lines())


def test_under_five_seeds_the_plan_says_why_it_promises_no_difference() -> None:
    plan = planned([1] * 40)
    few = replace(plan, recipe=plan.recipe.model_copy(update={"seeds": 2}), detectable=(math.nan,) * 3)
    assert "no interval and no verdict: 2 training sets are too few for one, 5 are needed (--seeds 5)" in list(
        few.lines()
    )


@pytest.mark.parametrize("sizes", [[1] * 40, [20] * 12, [1] * 2000])
def test_no_difference_is_promised_that_cannot_occur(sizes: list[int]) -> None:
    plan = planned(sizes)
    (line,) = [line for line in plan.lines() if line.startswith("smallest AUROC difference")]
    for value in plan.detectable:
        assert (f"{value:.3f} at" in line) == (value < MOST_DETECTABLE)
    assert ("none at" in line) == (max(plan.detectable) >= MOST_DETECTABLE)
    assert (len(sizes) == 2000) == (max(plan.detectable) < 0.1)
