"""The first sentences of the page on control: which method moves written text furthest."""

from typing import Any

import pytest

from theodolite.report.steer_answer_section import leaders

LEAD = {"metric": "effect_sentence", "method": "latent_set", "methods": 3, "value": 2.0, "lo": 1.5, "hi": 2.5, "n": 100}
BAND = {"metric": "effect_sentence", "nats": 0.1, "width": 0.5, "n": 12}


def facts(**changes: Any) -> dict[str, Any]:
    deciders = [{"name": "sentence", "usable": True}, {"name": "ngrams", "usable": False}]
    lead = LEAD | {"alike": ["logit_bias"]} | changes
    return {"primary": 0.1, "bands": [BAND], "classifiers": deciders, "furthest": [lead]}


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({}, "May be as far: vocabulary logit bias."),
        ({"alike": []}, "May be as far: none of the other 2 methods."),
        ({"value": 0.4}, "It is no further than 95 % of random directions."),
        ({"methods": 1, "alike": []}, "n = 100 openings."),
    ],
)
def test_the_leader_is_named_with_those_that_may_be_as_far(changes: dict[str, Any], end: str) -> None:
    [words] = leaders(facts(**changes))
    assert words.startswith("Furthest at 0.1 nat on written text, sentence classifier: latent set, +")
    assert words.endswith(end)


def test_a_measure_that_decides_nothing_and_a_run_of_an_earlier_version_have_no_leader() -> None:
    assert leaders(facts(metric="effect_ngrams")) == []
    assert leaders(facts(metric="effect_targets")) == []
    assert leaders({name: value for name, value in facts().items() if name != "furthest"}) == []
