"""An instruction with a dial: its two ends are the model and the model behind the instruction, bit for bit."""

import numpy as np
import pytest
import torch

from theodolite.control.dial import Dialled, PromptDial, behind
from theodolite.control.passes import Passes
from theodolite.control.policy import Intervened
from theodolite.core.errors import UserError
from theodolite.core.positions import Role
from theodolite.models.generate import Decoding
from theodolite.models.model import Model
from theodolite.models.tokens import Tokens
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

TEXTS = ["hello there", "how are you, all of you?", "xyz", "one more text"]
ORDER = "Answer in French. "
HOW = Decoding(max_new_tokens=3)


def make(family: str = "llama") -> Model:
    return Model(tiny_model(family), byte_tokenizer())


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_the_ends_of_the_dial_are_the_model_and_the_model_behind_the_instruction(family: str) -> None:
    model = make(family)
    for amount, prompts in ((0.0, TEXTS), (1.0, [ORDER + text for text in TEXTS])):
        found = Dialled(model, ORDER, amount).generate(TEXTS, HOW)
        for one, other in zip(found, model.generations(prompts, HOW, format="raw"), strict=True):
            assert one.ids == other.ids
            np.testing.assert_array_equal(one.log_probs, other.log_probs)


@pytest.mark.parametrize("format", ["raw", "chat"])
def test_between_the_ends_each_step_mixes_the_logits_and_a_batch_is_its_texts_alone(format: str) -> None:
    """By hand without a cache, token by token; padded prompts of unlike length give what each gives alone."""
    model, amount = make(), 0.4
    policy = Dialled(model, ORDER, amount)
    together = policy.generate(TEXTS, HOW, format=format)
    for text, one in zip(TEXTS, together, strict=True):
        assert one.ids == policy.generate([text], HOW, format=format)[0].ids
        plain, prompted = (model.tokens(t, format=format).ids[0].tolist() for t in (text, ORDER + text))
        for token, log_prob in zip(one.ids, one.log_probs, strict=True):
            base, order = (model.run(as_tokens(ids), logits="last").logits[0, 0].double() for ids in (plain, prompted))
            mixed = (base + amount * (order - base)).log_softmax(-1)
            assert int(mixed.argmax()) == token
            assert float(mixed[token]) == pytest.approx(log_prob, abs=1e-4)
            plain, prompted = [*plain, token], [*prompted, token]


def as_tokens(ids: list[int]) -> Tokens:
    return Tokens(torch.tensor([ids]), torch.full((1, len(ids)), int(Role.CONTENT), dtype=torch.int8), torch.zeros(1))


@pytest.mark.parametrize("format", ["raw", "chat"])
def test_forced_predictions_are_those_of_the_generation(format: str) -> None:
    model = make()
    passes = Passes.of(model, TEXTS, positions="all[-1]", format=format, batch_tokens=70)
    for amount in (0.0, 0.4, 1.0, -0.7):
        policy = Dialled(model, ORDER, amount)
        rows = passes.log_probs(policy)
        for row, one in zip(rows, policy.generate(TEXTS, Decoding(max_new_tokens=1), format=format), strict=True):
            if one.ids:
                assert float(row[one.ids[0]]) == pytest.approx(one.log_probs[0], abs=1e-4)
            assert not one.ids or int(row.argmax()) == one.ids[0]


def test_every_target_is_predicted_behind_the_instruction() -> None:
    model = make()
    passes = Passes.of(model, TEXTS)
    rows = passes.log_probs(Dialled(model, ORDER, 1.0))
    for number, text in enumerate(TEXTS):
        logits = model.run(model.tokens(ORDER + text, format="raw")).logits[0, len(ORDER) :]
        torch.testing.assert_close(
            rows[passes.text_of_row == number], logits[:24].log_softmax(-1), atol=1e-4, rtol=1e-4
        )


def test_the_instruction_costs_one_pass_and_each_amount_none() -> None:
    model = make()
    passes = Passes.of(model, TEXTS)
    dial, spent = PromptDial(model, ORDER, "Answer in English. "), passes.spent
    assert passes.kl(dial.at(0.0)).tolist() == [0.0] * 4
    assert passes.spent == spent
    first = passes.kl(dial.at(0.3)).mean()
    cost = passes.spent - spent
    more = len(ORDER) * len(TEXTS) / sum(map(len, TEXTS))
    assert cost == pytest.approx(1 + more, rel=0.1)
    assert [passes.kl(dial.at(a)).mean() > first for a in (0.1, 0.6, 1.0)] == [False, True, True]
    assert passes.spent == spent + cost
    passes.kl(dial.at(-0.3))
    assert passes.spent > spent + cost  # the opposite instruction
    both = passes.spent
    passes.kl(dial.at(0.5))
    assert passes.spent == both  # both are kept


def test_a_control_takes_the_opposite_instruction_where_there_is_one() -> None:
    model = make()
    dial = PromptDial(model, ORDER, "Answer in English. ")
    assert isinstance(dial.at(0.0), Intervened)
    policy = dial.at(-0.5)
    assert isinstance(policy, Dialled)
    assert (policy.instruction, policy.amount) == ("Answer in English. ", 0.5)
    alone = PromptDial(model, ORDER).at(-0.5)
    assert isinstance(alone, Dialled)
    assert (alone.instruction, alone.amount) == (ORDER, -0.5)
    with pytest.raises(UserError, match="no finite number"):
        dial.at(float("nan"))


def test_a_text_behind_a_bos_keeps_it_in_front() -> None:
    """The BOS predicts the first token of the text; behind an instruction the instruction's last token does."""
    ids, roles = torch.tensor([[1, 5, 6, 0]]), torch.tensor([[Role.SPECIAL, Role.CONTENT, Role.CONTENT, Role.PAD]])
    tokens = Tokens(ids, roles.to(torch.int8), torch.zeros(1))
    moved, targets = behind([8, 9], tokens, torch.tensor([[True, True, True, False]]))
    assert moved.ids.tolist() == [[1, 8, 9, 5, 6]]
    assert targets.tolist() == [[False, False, True, True, True]]


def test_what_cannot_be_is_refused() -> None:
    model = make()
    with pytest.raises(UserError, match="has no tokens"):
        Dialled(model, "", 0.5).generate(TEXTS, HOW)
    with pytest.raises(UserError, match="shorten the instruction"):
        Dialled(model, "a" * 480, 0.5).generate(TEXTS, Decoding(max_new_tokens=30))
    with pytest.raises(UserError, match="predicts the next token itself"):
        Dialled(model, ORDER, 0.5).generate(TEXTS, Decoding(predict=lambda prompts, step: step))
