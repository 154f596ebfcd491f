"""What one control is measured on, and what that costs."""

from types import SimpleNamespace
from typing import Any

import pytest

from theodolite.control.behind import at_the_end
from theodolite.control.effects import ScoredOpenings, Targets
from theodolite.control.measure import on_targets
from theodolite.control.passes import Passes
from theodolite.control.policy import Intervened
from theodolite.core.intervention import Intervention
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

OPENINGS = ["It was", "They say that", "Now"]


def test_two_sets_of_targets_cost_one_pass_behind_the_openings() -> None:
    model = Model(tiny_model(), byte_tokenizer())
    behind = Passes(model, *at_the_end(model, OPENINGS, "raw"))
    sets = {"scored": Targets(("a",), ("b",)), "unseen": Targets(("c",), ("d", "e"))}
    ground: Any = SimpleNamespace(
        behind=behind, **{name: ScoredOpenings(model, OPENINGS, both, "raw", behind) for name, both in sets.items()}
    )
    push = Intervened(model, (Intervention.add("blocks.0.resid_pre", [1.0] * 32),))
    apart = {name: getattr(ground, name).effect(push) for name in sets}
    before = behind.spent
    found = on_targets(push, ground)
    assert behind.spent - before == pytest.approx(1.0)  # all blocks over all openings, once
    assert found["effect_targets"].tolist() == apart["scored"].tolist()
    assert found["effect_unseen"].tolist() == apart["unseen"].tolist()
