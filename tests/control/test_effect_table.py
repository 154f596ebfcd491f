"""The table of effects of a Run, as another analysis reads it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from theodolite.control.effect_table import COLUMNS, EFFECTS, effect_table, read_effects
from theodolite.control.figures import Measured
from theodolite.core.errors import UserError
from theodolite.core.run import Run
from theodolite.core.training_sets import TrainingSets

TABLE = pd.DataFrame(
    {
        "row": ["a", "b", "a"],
        "group": ["0", "1", "0"],
        "method": "lat",
        "site": "blocks.1.resid_post",
        "seed": [0, 0, 1],
        "split": "+",
        "nats": 0.1,
        "strength": [1.0, 1.0, 2.0],
        "metric": "effect_targets",
        "effect": [0.5, float("nan"), 0.25],
    }
)


def stored(folder: Path, table: pd.DataFrame) -> Run:
    run = Run.create(folder, {"name": "steer/planted", "kind": "steer"}, "0" * 64)
    run.write_table(EFFECTS, table)
    return run


def test_effects_are_read_as_they_were_written(tmp_path: Path) -> None:
    pd.testing.assert_frame_equal(read_effects(stored(tmp_path / "run", TABLE)), TABLE)
    assert set(TABLE) == set(COLUMNS)


def test_effects_on_questions_are_not_effects_on_openings() -> None:
    # as many questions as openings: their number does not tell them apart
    effects = {"effect_targets": [0.5, None], "effect_choices": [1.0, 2.0]}
    cell = {"split": "+", "nats": 0.1, "strength": 2.0, "effects": effects}
    ground: Any = SimpleNamespace(openings=["It is", "We see"], groups=np.arange(2))
    methods: Any = {"lat": [{"site": "blocks.1.resid_post", "cells": [cell]}]}
    recipe: Any = None
    table = effect_table(Measured(recipe, ground, methods, TrainingSets()))
    assert table["metric"].tolist() == ["effect_targets"] * 2
    assert table["effect"].tolist() == pytest.approx([0.5, float("nan")], nan_ok=True)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (TABLE.drop(columns="split"), "no column 'split'"),
        (TABLE.assign(effect="<b>1</b>"), "no numbers in 'effect'"),
        (TABLE.assign(seed=0), "several effects of one opening in one cell"),
    ],
)
def test_a_table_that_is_none_of_ours_is_refused(tmp_path: Path, table: pd.DataFrame, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_effects(stored(tmp_path / "run", table))
