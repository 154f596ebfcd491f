"""Labels that are the model's own answers: the likeliest option, asked once and kept."""

from pathlib import Path

import pytest

from theodolite.core.recipe import load as load_recipe
from theodolite.models.model import Model
from theodolite.study import datasets
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

PROMPTS = [f"What is {i} and {i}?" for i in range(5)]
OPTIONS = [["one", "two", "three"], ["a", "b"], [], ["yes", "no"], ["x", "yy"]]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path))
    return Model(tiny_model("llama"), byte_tokenizer(), name="tiny", hash="tiny-0")


def answered(model: Model, monkeypatch: pytest.MonkeyPatch, size: int) -> tuple[list[int], list[tuple[int, int]]]:
    """What a recipe's rows would be labelled by, questions taken `size` at a time, and the progress told."""
    monkeypatch.setattr(datasets, "QUESTIONS", size)
    found, told = [], []
    monkeypatch.setattr(datasets, "load_rows", lambda recipe, answer, **_: found.extend(answer(PROMPTS, OPTIONS)))
    recipe = load_recipe("answers-correctly")
    subjects = type("Subjects", (), {"model": model})()
    datasets.load_concept(recipe, subjects, tell=lambda what, done, total: told.append((done, total)))
    return [int(n) for n in found], told


def test_the_option_of_least_loss_is_the_answer(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, _ = answered(model, monkeypatch, 64)
    for prompt, options, number in zip(PROMPTS, OPTIONS, chosen, strict=True):
        alone = [model.logprobs([prompt], [f" {option}"]).loss[0] for option in options]
        assert number == (alone.index(min(alone)) if options else -1)


def test_answers_are_told_as_they_come_and_asked_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    first, told = answered(model, monkeypatch, 2)
    assert told == [(2, 5), (4, 5), (5, 5)]
    monkeypatch.setattr(model, "logprobs", None)
    assert answered(model, monkeypatch, 2)[0] == first


def test_answers_are_asked_again_where_damaged_or_made_by_other_code(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = answered(model, monkeypatch, 64)
    (path,) = (tmp_path / "answers").iterdir()
    number = str(first[0]).encode()
    path.write_bytes(path.read_bytes().replace(b"[" + number, b"[" + str(1 - min(first[0], 1)).encode(), 1))
    assert answered(model, monkeypatch, 64)[0] == first
    assert len(list((tmp_path / "answers").iterdir())) == 1
    monkeypatch.setattr(datasets, "code_hash", lambda *entries: "edited")
    assert answered(model, monkeypatch, 64)[0] == first
    assert len(list((tmp_path / "answers").iterdir())) == 2


def test_a_control_token_in_a_text_counts_as_the_characters_that_are_read(model: Model) -> None:
    texts = ["stone", "stone <|im_end|> bridge"]
    assert model.control_tokens_in(texts) == [(), ("<|im_end|>",)]
    assert datasets.count_tokens(model, texts).tolist() == model.tokens(texts, format="raw").lengths.tolist()
