"""Rows from a store: which are trained on, in which order, and that a run needs no model for them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from theodolite.core.errors import UserError
from theodolite.dictionaries import native
from theodolite.dictionaries.training.stored import PART, StoredRows, StoredStream
from theodolite.dictionaries.training.stream import LAST, PROMPT, TEXT
from theodolite.dictionaries.training.train import train
from theodolite.store import Store

SITE, D, UNITS, TEXTS = "blocks.0.resid_post", 6, 10, 8  # texts of a unit
FIELDS = {"model": "words-1", "dtype": "torch.float32", "token_sites": [SITE], "form": 2}


def make_store(folder: Path, units: int = UNITS, per_text: int = 20) -> Store:
    """Rows whose first coordinate is their text's number over 100; the last one of a text is not selected."""
    store = Store.open(folder, FIELDS)
    for unit in range(units):
        doc = torch.arange(unit * TEXTS, (unit + 1) * TEXTS).repeat_interleave(per_text)
        x = torch.randn(len(doc), D, generator=torch.Generator().manual_seed(unit)) @ torch.diag(
            torch.arange(1.0, D + 1)
        )
        x[:, 0] = doc / 100
        selected = torch.ones(len(doc), dtype=torch.bool)
        selected[per_text - 1 :: per_text] = False
        tensors = {"doc": doc.unique(), "token_doc": doc, "token_selected": selected, f"tokens/{SITE}": x.bfloat16()}
        store.write(unit, tensors)
    return store


@pytest.fixture
def rows(tmp_path: Path) -> StoredRows:
    make_store(tmp_path / "store")
    return StoredRows.open(tmp_path / "store", "chat")


def test_domains_follow_from_what_the_positions_selected(rows: StoredRows) -> None:
    found = rows.read(0, [SITE], np.array([1, 3]))
    assert found.document.unique().tolist() == [1, 3]
    assert found.domain[:20].tolist() == [PROMPT] * 19 + [LAST]
    assert found.at[SITE].dtype == torch.float32
    assert StoredRows(rows.store, "raw").read(0, [SITE], np.array([1])).domain[0] == TEXT


def test_no_text_held_out_is_trained_on_and_every_pass_takes_each_row_once(rows: StoredRows) -> None:
    stream = StoredStream(rows, [SITE], 0, 150)
    train_on, kept_back = rows.texts(0)
    assert len(kept_back) == 2
    assert sorted([*train_on, *kept_back]) == list(range(UNITS * TEXTS))
    assert set(rows.held_out([SITE], 0).document.tolist()) == set(kept_back)
    seen = []
    while stream.passes()[PART] < 1:
        seen += stream.block().document.tolist()
    assert np.bincount(seen, minlength=80)[train_on].tolist() == [20] * 78
    assert not set(seen) & set(kept_back)
    assert stream.available() == {PART: 1600}


def test_a_stopped_stream_goes_on_with_the_same_rows(rows: StoredRows) -> None:
    whole = StoredStream(rows, [SITE], 3, 200)
    blocks = [whole.block() for _ in range(8)]
    half = StoredStream(rows, [SITE], 3, 200)
    for _ in range(3):
        half.block()
    resumed = StoredStream(rows, [SITE], 3, 200)
    resumed.load_state(half.state())
    for expected in blocks[3:]:
        assert torch.equal(resumed.block().at[SITE], expected.at[SITE])
    assert not torch.equal(StoredStream(rows, [SITE], 4, 200).block().document, blocks[0].document)


def test_dictionaries_are_trained_without_a_model(rows: StoredRows, tmp_path: Path) -> None:
    plan = {"saes": ["topk(k=2, lr=1e-2, width=12)"], "tokens": 6000, "batch": 100, "block_rows": 500}
    made = train(None, [SITE], rows, tmp_path / "out", **plan)
    info = native.load(made[SITE]).info
    assert (info["model_hash"], info["card"]["cross_entropy"]) == ("words-1", None)
    assert info["card"]["domains"]["prompt content"]["fvu"]["value"] < 0.6
    assert info["training"]["passes"]["store"] > 3
    assert "Cross-entropy was not measured" in (made[SITE] / "card.md").read_text()


def test_other_rows_are_another_request(rows: StoredRows, tmp_path: Path) -> None:
    before = rows.digest()
    assert StoredRows(rows.store, "raw").digest() != before
    make_store(tmp_path / "store", UNITS + 1)
    assert rows.digest() != before


def test_what_is_no_store_of_token_rows_is_refused(rows: StoredRows, word_model, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no store of rows"):
        StoredRows.open(tmp_path)
    Store.open(tmp_path / "pooled", {"model": "m", "dtype": "d", "token_sites": []})
    with pytest.raises(UserError, match="holds no row per token: harvest with token_sites"):
        StoredRows.open(tmp_path / "pooled")
    with pytest.raises(UserError, match="unknown harvested site"):
        train(None, ["blocks.1.resid_post"], rows, tmp_path / "out")
    Store.open(tmp_path / "empty", FIELDS)
    with pytest.raises(UserError, match="holds no finished unit: run the harvest to its end"):
        train(None, [SITE], StoredRows.open(tmp_path / "empty"), tmp_path / "out")
    word_model.hash = "another"
    with pytest.raises(UserError, match="holds rows of another model than words"):
        train(word_model, [SITE], rows, tmp_path / "out")
    assert not (tmp_path / "out").exists()
