"""Asking yes or no: the cached prefix gives what the whole prompt gives."""

from typing import Any

import numpy as np
import pytest
import torch

from theodolite.core.errors import UserError
from theodolite.models.model import Model
from theodolite.models.prefix import alike_from_the_start
from theodolite.models.prompting import answer_log_odds, prompts
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model

TEXTS = ["short", "a rather longer text of several words", "?"]
SHOTS = [("first example", 1), ("second", 0)]
QUESTION = "Is it about the sea?"


def by_hand(model: Model, prompt: str) -> float:
    """Plain transformers on one prompt; the spellings are bytes here: y or Y against n or N."""
    ids = model.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        p = model.network.module(ids).logits[0, -1].softmax(-1).double()
    sums = [sum(p[model.tokenizer(c)["input_ids"][0]] for c in letters) for letters in ("yY", "nN")]
    return float(np.log(sums[0]) - np.log(sums[1]))


def asked(texts: list[str], answers: list[str]) -> str:
    turns = [f"<|im_start|>user\n{QUESTION} Answer Yes or No.\n\nText: {text}<|im_end|>\n" for text in texts]
    replies = [f"<|im_start|>assistant\n{answer}<|im_end|>\n" for answer in answers]
    mixed = [part for pair in zip(turns, replies, strict=False) for part in pair] + turns[len(replies) :]
    return "".join(mixed) + "<|im_start|>assistant\n"


def found(model: Model, **options: Any) -> np.ndarray:
    return answer_log_odds(model, TEXTS, QUESTION, yes=("y", "Y", "Yes"), no=("n", "N"), **options)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("few_shot", [[], SHOTS], ids=["zero-shot", "few-shot"])
def test_the_shared_start_changes_nothing(family: str, few_shot: list) -> None:
    model = Model.from_pretrained(tiny_model(family), tokenizer=byte_tokenizer())
    log_odds = found(model, few_shot=few_shot)
    for i, text in enumerate(TEXTS):
        prompt = asked([*(example for example, _ in few_shot), text], ["Yes", "No"][: len(few_shot)])
        assert log_odds[i] == pytest.approx(by_hand(model, prompt), abs=2e-4)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.from_pretrained(tiny_model(), tokenizer=byte_tokenizer())


def test_instructions_and_examples_run_once(model: Model) -> None:
    ran: list[int] = []
    embedding = model.network.module.model.embed_tokens
    handle = embedding.register_forward_hook(lambda m, args, out: ran.append(args[0].numel()))
    try:
        found(model, few_shot=SHOTS)
    finally:
        handle.remove()
    whole = asked([*(example for example, _ in SHOTS), ""], ["Yes", "No"])
    start = whole.index("<|im_end|>\n<|im_start|>assistant", whole.rindex("Text: "))
    assert ran[0] == len(model.tokenizer(whole[:start], add_special_tokens=False)["input_ids"])
    assert sum(ran[1:]) < 3 * sum(len(text) + 20 for text in TEXTS)


TEMPLATE = "You are a pirate who answers every question that a sailor puts to you, whatever it may be: "


def test_texts_in_one_template_share_its_start(model: Model) -> None:
    wrapped = [TEMPLATE + text for text in (*TEXTS, "a fourth", "a fifth")]
    texts = [wrapped[0], "alone", *wrapped[1:], "also alone"]
    ran: list[int] = []
    embedding = model.network.module.model.embed_tokens
    handle = embedding.register_forward_hook(lambda m, args, out: ran.append(args[0].numel()))
    try:
        log_odds = answer_log_odds(model, texts, QUESTION, yes=["y", "Y"], no=["n", "N"])
    finally:
        handle.remove()
    apart = [answer_log_odds(model, [text], QUESTION, yes=["y", "Y"], no=["n", "N"])[0] for text in texts]
    np.testing.assert_allclose(log_odds, apart, atol=1e-5)
    once = len(asked([TEMPLATE], []))
    assert sum(ran) < 3 * once + sum(map(len, TEXTS)) + len(texts) * len("<|im_end|>\n<|im_start|>assistant\n")


def test_groups_begin_alike_and_hold_every_text_once(model: Model) -> None:
    texts = [f"{TEMPLATE}{i}" for i in range(5)] + ["x", "y"] + [f"{TEMPLATE[::-1]}{i}" for i in range(6)]
    tokens = prompts(model, texts, QUESTION)
    groups = alike_from_the_start(tokens)
    assert sorted(map(sorted, groups)) == [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9, 10, 11, 12]]
    assert [g.tolist() for g in alike_from_the_start(tokens[5:6])] == [[0]]


def test_one_text_and_many_batches_give_the_same(model: Model) -> None:
    together = found(model)
    np.testing.assert_allclose(found(model, batch_tokens=1), together, atol=1e-5)
    alone = [answer_log_odds(model, [t], QUESTION, yes=["y", "Y"], no=["n", "N"])[0] for t in TEXTS]
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_long_texts_are_cut(model: Model) -> None:
    cut = answer_log_odds(model, ["abcdefgh"], QUESTION, yes=["y"], no=["n"], max_tokens=3)
    assert cut == pytest.approx(answer_log_odds(model, ["abc"], QUESTION, yes=["y"], no=["n"]))
    assert prompts(model, ["abcdefgh", "abc"], QUESTION, max_tokens=3).truncated.tolist() == [True, False]


def test_a_model_without_a_template_is_asked_in_plain_text() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    model = Model.from_pretrained(tiny_model(), tokenizer=tokenizer)
    log_odds = found(model, few_shot=SHOTS)
    start = f"{QUESTION} Answer Yes or No.\n\nText: "
    prompt = f"{start}first example\nAnswer: Yes\n\n{start}second\nAnswer: No\n\n{start}{TEXTS[1]}\nAnswer:"
    assert log_odds[1] == pytest.approx(by_hand(model, prompt), abs=2e-4)


def test_answers_must_be_tokens(model: Model) -> None:
    with pytest.raises(UserError, match="is one token"):
        answer_log_odds(model, TEXTS, QUESTION)
