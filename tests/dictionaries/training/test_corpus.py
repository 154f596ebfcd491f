"""A corpus keeps documents whole across the split, drops what it must and counts it, and survives a file."""

import numpy as np
import pandas as pd
import pytest

from theodolite.core.errors import UserError
from theodolite.dictionaries.training import corpus
from theodolite.dictionaries.training.corpus import Corpus, CorpusRecipe, load, split_pieces

LONG = " ".join(f"Sentence number {i} of a long text." for i in range(60))


@pytest.fixture
def two_parts(tmp_path) -> CorpusRecipe:
    texts = [f"{i} {LONG}" for i in range(100)]
    pd.DataFrame({"text": [*texts, "short", texts[0].upper()]}).to_csv(tmp_path / "raw.csv", index=False)
    pd.DataFrame({"text": [f"How many rivers has country {i}?" for i in range(200)]}).to_csv(
        tmp_path / "chat.csv", index=False
    )
    part = lambda name, form, share: {  # noqa: E731
        "name": name,
        "format": form,
        "share": share,
        "sources": [{"source": name, "file": str(tmp_path / f"{name}.csv"), "field": "text"}],
    }
    return CorpusRecipe.model_validate(
        {"name": "two", "title": "two", "held_out": 0.2, "parts": [part("raw", "raw", 0.7), part("chat", "chat", 0.3)]}
    )


def test_load_cuts_splits_and_counts(two_parts: CorpusRecipe) -> None:
    made = load(two_parts)
    assert made.counts == {"too short": 1, "repeated": 1, "ends too short": 0}
    assert len({d.document for d in made.documents}) == 300
    raw = [d for d in made.documents if d.part == "raw"]
    assert max(len(d.text) for d in raw) <= two_parts.piece_chars
    assert len(raw) > 100
    sides = {}
    for d in made.documents:
        sides.setdefault(d.document, set()).add(d.held_out)
    assert all(len(side) == 1 for side in sides.values())
    held = sum(side == {True} for side in sides.values())
    assert 35 <= held <= 90
    assert not {d.document for d in made.of("raw", held_out=True)} & {
        d.document for d in made.of("raw", held_out=False)
    }


def test_adding_a_source_moves_no_document_across_the_split(two_parts: CorpusRecipe) -> None:
    alone = load(two_parts.model_copy(update={"parts": two_parts.parts[1:]}))
    both = {d.text: d.held_out for d in load(two_parts).documents}
    assert all(both[d.text] == d.held_out for d in alone.documents)


def test_near_duplicates_of_recipe_rows_leave(two_parts: CorpusRecipe) -> None:
    made = load(two_parts, near=lambda texts: np.array([text == "How many rivers has country 7?" for text in texts]))
    assert made.counts["near a recipe row"] == 1
    assert "How many rivers has country 7?" not in [d.text for d in made.documents]


def test_saved_corpus_opens_equal(two_parts: CorpusRecipe, tmp_path) -> None:
    made = load(two_parts)
    made.save(tmp_path / "c.jsonl.zst")
    opened = Corpus.open(tmp_path / "c.jsonl.zst")
    assert opened == made
    assert opened.digest() == made.digest()
    changed = Corpus(made.recipe, made.documents[1:], made.counts)
    assert changed.digest() != made.digest()


def test_a_saved_corpus_that_was_cut_is_refused(two_parts: CorpusRecipe, tmp_path) -> None:
    load(two_parts).save(tmp_path / "c.jsonl.zst")
    whole = (tmp_path / "c.jsonl.zst").read_bytes()
    (tmp_path / "c.jsonl.zst").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"c\.jsonl\.zst is cut"):
        Corpus.open(tmp_path / "c.jsonl.zst")


def test_pieces_keep_every_character_that_is_not_a_space() -> None:
    pieces = split_pieces(LONG + "x" * 3000, 200)
    assert "".join("".join(pieces).split()) == "".join((LONG + "x" * 3000).split())
    assert max(map(len, pieces)) <= 200


def test_shipped_recipes_are_valid_and_differ_only_in_shares() -> None:
    chat, plain = corpus.recipe("text-chat"), corpus.recipe("text-only")
    assert [p.sources for p in chat.parts] == [p.sources for p in plain.parts]
    assert {p.name: p.share for p in chat.parts} == {"chat": 0.25, "text": 0.75}
    assert {p.name: p.share for p in plain.parts} == {"chat": 0.0, "text": 1.0}


def test_unknown_recipes_are_named(tmp_path) -> None:
    with pytest.raises(UserError, match="did you mean 'text-chat'"):
        corpus.recipe("text-chatt")
    with pytest.raises(UserError, match="no corpus recipe file"):
        corpus.recipe(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("name: x\nsize: 3\n")
    with pytest.raises(
        UserError, match=r"bad\.yaml': title: Field required; parts: Field required; size: .*\(got 3\)$"
    ):
        corpus.recipe(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_text("name: [")
    with pytest.raises(UserError, match=r"bad\.yaml' is not YAML"):
        corpus.recipe(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_text("")
    with pytest.raises(UserError, match=r"bad\.yaml': Input should be a valid dictionary"):
        corpus.recipe(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_bytes("name: café".encode("latin-1"))
    with pytest.raises(UserError, match=r"bad\.yaml' is not UTF-8"):
        corpus.recipe(tmp_path / "bad.yaml")
