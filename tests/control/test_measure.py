"""What one control is measured on, and what that costs."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from theodolite.control.behind import at_the_end
from theodolite.control.calibrate import calibrate_levels
from theodolite.control.control import VectorControl
from theodolite.control.dial import PromptDial
from theodolite.control.effects import ScoredOpenings, Targets
from theodolite.control.measure import _direct, _on_choices, _on_others, on_targets
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


def test_the_states_that_all_controls_share_are_no_cost_of_the_first() -> None:
    model = Model(tiny_model(), byte_tokenizer())
    passes = Passes.of(model, ["a text", "another one, longer"])
    push = VectorControl.scaled(model, "difference_in_means", "blocks.1.resid_post", [1.0] + [0.0] * 31, 5.0)
    first, again = (calibrate_levels(push, passes) for _ in range(2))
    assert [one.spent for one in first] == [one.spent for one in again]


def test_an_instruction_costs_as_much_whatever_was_measured_before() -> None:
    model = Model(tiny_model(), byte_tokenizer())
    passes = Passes.of(model, ["a text", "another one, longer"])
    found = []
    for _ in range(2):
        passes.forget()
        found.append(sum(one.spent for one in calibrate_levels(PromptDial(model, "Be brief. "), passes)))
    assert found[0] == found[1] > 0


def test_the_direct_share_counts_a_first_token_once_and_none_that_both_sides_have() -> None:
    model = Model(tiny_model(), byte_tokenizer())
    behind = Passes(model, *at_the_end(model, OPENINGS, "raw"))
    push = Intervened(model, (Intervention.add("blocks.1.resid_post", [1.0] * 32),))

    def share(*sides: tuple[str, ...]) -> float | None:
        scored: Any = SimpleNamespace(scored=ScoredOpenings(model, OPENINGS, Targets(*sides), "raw", behind))
        return _direct(push, scored)

    assert share(("go home", "go away"), ("stay",)) == share(("g",), ("s",)) is not None
    assert share(("go", "stop"), ("stay", "run")) == share(("g",), ("r",))
    assert share(("stop",), ("stay",)) is None


def test_effects_on_other_concepts_and_on_questions_have_the_sign_of_the_push() -> None:
    model = Model(tiny_model(), byte_tokenizer())
    behind, bias = Passes(model, *at_the_end(model, OPENINGS, "raw")), np.zeros(260, np.float32)
    bias[70] = 1.0
    push = Intervened(model, (Intervention.add("logits", bias, 2.0),))  # 2 nats more for token 70 against any other
    ground: Any = SimpleNamespace(behind=behind, others={"joy": ([70], [80]), "fear": ([80], [70])})
    found = _on_others(ground, behind.log_probs(push))
    assert found["joy"] == pytest.approx([2.0] * 3, abs=1e-4)
    assert found["fear"] == pytest.approx([-2.0] * 3, abs=1e-4)
    # one question in both orders: its answers are 3 and 1 nats ahead, 1 and 1 without the push
    asked: Any = SimpleNamespace(score=lambda policy: np.array([3.0, 1.0]), base=np.array([1.0, 1.0]))
    assert _on_choices(push, asked).tolist() == [1.0]
