"""The bias of the logits: worked by hand, from texts alone."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from theodolite.control.material import Material
from theodolite.control.method import control_method
from theodolite.core.errors import UserError
from theodolite.models.model import Model


def of_texts(model: Model, positive: list[str], negative: list[str]) -> Material:
    n = len(positive) + len(negative)
    labels = [1] * len(positive) + [0] * len(negative)
    return Material(model, "blocks.1.resid_post", positive + negative, labels, range(n), np.eye(n))


def test_the_bias_is_the_smoothed_log_odds_by_hand(model: Model) -> None:
    control = control_method("logit_bias").fit(of_texts(model, ["aab", "c"], ["bbbd"]))
    ids = dict(zip("abcde", model.tokenizer("abcde")["input_ids"], strict=True))
    expected = {"a": np.log(3), "b": np.log(2) - np.log(4), "c": np.log(2), "d": -np.log(2), "e": 0.0}
    assert {c: pytest.approx(float(control.bias[i]), abs=1e-6) for c, i in ids.items()} == expected
    assert np.count_nonzero(control.bias) == 4
    assert control.bias.shape == (260,)


def test_classes_of_unlike_size_shift_nothing(model: Model) -> None:
    control = control_method("logit_bias(smoothing=0.5)").fit(of_texts(model, ["abc"], ["aabbccaabbcx"]))
    a, x = model.tokenizer("ax")["input_ids"]
    mean = (3 + 12) / 2
    assert control.bias[a] == pytest.approx(np.log(mean / 3 + 0.5) - np.log(4 * mean / 12 + 0.5), abs=1e-6)
    assert control.bias[a] == pytest.approx(0, abs=1e-6)
    assert control.bias[x] == pytest.approx(np.log(0.5) - np.log(mean / 12 + 0.5), abs=1e-6)


def test_it_is_added_to_what_the_model_returns_and_to_nothing_before(material: Material) -> None:
    control = control_method("logit_bias").fit(material)
    model, tokens = material.model, material.model.tokens(["a text", "x"], format="raw")
    plain = model.run(tokens, capture="final_norm")
    changed = model.run(tokens, capture="final_norm", interventions=control.at(-1.5).interventions)
    expected = plain.logits - 1.5 * torch.tensor(control.bias)
    torch.testing.assert_close(changed.logits[tokens.mask], expected[tokens.mask], atol=1e-4, rtol=1e-4)
    assert torch.equal(changed["final_norm"], plain["final_norm"])
    assert (control.site, control.cap) == (None, np.inf)


def test_it_sees_texts_and_labels_only(make_material: Callable[..., Material]) -> None:
    material = make_material()
    found = control_method("logit_bias").fit(material).bias
    rows = np.random.default_rng(0).normal(size=material.rows.shape)
    np.testing.assert_array_equal(control_method("logit_bias").fit(replace(material, rows=rows)).bias, found)


def test_texts_that_say_nothing_are_refused(model: Model) -> None:
    with pytest.raises(UserError, match="hold the same tokens"):
        control_method("logit_bias").fit(of_texts(model, ["ab"], ["ba"]))
    with pytest.raises(UserError, match="smoothing=0 must be above 0"):
        control_method("logit_bias(smoothing=0)").fit(of_texts(model, ["ab"], ["cd"]))
