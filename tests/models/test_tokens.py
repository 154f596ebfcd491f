"""Tokens and their roles: a chat is tokenised as a whole, and every token knows what it is."""

from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from theodolite.core.errors import UserError
from theodolite.core.positions import Role
from theodolite.models.tokens import chat_template, common_prefix, encode, pad
from theodolite.toys.tiny_models import SPECIAL, byte_tokenizer

PREFIX, SUFFIX = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"


def merging_tokenizer() -> PreTrainedTokenizerFast:
    """The byte tokenizer with one merge, two newlines, so that a text's first newline joins the template's last."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    newline = "\u010a"  # how ByteLevel writes a newline
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *alphabet, newline * 2])}
    core = Tokenizer(models.BPE(vocabulary, [(newline, newline)]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    pad_token, start, end = SPECIAL
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token=pad_token, bos_token=start, eos_token=end)
    tokenizer.chat_template = byte_tokenizer().chat_template
    return tokenizer


def whole(tokenizer: Any, text: str) -> list[int]:
    """Ids of a rendering; between the template's control tokens, at which a tokenizer cuts, all is text."""
    begin, end, start = (tokenizer.convert_tokens_to_ids(t) for t in ("<|im_start|>", "<|im_end|>", "<|im_start|>"))
    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    plain.encode_special_tokens = True
    parts = ("user\n" + text, "\n", "assistant\n")
    middle, between, last = (plain.encode(part, add_special_tokens=False).ids for part in parts)
    return [begin, *middle, end, *between, start, *last]


def by_role(row: Any, role: Role, tokenizer: Any) -> str:
    return tokenizer.decode(row.ids[row.roles == role], clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("make", [byte_tokenizer, merging_tokenizer])
@pytest.mark.parametrize("text", ["hi", "alpha", "two words\n", " <|im_end|> x", "\u00e9\u4e16", "user", "\nuser\n"])
def test_a_chat_is_the_whole_rendering_cut_into_roles(make: Any, text: str) -> None:
    tokenizer = make()
    row = encode(tokenizer, [text])[0]
    assert row.ids.tolist() == whole(tokenizer, text)
    assert not row.truncated
    if make is byte_tokenizer:
        assert by_role(row, Role.PREFIX, tokenizer) == PREFIX
        assert by_role(row, Role.SUFFIX, tokenizer) == SUFFIX
        assert by_role(row, Role.CONTENT, tokenizer) == text


def test_a_token_that_merges_with_the_template_is_content() -> None:
    tokenizer = merging_tokenizer()
    plain, merged = encode(tokenizer, ["x", "\nx"])
    template = chat_template(tokenizer)
    assert plain.ids[: len(template.prefix)].tolist() == template.prefix
    assert merged.ids.tolist() == whole(tokenizer, "\nx")
    assert by_role(merged, Role.CONTENT, tokenizer) == "\n\nx"
    assert (merged.roles == Role.PREFIX).sum() == len(template.prefix) - 1


def test_a_long_text_is_cut_and_keeps_its_template() -> None:
    tokenizer = byte_tokenizer()
    exact, long = encode(tokenizer, ["abcd", "abcde"], max_tokens=4)
    assert (exact.truncated, long.truncated) == (False, True)
    assert exact.ids.tolist() == long.ids.tolist() == whole(tokenizer, "abcd")
    assert exact.roles.tolist() == long.roles.tolist()


def test_raw_texts_have_a_first_token_that_is_no_content_and_no_bos_is_added() -> None:
    row = encode(byte_tokenizer(), ["abc"], "raw")[0]
    assert row.ids.tolist() == byte_tokenizer()("abc", add_special_tokens=False)["input_ids"]
    assert row.roles.tolist() == [Role.FIRST, Role.CONTENT, Role.CONTENT]
    cut = encode(byte_tokenizer(), ["abcdef"], "raw", max_tokens=2)[0]
    assert (len(cut), cut.truncated) == (2, True)


def test_a_bos_is_special_and_takes_the_sink_from_the_text() -> None:
    tokenizer = byte_tokenizer()
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    row = encode(tokenizer, ["abc"], "raw", max_tokens=2)[0]
    assert row.roles.tolist() == [Role.SPECIAL, Role.CONTENT, Role.CONTENT]
    chat = encode(tokenizer, ["abc"])[0]
    assert chat.ids.tolist() == whole(tokenizer, "abc")  # the template has its own start: no second one


def test_padding_on_either_side_keeps_the_rows() -> None:
    rows = encode(byte_tokenizer(), ["ab", "abcd"])
    for side in ("left", "right"):
        tokens = pad(rows, 0, side)
        assert tokens.lengths.tolist() == [len(row) for row in rows]
        for i, row in enumerate(rows):
            assert tokens.ids[i][tokens.mask[i]].tolist() == row.ids.tolist()
            assert tokens.roles[i][tokens.mask[i]].tolist() == row.roles.tolist()
    assert pad(rows, 0, "left").mask[0].tolist() == [False] * 2 + [True] * len(rows[0])


def test_common_prefix_of_many_rows() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        rows = [rng.integers(0, 2, rng.integers(1, 6)).tolist() for _ in range(rng.integers(1, 5))]
        shortest = min(map(len, rows))
        expected = next((i for i in range(shortest) if len({row[i] for row in rows}) > 1), shortest)
        assert common_prefix(rows) == expected


@pytest.mark.parametrize(
    ("texts", "form", "most", "message"),
    [
        (["a", 3], "chat", 9, "text 1 is int"),
        ([], "chat", 9, "no texts"),
        (["a"], "chat", 0, "max_tokens=0"),
        (["a"], "chats", 9, "did you mean 'chat'"),
    ],
)
def test_bad_input_is_refused(texts: list, form: Any, most: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        encode(byte_tokenizer(), texts, form, most)


def test_a_model_without_a_template_cannot_chat() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="format='raw'"):
        encode(tokenizer, ["a"])
    assert len(encode(tokenizer, ["a"], "raw")[0]) == 1


@pytest.mark.slow
def test_the_shipped_tokenizer() -> None:
    """eos, pad and BOS (defective in older GGUF conversions) and the roles of real renderings."""
    from theodolite.models.load import load

    tokenizer = load("smollm2-135m-instruct").tokenizer
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    assert tokenizer.pad_token_id is not None
    assert encode(tokenizer, ["Hello , world"], "raw")[0].ids[0] != 1
    assert tokenizer.decode(tokenizer("Hello , world")["input_ids"]) == "Hello , world"
    texts = [
        "How do I bake?",
        "\nleading newline",
        " space",
        "ends with newline\n\n",
        "1. list\n2. b",
        "\u4e16",
    ]
    rows = encode(tokenizer, texts)
    (closing,) = encode(tokenizer, ["<|im_end|>"])  # a user's text is text, and closes no turn
    assert by_role(closing, Role.CONTENT, tokenizer) == "<|im_end|>"
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") not in closing.ids[closing.roles == Role.CONTENT]
    for text, row in zip(texts, rows, strict=True):
        chat = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        assert row.ids.tolist() == list(chat)
    assert by_role(rows[0], Role.CONTENT, tokenizer) == texts[0]
    assert by_role(rows[0], Role.SUFFIX, tokenizer) == SUFFIX
    assert by_role(rows[0], Role.PREFIX, tokenizer).startswith("<|im_start|>system\nYou are a helpful AI assistant")
    assert (rows[0].roles == Role.PREFIX).sum() == 24
    assert torch.equal(pad(rows, 0).mask.sum(1), torch.tensor([len(row) for row in rows]))
