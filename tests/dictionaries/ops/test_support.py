"""The two representations of a batch's entries give the products of the dense matrix."""

import pytest
import torch

from theodolite.dictionaries.ops import preselect, support

N, D, F = 40, 7, 23


def planted(
    monkeypatch: pytest.MonkeyPatch, share: float, dtype: torch.dtype = torch.float64
) -> tuple[support.Support, dict[str, torch.Tensor]]:
    g = torch.Generator().manual_seed(0)
    t = {n: torch.randn(*s, generator=g, dtype=dtype) for n, s in {"x": (N, D), "W": (F, D), "b": (F,)}.items()}
    monkeypatch.setattr(support, "DENSE", share)
    monkeypatch.setattr(preselect, "CHUNK", 11 * F)  # chunks of 11 rows, the last of 7
    t["low"] = torch.linspace(-1, 4, F, dtype=dtype)
    t["pre"] = t["x"] @ t["W"].T + t["b"]
    return support.entries_above(t["x"], t["W"], t["b"], t["low"]), t


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["torch", "kernels"])
@pytest.mark.parametrize(("share", "kind"), [(1.0, support.Sparse), (0.0, support.Dense)])
def test_products_are_those_of_the_dense_matrix(
    monkeypatch: pytest.MonkeyPatch, share: float, kind: type, dtype: torch.dtype
) -> None:
    found, t = planted(monkeypatch, share, dtype)
    assert isinstance(found, kind)
    kept = t["pre"] > t["low"]
    entries = (lambda m: m[kept]) if kind is support.Sparse else (lambda m: m)
    z = torch.where(kept, t["pre"], 0)
    torch.testing.assert_close(found.pre, entries(t["pre"]))
    torch.testing.assert_close(found.of(t["b"]).expand_as(found.pre), entries(t["b"].expand(N, F)))
    torch.testing.assert_close(found.decode(entries(z), t["W"]), z @ t["W"])
    torch.testing.assert_close(found.dots(t["x"], t["W"]), entries(t["x"] @ t["W"].T))
    torch.testing.assert_close(found.by_latent(entries(z), t["x"]), z.T @ t["x"])
    torch.testing.assert_close(found.per_latent(entries(z)), z.sum(0))
    assert torch.equal(found.fired(entries(z) > 4), (z > 4).any(0))
    assert 0 < int((z > 4).any(0).sum()) < int(kept.any(0).sum())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["torch", "kernels"])
def test_no_entry_at_all_gives_zeros(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    _, t = planted(monkeypatch, 1.0, dtype)
    found = support.entries_above(t["x"], t["W"], t["b"], torch.full((F,), torch.inf, dtype=dtype))
    assert found.pre.shape == (0,)
    assert found.decode(found.pre, t["W"]).shape == (N, D)
    assert not found.by_latent(found.pre, t["x"]).any()
    assert not found.per_latent(found.pre).any()
    assert found.dots(t["x"], t["W"]).shape == (0,)
    assert not found.fired(found.pre > 0).any()


@pytest.mark.parametrize(("share", "kind"), [(0.6, support.Sparse), (0.2, support.Dense)])
def test_many_entries_in_a_later_chunk_make_all_dense(
    monkeypatch: pytest.MonkeyPatch, share: float, kind: type
) -> None:
    """30 rows without an entry, then 10 with about half of them."""
    _, t = planted(monkeypatch, share)
    rows = torch.cat([t["x"][:30] * 0, t["x"][30:]])
    zeros = torch.zeros_like(t["b"])
    found = support.entries_above(rows, t["W"], zeros, zeros)
    assert isinstance(found, kind)
    pre = rows @ t["W"].T
    torch.testing.assert_close(found.pre, pre if kind is support.Dense else pre[pre > 0])
