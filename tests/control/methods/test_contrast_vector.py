"""The contrast vector: its formula at every token, nothing for equal instructions, the same in passes and writing."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from theodolite.control.contrast import ContrastControl
from theodolite.control.control import Control
from theodolite.control.material import Material
from theodolite.control.method import control_method
from theodolite.control.passes import Passes
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.rules import Add
from theodolite.models.generate import Decoding
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE, PLUS, MINUS = "blocks.1.resid_post", "be kind\n\n", "be a little less kind\n\n"
TEXTS = ["short", "a longer text", "one of those"]


def control(model: Model, positive: str = PLUS, negative: str = MINUS, site: str = SITE) -> Control:
    return ContrastControl(model, "contrast_vector", site, positive, negative)


def by_hand(model: Model, text: str, amount: float) -> torch.Tensor:
    """Log-probabilities (t, vocabulary) of one text alone, with its own tokens' states behind each instruction."""
    plus, minus = (
        model.run(model.tokens(words + text, format="raw"), capture=SITE)[SITE][:, -len(text) :]
        for words in (PLUS, MINUS)
    )
    change = Intervention(SITE, Add(amount * (plus - minus)))
    return model.run(model.tokens(text, format="raw"), interventions=change).logits[0].log_softmax(1)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_each_token_gets_the_difference_of_its_own_states_behind_the_two_instructions(family: str) -> None:
    model = Model(tiny_model(family), byte_tokenizer())
    passes = Passes.of(model, TEXTS)
    for amount in (0.5, -2.0):
        found = passes.log_probs(control(model).at(amount))
        expected = torch.cat([by_hand(model, text, amount) for text in TEXTS])
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)
        assert (found - passes.clean).abs().max() > 1e-2


def test_equal_instructions_change_nothing(model: Model) -> None:
    passes, same = Passes.of(model, TEXTS), control(model, PLUS, PLUS)
    with pytest.warns(match="changed none"):
        assert torch.equal(passes.log_probs(same.at(3.0)), passes.clean)
    how = Decoding(max_new_tokens=4)
    plain = model.generations(TEXTS, how, format="raw")
    written = same.at(3.0).generate(TEXTS, how)
    assert [one.ids for one in written] == [one.ids for one in plain]
    assert torch.equal(passes.log_probs(control(model).at(0.0)), passes.clean)


@pytest.mark.parametrize("site", [SITE, "blocks.0.resid_pre"])
def test_writing_with_caches_gives_what_teacher_forcing_gives_text_by_text(site: str, model: Model) -> None:
    """Tokens and log-probabilities of each step; prompts of unlike length are padded, one text alone is not."""
    policy = control(model, site=site).at(1.5)
    written = policy.generate(TEXTS, Decoding(max_new_tokens=5))
    alone = [policy.generate([text], Decoding(max_new_tokens=5))[0] for text in TEXTS]
    assert [one.ids for one in written] == [one.ids for one in alone]
    for text, one in zip(TEXTS, written, strict=True):
        whole = text + byte_tokenizer().decode(one.ids)
        if byte_tokenizer()(whole)["input_ids"][-len(one.ids) :] != one.ids:
            continue  # bytes that make no character do not survive the way through a string
        log_probs = Passes.of(model, [whole]).log_probs(policy)
        steps = log_probs[len(text) - 1 : len(text) - 1 + len(one.ids)]
        np.testing.assert_allclose(steps.gather(1, torch.tensor(one.ids)[:, None])[:, 0], one.log_probs, atol=1e-3)
    assert any(one.log_probs.min() < 0 for one in written)


def test_the_two_extra_passes_are_counted_once_for_all_amounts(model: Model) -> None:
    passes = Passes.of(model, TEXTS)
    before = passes.spent
    passes.log_probs(control(model).at(1.0))
    first = passes.spent - before
    tokens = sum(map(len, TEXTS))
    behind = sum((tokens + 3 * len(words)) / tokens * 2 / 3 for words in (PLUS, MINUS))  # blocks 0 and 1 of three
    assert first == pytest.approx(behind + 1, abs=1 / 3)
    passes.log_probs(control(model).at(2.0))
    assert passes.spent - before - first <= 1


def test_both_methods_of_instructions_need_one_and_see_no_text(make_material: Callable[..., Material]) -> None:
    words = SimpleNamespace(positive="Be kind. ", negative="Be unkind.")
    for name in ("contrast_vector", "prompt"):
        with pytest.raises(UserError, match=f"{name} needs an instruction"):
            control_method(name).fit(make_material(instruction=None))
        found = control_method(name).fit(make_material(instruction=words))
        assert (found.positive, found.negative) == ("Be kind.\n\n", "Be unkind.\n\n")
