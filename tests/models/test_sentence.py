"""Sentence embeddings count the texts of which they see only a part."""

from pathlib import Path

import pytest

from theodolite.models import sentence
from theodolite.toys.tiny_models import byte_tokenizer


def test_texts_that_are_cut_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr(sentence, "_folder", lambda: tmp_path)
    at_limit = len(tokenizer("abcdef")["input_ids"])
    texts = ["abc", "abcdef", "abcdefg", "abcdefg" * 100]
    assert sentence.truncated(texts, max_tokens=at_limit) == 2
    assert sentence.truncated(texts) == 1
    assert sentence.truncated([]) == 0
