"""Codes by tiles are those of the whole: bit for bit where the arithmetic is exact, to rounding where it is not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from theodolite.dictionaries import activations
from theodolite.dictionaries.activations import Activation
from theodolite.dictionaries.dictionary import Dictionary, to_csr
from theodolite.dictionaries.ops import tiles

N, D, F, K = 57, 6, 203, 5
CELLS = 16 * 30  # of rows and latents: several blocks of both


def whole_numbers(*shape: int, seed: int, most: int) -> Tensor:
    return torch.randint(-most, most + 1, shape, generator=torch.Generator().manual_seed(seed)).float()


RULES: dict[str, Callable[[], Activation]] = {
    "topk": lambda: activations.TopKRule(K),
    "abs_topk": lambda: activations.AbsTopKRule(K),
    "standard": activations.ReluRule,
    "jumprelu": lambda: activations.JumpReluRule(whole_numbers(F, seed=3, most=900)),
    "gated": lambda: activations.GatedRule(whole_numbers(F, seed=4, most=3), whole_numbers(F, seed=5, most=9)),
    "identity": activations.IdentityRule,
    "nearest": activations.NearestRule,
    "sparsemax": activations.SparsemaxRule,
    "matching_pursuit": lambda: activations.MatchingPursuitRule(2),
    "fista": lambda: activations.FistaRule(0.1, 5),
    "nonnegative_fista": lambda: activations.NonnegativeFistaRule(0.1, 5),
}


def dictionary(rule: Activation, weights: Callable[..., Tensor] = whole_numbers, **how: Any) -> Dictionary:
    W = weights(F, D, seed=1, most=999)
    tied = rule.reads_decoder
    if tied:
        W = W / W.norm(dim=1, keepdim=True)
    b = torch.zeros(F) if tied else weights(F, seed=2, most=999)
    return Dictionary(W, b, W.clone(), torch.ones(D), rule, **how)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Say from when on tiles are so small that there are many."""

    def use() -> None:
        monkeypatch.setattr(tiles, "CELLS", CELLS)
        monkeypatch.setattr(tiles, "ROWS", 16)

    return use


def test_every_rule_is_here() -> None:
    from theodolite.dictionaries.native import RULES as known

    assert set(RULES) == set(known)


@pytest.mark.parametrize("name", RULES)
def test_tiles_give_the_codes_of_the_whole(name: str, small: Callable[[], None]) -> None:
    """Products of whole numbers below 2**24 are exact in any order, so the rules that only choose agree bit for bit."""
    d, x = dictionary(RULES[name]()), whole_numbers(N, D, seed=6, most=99)
    expected = to_csr(*d.encode_sparse(x), F).toarray()
    small()
    found = to_csr(*d.encode_sparse(x), F).toarray()
    if name in ("sparsemax", "matching_pursuit", "fista", "nonnegative_fista"):
        torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(expected), rtol=1e-4, atol=1e-3)
    else:
        assert (found == expected).all()


@pytest.mark.parametrize("how", [{}, {"subtract_b_dec": False}, {"normalise": "layer_norm"}, {"refit": True}])
def test_rows_are_treated_alike_in_tiles(how: dict[str, Any], small: Callable[[], None]) -> None:
    d = dictionary(
        activations.TopKRule(K), lambda *shape, seed, most: whole_numbers(*shape, seed=seed, most=most) / 9, **how
    )
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(0))
    expected, codes = d.reconstruct(x), to_csr(*d.encode_sparse(x), F).toarray()
    small()
    torch.testing.assert_close(d.reconstruct(x), expected, rtol=1e-4, atol=1e-3)
    assert ((to_csr(*d.encode_sparse(x), F).toarray() != 0) == (codes != 0)).all()


def test_no_product_is_larger_than_a_tile(small: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    true = torch.addmm
    monkeypatch.setattr(torch, "addmm", lambda *args, **how: _noted(sizes, true(*args, **how)))
    small()
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(0))
    for name in ("topk", "jumprelu", "sparsemax"):
        dictionary(RULES[name]()).encode_sparse(x)
    assert max(sizes) <= CELLS
    assert len(sizes) > 3 * N * F // CELLS


def _noted(sizes: list[int], product: Tensor) -> Tensor:
    sizes.append(product.numel())
    return product


def test_more_latents_wanted_than_a_tile_holds(small: Callable[[], None]) -> None:
    d, x = dictionary(activations.TopKRule(100)), whole_numbers(N, D, seed=6, most=99)
    expected = to_csr(*d.encode_sparse(x), F).toarray()
    small()
    assert (to_csr(*d.encode_sparse(x), F).toarray() == expected).all()


def test_rows_without_an_active_latent_and_no_rows(small: Callable[[], None]) -> None:
    small()
    d = dictionary(activations.JumpReluRule(torch.full((F,), 1e9)))
    idx, val = d.encode_sparse(torch.zeros(N, D))
    assert (idx.shape, int((val != 0).sum())) == ((N, 1), 0)
    assert d.encode_sparse(torch.zeros(0, D))[0].shape == (0, 1)


@pytest.mark.parametrize("name", ["topk", "jumprelu"])
def test_a_million_latents(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three numbers per latent, so that the whole product, 67 million numbers, can be the right answer."""
    width, rows = 2**20, 64
    rule = activations.TopKRule(8) if name == "topk" else activations.JumpReluRule(torch.full((width,), 4.5))
    W, x = (torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) for n in (width, rows))
    monkeypatch.setattr(tiles, "CELLS", 2**22)
    idx, val = Dictionary(W, torch.zeros(width), W, torch.zeros(3), rule, subtract_b_dec=False).encode_sparse(x)
    pre = x @ W.T
    torch.testing.assert_close(pre.gather(1, idx)[val != 0], val[val != 0])
    if name == "topk":
        torch.testing.assert_close(val.sort(1, descending=True).values, pre.topk(8).values)
    else:
        assert abs(int((val != 0).sum()) - int((pre > 4.5).sum())) <= 2  # one at the level may round to either side


def test_a_row_wider_than_a_tile_ends_for_a_rule_that_sees_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "CELLS", F // 2)
    idx, _ = dictionary(activations.SparsemaxRule()).encode_sparse(torch.zeros(3, D))
    assert len(idx) == 3
