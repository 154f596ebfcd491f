"""Which rows a dictionary sees, in which order, and that a stopped stream goes on as if it had not stopped."""

import torch

from theodolite.dictionaries.training.corpus import Corpus, Document
from theodolite.dictionaries.training.stream import LAST, PROMPT, TEMPLATE, TEXT, Stream, harvest_rows

SITE = "blocks.0.resid_post"


def stream(model, corpus: Corpus, **how: object) -> Stream:
    return Stream(model, [SITE], corpus, **({"seed": 0, "block_rows": 500} | how))


def test_rows_leave_out_sinks_special_tokens_and_the_template_prefix(word_model) -> None:
    documents = [Document("a b c", "text", "raw", "s", 0, False), Document("d e", "chat", "chat", "s", 1, False)]
    rows = harvest_rows(word_model, [SITE], documents, 256)
    by_document = {i: rows.domain[rows.document == i].tolist() for i in (0, 1)}
    assert by_document == {0: [TEXT, TEXT], 1: [PROMPT, PROMPT, LAST]}  # END is special although it is in the suffix
    tokens = word_model.tokens(["d e"], format="chat", max_tokens=256)
    x = word_model.run(tokens, capture=(SITE,))[SITE][0]
    assert torch.equal(rows.at[SITE][rows.document == 1], x[[2, 3, 5]])


def test_order_of_documents_changes_no_row(word_model, word_corpus) -> None:
    documents = word_corpus.documents[:40]
    whole = harvest_rows(word_model, [SITE], documents, 256)
    turned = harvest_rows(word_model, [SITE], documents[::-1], 256)
    for i in range(40):
        torch.testing.assert_close(whole.at[SITE][whole.document == i], turned.at[SITE][turned.document == 39 - i])


def test_a_raw_text_of_one_token_gives_no_row(word_model) -> None:
    documents = [Document(text, "text", "raw", "s", i, False) for i, text in enumerate(["a", "b c", "d"])]
    assert harvest_rows(word_model, [SITE], documents, 256).document.tolist() == [1]


def test_parts_come_at_their_shares_and_no_held_out_document_does(word_model, word_corpus) -> None:
    s = stream(word_model, word_corpus)
    for _ in range(12):
        s.block()
    rows = s.cursor.rows
    assert abs(rows["chat"] / sum(rows.values()) - 0.25) < 0.03
    chosen = {d.document for _ in range(20) for d in s._choose()}
    assert not chosen & {d.document for d in word_corpus.documents if d.held_out}
    assert s.passes()["chat"] > 1


def test_every_pass_takes_every_document_once_in_a_new_order(word_model, word_corpus) -> None:
    s = stream(word_model, word_corpus)
    n = len(s.parts["chat"])
    first, second = ([s._document("chat", turn * n + i).document for i in range(n)] for turn in (0, 1))
    assert sorted(first) == sorted(second) == sorted(d.document for d in s.parts["chat"])
    assert first != second


def test_a_stopped_stream_goes_on_with_the_same_rows(word_model, word_corpus) -> None:
    whole = stream(word_model, word_corpus)
    blocks = [whole.block() for _ in range(5)]
    half = stream(word_model, word_corpus)
    for _ in range(3):
        half.block()
    resumed = stream(word_model, word_corpus)
    resumed.load_state(half.state())
    for expected in blocks[3:]:
        got = resumed.block()
        assert torch.equal(got.at[SITE], expected.at[SITE])
        assert torch.equal(got.document, expected.document)
    assert not torch.equal(stream(word_model, word_corpus, seed=1).block().at[SITE][:9], blocks[0].at[SITE][:9])


def test_rows_far_above_the_median_norm_leave_at_all_sites_and_are_counted(word_model, word_corpus) -> None:
    rare = word_model.vectors
    rare[17] *= 1000
    s = Stream(word_model, [SITE, "blocks.1.resid_post"], word_corpus, 0, 500)
    block = s.block()
    assert s.cursor.outliers > 0
    norms = block.at[SITE].norm(dim=1)
    assert norms.max() <= 10 * norms.median() * 1.01
    assert len(block.at[SITE]) == len(block.at["blocks.1.resid_post"]) == len(block.domain)


def test_template_rows_have_their_own_domain(word_model) -> None:
    word_model.tokenizer.all_special_ids.clear()
    documents = [Document("d e", "chat", "chat", "s", 0, False)]
    try:
        rows = harvest_rows(word_model, [SITE], documents, 256)
    finally:
        word_model.tokenizer.all_special_ids.extend([1, 2])
    assert rows.domain.tolist() == [PROMPT, PROMPT, TEMPLATE, LAST]
