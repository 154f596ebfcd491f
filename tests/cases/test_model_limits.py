"""Cases 08 and 14: the format of texts and how many tokens are read follow the model, or the user's option."""

from pathlib import Path
from typing import Any

import pytest
from case_kit import QUICK, model_folder, table, theodolite

from theodolite.core import recipe as recipes
from theodolite.core.errors import UserError
from theodolite.core.recipe import Recipe
from theodolite.core.run import Run
from theodolite.models.model import Model
from theodolite.study.settle import adapted
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

RAW = "the model has no chat template: texts are read raw, not as a user's turn"


def model(template: bool = True, context: int = 512, family: str = "llama") -> Model:
    network, tokenizer = tiny_model(family), byte_tokenizer()
    network.config.max_position_embeddings = context
    if not template:
        tokenizer.chat_template = None
    return Model(network, tokenizer, name="tiny")


def recipe(**fields: Any) -> Recipe:
    plain = {
        "name": "r",
        "title": "r",
        "positive": "1",
        "negative": "0",
        "question": "",
        "train": [],
        "methods": ["logistic"],
    }
    return recipes.validated(plain | fields, "r")


@pytest.mark.parametrize(
    ("asked", "template", "found"),
    [
        ("auto", True, "chat"),
        ("auto", False, "raw"),
        ("raw", True, "raw"),
        ("raw", False, "raw"),
        ("chat", True, "chat"),
    ],
)
def test_texts_are_a_chat_where_the_model_has_a_template(asked: str, template: bool, found: str) -> None:
    assert adapted(recipe(format=asked), model(template)).format == found


def test_a_chat_without_a_template_names_the_option_that_exists() -> None:
    with pytest.raises(UserError, match="no chat template: use --format raw"):
        adapted(recipe(format="chat"), model(template=False))


@pytest.mark.parametrize("format", ["chat", "raw"])
@pytest.mark.parametrize("context", [40, 64, 512])
def test_no_text_with_its_template_is_longer_than_the_context(format: str, context: int) -> None:
    found = adapted(recipe(format=format), model(context=context))
    texts = ["stone bridge house " * 100, "?" * 1000]
    assert int(model().tokens(texts, format=found.format, max_tokens=found.max_tokens).lengths.max()) <= context
    if context == 512:
        assert found.max_tokens == 256
    else:  # and no shorter than that
        assert int(model().tokens(texts, format=found.format, max_tokens=found.max_tokens + 1).lengths.max()) > context


def test_a_context_that_the_template_fills_says_what_to_do() -> None:
    with pytest.raises(UserError, match="template alone has 19 tokens, the model's context 19: use --format raw"):
        adapted(recipe(), model(context=19))


def test_a_model_without_a_template_is_compared_raw_and_the_page_says_so(tmp_path: Path) -> None:
    """Case 08, with case 14: rows are cut at what is asked for, counted, and the run goes on."""
    frame = table(120)
    frame.loc[3, "text"] = "stone bridge house " * 40
    frame.to_csv("mine.csv", index=False)
    folder = model_folder(tmp_path / "m", "gpt2", template=None)
    ended = theodolite("compare", "mine.csv", "--model", folder, *QUICK, "--max-tokens", "100", "--out", "run")
    assert ended.code == 0, ended.stderr
    run = Run.open("run")
    assert (run.recipe["format"], run.recipe["max_tokens"]) == ("raw", 100)
    notes = {note["kind"]: note["text"] for note in run.manifest["notes"]}
    assert notes["format"] == RAW
    assert notes["truncated"] == "texts of train cut at 100 tokens"
    assert RAW in Path("run/report.html").read_text(encoding="utf-8").replace("&#39;", "'").replace("&#x27;", "'")
    refused = theodolite("compare", "mine.csv", "--model", folder, *QUICK, "--format", "chat", "--out", "other")
    assert (refused.code, "use --format raw" in refused.stderr) == (2, True)


def short(network: Any) -> None:
    network.config.max_position_embeddings = 64


def test_a_short_context_cuts_and_counts(tmp_path: Path) -> None:
    """Case 14: 256 tokens do not fit into a context of 64, so texts are cut at what the template leaves."""
    frame = table(60)
    frame.to_csv("long.csv", index=False)
    folder = model_folder(tmp_path / "m", edit=short)
    ended = theodolite("compare", "long.csv", "--model", folder, *QUICK, "--dry-run")
    assert ended.code == 0, ended.stderr
    assert "max_tokens: 45" in ended.stdout
    assert (
        "the model's context of 64 tokens leaves no more than 45 for a text, instead of the default 256" in ended.stdout
    )
    ended = theodolite(
        "compare", "long.csv", "--model", folder, *QUICK, "--max-tokens", "32", "--format", "raw", "--dry-run"
    )
    assert "max_tokens: 32" in ended.stdout
    ended = theodolite("compare", "long.csv", "--model", folder, "--max-tokens", "0", "--dry-run")
    assert "max_tokens: Input should be greater than or equal to 1 (got 0)" in ended.stderr
