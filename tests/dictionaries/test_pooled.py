"""Latents are encoded per token and then pooled: three tokens by hand, and against the dense way on random rows."""

import itertools

import numpy as np
import pytest
import torch

from theodolite.core.errors import UserError
from theodolite.dictionaries.activations import ReluRule, TopKRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.pooled import pooled_latents

IDENTITY = Dictionary(torch.eye(2), torch.zeros(2), torch.eye(2), torch.zeros(2), ReluRule())
YES, NO = True, False  # whether the positions select a token


def test_pooling_by_hand() -> None:
    """Encoding after pooling would give (1, 0) for the mean of (3, -1) and (-1, 1); per token it is (1.5, .5)."""
    rows = [(np.array([0, 0, 0]), np.array([YES, YES, NO]), torch.tensor([[3.0, -1.0], [-1.0, 1.0], [7.0, 9.0]]))]
    mean = pooled_latents(IDENTITY, rows, 1, "mean")
    assert mean.latents.toarray().tolist() == [[1.5, 0.5]]
    assert mean.error.tolist() == [[-0.5, -0.5]]
    assert (mean.reconstruction + mean.error).tolist() == [[1.0, 0.0]]
    assert pooled_latents(IDENTITY, rows, 1, "max").latents.toarray().tolist() == [[3.0, 1.0]]
    assert pooled_latents(IDENTITY, rows, 1, "last").latents.toarray().tolist() == [[7.0, 9.0]]


@pytest.mark.parametrize("pooling", ["mean", "max", "last"])
def test_equals_the_dense_way_for_any_chunking_and_order_of_texts(pooling: str) -> None:
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    dictionary = Dictionary(draw(20, 5), draw(20), draw(20, 5), draw(5), TopKRule(3))
    x, text = draw(90, 5), np.repeat(np.arange(15), 6)
    selected = np.tile([YES] * 5 + [NO], 15)
    z, x_hat = dictionary.encode(x).numpy(), dictionary.reconstruct(x).numpy()
    expected = {"latents": [], "reconstruction": [], "error": []}
    for i in range(15):
        chosen = np.flatnonzero((text == i) & selected) if pooling != "last" else [i * 6 + 5]
        how = np.max if pooling == "max" else np.mean
        for name, rows in (("latents", z), ("reconstruction", x_hat), ("error", x.numpy() - x_hat)):
            expected[name].append(how(rows[chosen], axis=0))
    order = np.concatenate(
        [
            np.flatnonzero(np.isin(text, part))
            for part in ([7, 3, 11], [0, 14], [*range(1, 3), *range(4, 7), *range(8, 11), 12, 13])
        ]
    )
    cuts = [0, 18, 30, 90]
    chunks = [(text[order[a:b]], selected[order[a:b]], x[order[a:b]]) for a, b in itertools.pairwise(cuts)]
    got = pooled_latents(dictionary, chunks, 15, pooling, chunk=7)
    np.testing.assert_allclose(got.latents.toarray(), expected["latents"], atol=1e-5)
    np.testing.assert_allclose(got.reconstruction, expected["reconstruction"], atol=1e-5)
    np.testing.assert_allclose(got.error, expected["error"], atol=1e-5)
    encoded = selected if pooling != "last" else np.tile([NO] * 5 + [YES], 15)
    assert got.fvu == pytest.approx(dictionary.fvu(x[torch.from_numpy(encoded)]), rel=1e-5)


@pytest.mark.parametrize(("selected", "lost"), [([YES, NO], 1), ([NO, NO], 2)])
def test_a_text_without_a_selected_token_is_an_error_not_a_row_of_zeros(selected: list[bool], lost: int) -> None:
    rows = [(np.array([0, 1]), np.array(selected), torch.ones(2, 2))]
    with pytest.raises(AssertionError, match=f"{lost} texts have no token"):
        pooled_latents(IDENTITY, rows, 2, "mean")


def test_rounding_is_no_error_and_a_small_error_is_one() -> None:
    """A basis that misses nothing leaves float32 noise, which goes with the rows and so with their labels."""
    turn = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)))[0]
    exact = Dictionary(
        torch.cat([turn, -turn]), torch.zeros(128), torch.cat([turn, -turn]), torch.zeros(64), ReluRule()
    )
    x = torch.randn(50, 64, generator=torch.Generator().manual_seed(1))
    assert (exact.reconstruct(x) - x).abs().max() > 0
    rows = [(np.arange(50), np.ones(50, bool), x)]
    assert not pooled_latents(exact, rows, 50, "mean").error.any()
    assert pooled_latents(exact, rows, 50, "mean").fvu == 0
    near = Dictionary(**{**vars(exact), "W_dec": exact.W_dec * 0.9999})
    found = pooled_latents(near, rows, 50, "mean")
    assert found.error.any(axis=1).all()
    assert found.fvu == pytest.approx(1e-8, rel=0.05)


def test_a_dictionary_that_overflows_is_said_to() -> None:
    huge = Dictionary(1e25 * torch.eye(2), torch.zeros(2), 1e25 * torch.eye(2), torch.zeros(2), ReluRule())
    rows = [(np.arange(3), np.ones(3, bool), torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))]
    with pytest.raises(UserError, match="no finite reconstruction of 2 of 3 tokens whose states are finite"):
        pooled_latents(huge, rows, 3, "mean")


def test_memory_that_runs_out_halves_the_rows_and_changes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    d = Dictionary(torch.eye(6), torch.zeros(6), torch.eye(6), torch.zeros(6), TopKRule(2))
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    rows = [(np.repeat(np.arange(4), 10), np.ones(40, bool), x)]
    expected, sizes, notes = pooled_latents(d, rows, 4, "mean"), [], []
    true = Dictionary.code

    def code(self: Dictionary, x_nd: torch.Tensor) -> tuple:
        sizes.append(len(x_nd))
        if len(x_nd) > 12:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return true(self, x_nd)

    monkeypatch.setattr(Dictionary, "code", code)
    found = pooled_latents(d, rows, 4, "mean", chunk=32, note=lambda *note: notes.append(note))
    assert sizes == [32, 16, 8, 8, 8, 8, 8]
    assert (found.latents != expected.latents).nnz == 0
    assert found.fvu == expected.fvu
    np.testing.assert_array_equal(found.error, expected.error)
    assert len(notes) == 2
    monkeypatch.setattr(Dictionary, "code", lambda self, x_nd: torch.empty(2**60))
    with pytest.raises(UserError, match=r"out of memory at 1 rows .* choose --device cpu or a narrower dictionary"):
        pooled_latents(d, rows, 4, "mean", chunk=4)  # each halving collects garbage, half a second in a full process
