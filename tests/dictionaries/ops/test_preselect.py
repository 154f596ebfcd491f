"""What is selected chunk by chunk, and through bfloat16 candidates, is what one float32 product would give."""

from collections.abc import Iterator

import pytest
import torch

from theodolite.dictionaries.ops import preselect, sparse
from theodolite.dictionaries.variants.batch_topk import BatchTopK
from theodolite.dictionaries.variants.matryoshka import Matryoshka
from theodolite.dictionaries.variants.topk import TopK

N, D, F, K = 150, 24, 700, 6


@pytest.fixture(params=[False, True], ids=["float32", "bfloat16"])
def product(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Both encoder products, whatever this processor has; chunks of 64 rows."""
    monkeypatch.setattr(preselect, "multiplies_bfloat16", lambda: request.param)
    monkeypatch.setattr(preselect, "CHUNK", 64 * F)
    return request.param


def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    W = torch.nn.functional.normalize(torch.randn(F, D, generator=g), dim=1)
    return torch.randn(N, D, generator=g), W, 0.1 * torch.randn(F, generator=g)


def dense(idx: torch.Tensor, val: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(idx), F).scatter_add(1, idx, val)


@pytest.mark.parametrize("signed", [False, True])
def test_top_k(product: bool, signed: bool) -> None:
    x, W, b = drawn()
    idx, val = sparse.top_k((x @ W.T + b).double(), K, signed=signed)
    found = dense(*preselect.top_k(x, W, b, K, signed=signed))
    torch.testing.assert_close(found, dense(idx, val.float()), rtol=1e-5, atol=1e-6)


def test_refined_values_are_float32s() -> None:
    """The candidates' own bfloat16 values would be off by 4e-3."""
    x, W, b = drawn()
    idx, val = preselect._refined_top_k(x, W, b, K, signed=False)
    exact = (x.double() @ W.double().T + b).gather(1, idx)
    assert float((val - exact).abs().max()) < 2e-6


def test_margin_zero_would_choose_others(monkeypatch: pytest.MonkeyPatch) -> None:
    x, W, b = drawn()
    expected = dense(*sparse.top_k(x @ W.T + b, K)) > 0
    for margin, same in ((preselect.MARGIN, True), (0, False)):
        monkeypatch.setattr(preselect, "MARGIN", margin)
        assert torch.equal(dense(*preselect._refined_top_k(x, W, b, K, signed=False)) > 0, expected) is same


@pytest.mark.parametrize("order", ["mixed", "rising"])
def test_batch_top_k(product: bool, order: str) -> None:
    """Also where the sampled rows misjudge the threshold: rows that grow, so that a few hold most latents."""
    x, W, b = drawn()
    if order == "rising":
        x = x * torch.logspace(-2, 1, N)[:, None]
    pre = x @ W.T + b
    kept = pre.flatten().topk(K * N).values[-1]
    codes = preselect.batch_top_k(x, W, b, K)
    row = torch.repeat_interleave(codes.starts.diff())
    found = torch.zeros(N, F).index_put((row, codes.latent), codes.value)
    torch.testing.assert_close(found, pre * (pre >= kept), rtol=1e-5, atol=1e-5)
    assert len(codes.value) == K * N


def test_a_level_set_too_high_costs_time_only(monkeypatch: pytest.MonkeyPatch, product: bool) -> None:
    x, W, b = drawn()
    expected = preselect.batch_top_k(x, W, b, K)
    levels = []
    counted = preselect._roughly_above
    monkeypatch.setattr(preselect, "_roughly_above", lambda *args: levels.append(float(args[3][0])) or counted(*args))
    monkeypatch.setattr(preselect, "_expected_level", lambda *args: 1e3)
    found = preselect.batch_top_k(x, W, b, K)
    assert torch.equal(found.latent, expected.latent)
    assert levels == [1e3, 250.0, 0.0]


def test_fewer_positive_ones_than_wanted(product: bool) -> None:
    x, W, _ = drawn()
    codes = preselect.batch_top_k(x, W, torch.full((F,), -3.9), K)
    pre = x @ W.T - 3.9
    assert 0 < int((pre > 0).sum()) < K * N
    assert len(codes.value) == int((codes.value > 0).sum()) == int((pre > 0).sum())


def test_equal_values_fill_the_batch_and_no_more() -> None:
    for dtype in (torch.float32, torch.float64):
        codes = preselect.batch_top_k(
            torch.ones(4, 3, dtype=dtype), torch.eye(3, dtype=dtype).repeat(5, 1), torch.zeros(15, dtype=dtype), 2
        )
        assert codes.value.tolist() == [1.0] * 8
        assert codes.starts[-1] == 8


class Dense:
    """TopK or BatchTopK by autograd over dense tensors, torch's clipping and Adam: the reference."""

    def __init__(self, start: TopK, prefixes: tuple[int, ...] = ()) -> None:
        self.w = {name: t.clone().requires_grad_() for name, t in start.parameters_.items()}
        self.optimizer = torch.optim.Adam(self.w.values(), lr=start.peak, betas=start.betas, eps=6.25e-10)
        self.start, self.prefixes = start, prefixes or (start.width,)

    def step(self, raw: torch.Tensor) -> float:
        w, x = self.w, raw * self.start.scale_
        pre = ((x - w["b_dec"]) @ w["W_enc"].T + w["b_enc"]).relu()
        if isinstance(self.start, BatchTopK):
            z = pre * (pre >= pre.flatten().topk(self.start.k * len(x)).values[-1])
        else:
            z = pre * (pre >= pre.topk(self.start.k, dim=1).values[:, -1:])
        variance = (x - x.mean(0)).square().sum()
        errors = [x - z[:, :m] @ w["W_dec"][:m] - w["b_dec"] for m in self.prefixes]
        losses = [e.square().sum() / variance for e in errors]
        self.optimizer.zero_grad()
        (sum(losses) / len(losses)).backward()
        with torch.no_grad():
            rows = w["W_dec"]
            rows.grad -= (rows.grad * rows).sum(1, keepdim=True) * rows
            torch.nn.utils.clip_grad_norm_(list(w.values()), self.start.clip)
            self.optimizer.step()
            rows /= rows.norm(dim=1, keepdim=True)
        return float(losses[-1].detach())


@pytest.mark.parametrize("cls", [TopK, BatchTopK, Matryoshka])
def test_200_steps_follow_the_dense_reference(product: bool, cls: type[TopK]) -> None:
    """The loss within 1e-3 over 200 steps, and the FVU on new rows to three digits.

    Where rounding never decides which of two latents is active, as here, it is within 1e-6. Where it does, two float32
    runs of any kind part by up to 4e-3 at this size: a latent that fires for the first time moves by Adam's full step,
    whatever its gradient. Hence the mean over steps, which a processor that rounds in another way must keep as well.
    """
    d, f = 64, 256
    g = torch.Generator().manual_seed(0)
    atoms, shape = torch.nn.functional.normalize(torch.randn(200, d, generator=g), dim=1), (2048, 200)
    x = torch.where(torch.rand(shape, generator=g) < 0.03, 1 + torch.rand(shape, generator=g), 0.0) @ atoms
    fitted = cls(d, f, k=K, lr=1e-3, dead_after=10**9)
    fitted.start(x[:512])
    reference = Dense(fitted, tuple(fitted._nested() or ()) if isinstance(fitted, BatchTopK) else ())
    first, off = float(fitted._step(x[:512] * fitted.scale_).losses["fvu"]), []
    for i in range(200):
        rows = x[:1792].roll(i * 256, 0)[:256]
        off.append(abs(float(fitted.partial_fit(rows)["fvu"]) / reference.step(rows) - 1))
    assert max(off[:20]) < 1e-5
    assert sum(off) / len(off) < 1e-3
    new = x[1792:] * fitted.scale_
    found = float(fitted._step(new).losses["fvu"])
    fitted.parameters_ = {name: t.detach() for name, t in reference.w.items()}
    assert found == pytest.approx(float(fitted._step(new).losses["fvu"]), abs=5e-4)
    assert found < 0.9 * first  # something was learnt on the way


def test_what_is_positive_only_in_bfloat16_is_left_out(product: bool) -> None:
    x, W, b = drawn()
    codes = preselect.batch_top_k(x, W, b, F)
    assert 0 < float(codes.value.min()) < 1e-2
    assert len(codes.value) == pytest.approx(int((x @ W.T + b > 0).sum()), rel=1e-2)
