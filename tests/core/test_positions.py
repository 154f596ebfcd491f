"""Positions: words, slices and unions against roles; pooling against loops."""

import numpy as np
import pytest
from scipy import sparse

from theodolite.core.errors import UserError
from theodolite.core.positions import POOLINGS, Positions, pool, pooled_over

# two padding, BOS-like special, two prefix, three content, one suffix, two generated
ROW = [0, 0, 1, 2, 2, 3, 3, 3, 4, 6, 6]


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("all", [2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ("prompt", [2, 3, 4, 5, 6, 7, 8]),
        ("special", [2]),
        ("prefix", [3, 4]),
        ("content", [5, 6, 7]),
        ("suffix", [8]),
        ("generated", [9, 10]),
        ("first", []),
        ("last", [8]),
        ("last+generated", [8, 9, 10]),
        ("content[0]", [5]),
        ("content[-1]", [7]),
        ("content[-2]", [6]),
        ("content[1:]", [6, 7]),
        ("content[:-1]", [5, 6]),
        ("content[-2:]", [6, 7]),
        ("content[:2] + suffix", [5, 6, 8]),
        ("content[-9:]", [5, 6, 7]),
        ("content[9]", []),
        ("all[1:3]", [3, 4]),
    ],
)
def test_words_and_slices(text: str, selected: list[int]) -> None:
    mask = Positions.parse(text).mask(np.array([ROW], np.int8))
    assert np.flatnonzero(mask[0]).tolist() == selected


def test_each_row_is_sliced_by_itself_and_padding_side_does_not_matter() -> None:
    roles = np.array([[3, 3, 4, 0, 0], [0, 0, 3, 3, 4], [3, 3, 3, 3, 4]], np.int8)
    mask = Positions.parse("content[1]+last").mask(roles)
    assert mask.astype(int).tolist() == [[0, 1, 1, 0, 0], [0, 0, 0, 1, 1], [0, 1, 0, 0, 1]]


WORDS = ("all", "prompt", "last", "content", "content[0]", "suffix", "special", "first", "generated", "all[:-2]")


@pytest.mark.parametrize("one", WORDS)
@pytest.mark.parametrize("other", WORDS)
def test_a_sum_selects_what_either_term_selects(one: str, other: str) -> None:
    """Terms may overlap (`last+content` in a raw text): a token that both select stays selected."""
    roles = np.random.default_rng(0).integers(0, 7, (40, 9)).astype(np.int8)
    mask = {text: Positions.parse(text).mask(roles) for text in (one, other, f"{one}+{other}", f"{one}+{other}+{one}")}
    union = mask[one] | mask[other]
    np.testing.assert_array_equal(mask[f"{one}+{other}"], union)
    np.testing.assert_array_equal(mask[f"{one}+{other}+{one}"], union)


def test_the_last_token_of_a_raw_text_is_content_too() -> None:
    mask = Positions.parse("last+content").mask(np.array([[5, 3, 3, 0]], np.int8))
    assert mask.tolist() == [[False, True, True, False]]


@pytest.mark.parametrize("text", ["contents", "content[]", "content[1", "content[1:2:3]", "content[-1-2]", "", "a+"])
def test_what_are_no_positions_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        Positions.parse(text)


def test_text_form_round_trips() -> None:
    for text in ("content", "last+generated", "suffix[-2:]"):
        assert Positions.parse(str(Positions.parse(text))) == Positions.parse(text)


@pytest.mark.parametrize("how", POOLINGS)
def test_pooling_equals_a_loop_dense_and_sparse(how: str) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 7)).astype(np.float32) * (rng.random((30, 7)) < 0.3)
    rows[:, 6] = 0
    rows[10:14, 0] = -1.0  # a column that is negative in every row of one document: its maximum is not 0
    doc = np.repeat([3, 5, 8, 9], [1, 9, 4, 16])
    reduce = {"mean": lambda x: x.mean(0), "max": lambda x: x.max(0), "last": lambda x: x[-1]}[how]
    expected = np.stack([reduce(rows[doc == d]) for d in (3, 5, 8, 9)])
    np.testing.assert_allclose(pool(rows, doc, how), expected, atol=1e-6)
    np.testing.assert_allclose(pool(sparse.csr_matrix(rows), doc, how).toarray(), expected, atol=1e-6)


def test_sparse_rows_without_entries_pool_to_nothing() -> None:
    for how in POOLINGS:
        pooled = pool(sparse.csr_matrix((4, 3), dtype=np.float32), np.array([0, 0, 1, 1]), how)
        assert pooled.toarray().tolist() == [[0.0] * 3] * 2


def test_an_unknown_pooling_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="did you mean 'mean'"):
        pool(np.ones((1, 1)), np.array([0]), "means")


def test_an_index_of_last_says_what_to_write_instead() -> None:
    with pytest.raises(UserError, match=r"'last' in 'last\[0\]' is one token .*'prompt\[-2:\]'"):
        Positions.parse("last[0]")


def test_pooling_last_goes_over_the_last_token_of_all() -> None:
    roles = np.array([ROW, [3, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0]], np.int8)
    last = pooled_over(Positions("content"), "last").mask(roles)
    assert [np.flatnonzero(row).tolist() for row in last] == [[10], [2]]
    assert pooled_over(Positions("content"), "mean") == Positions("content")
