"""BatchTopK: the batch's largest, their gradients, the threshold that a row alone is judged by."""

import numpy as np
import pytest
import torch

from theodolite.core.errors import UserError
from theodolite.dictionaries.activations import JumpReluRule
from theodolite.dictionaries.variants.batch_topk import MEMORY, BatchTopK

D, F, K, N = 7, 23, 3, 40


def started(dtype: torch.dtype = torch.float64) -> tuple[BatchTopK, torch.Tensor]:
    """A dictionary with random parameters, and scaled rows."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(N, D, generator=g, dtype=dtype)
    fitted = BatchTopK(D, F, k=K)
    fitted.start(x)
    fitted.parameters_ = {
        name: t.to(dtype) + 0.3 * torch.randn(t.shape, generator=g, dtype=dtype)
        for name, t in fitted.parameters_.items()
    }
    return fitted, x


def reference(w: dict[str, torch.Tensor], x: torch.Tensor, dead: torch.Tensor, alpha: float) -> torch.Tensor:
    """The published loss with dense tensors, for autograd."""
    pre = (x - w["b_dec"]) @ w["W_enc"].T + w["b_enc"]
    kept = pre.relu()
    lowest = kept.flatten().topk(K * len(x)).values[-1]
    z = kept * (kept >= lowest)
    error = x - z @ w["W_dec"] - w["b_dec"]
    loss = error.square().sum() / (x - x.mean(0)).square().sum()
    e, k_aux = error.detach(), D // 2
    val, idx = pre.masked_fill(~dead, -torch.inf).topk(min(k_aux, int(dead.sum())), dim=1)
    e_hat = torch.zeros_like(pre).scatter(1, idx, val.relu()) @ w["W_dec"]
    share = min(int(dead.sum()) / k_aux, 1)
    return loss + alpha * share * (e - e_hat).square().sum() / (e - e.mean(0)).square().sum()


@pytest.mark.parametrize("n_dead", [1, 9])
def test_gradients_are_those_of_autograd(n_dead: int) -> None:
    fitted, x = started()
    fitted.unused_for_[:n_dead] = fitted.dead_after
    done = fitted._step(x)
    w = {name: t.clone().requires_grad_() for name, t in fitted.parameters_.items()}
    loss = reference(w, x, torch.arange(F) < n_dead, fitted.aux)
    for name, expected in zip(w, torch.autograd.grad(loss, list(w.values())), strict=True):
        torch.testing.assert_close(done.gradients[name], expected, rtol=1e-9, atol=1e-12)
    assert float(done.l0) == pytest.approx(K)


def test_rows_share_their_latents_as_they_need_them() -> None:
    """Latents are the coordinates; a row ten times as large takes both of the places that two rows have."""
    fitted = BatchTopK(2, 2, k=1)
    fitted.start(torch.eye(2) * 3)
    eye, zero = torch.eye(2), torch.zeros(2)
    fitted.parameters_ = {"W_enc": eye, "b_enc": zero, "W_dec": eye.clone(), "b_dec": zero.clone()}
    done = fitted._step(torch.tensor([[10.0, 9.0], [1.0, 2.0]]))
    assert done.fired.tolist() == [True, True]
    assert float(done.losses["fvu"]) == pytest.approx((1 + 4) / (2 * 4.5**2 + 2 * 3.5**2))


def test_the_threshold_is_the_running_mean_of_the_smallest_latent_kept() -> None:
    fitted, x = started(torch.float32)
    expected: list[float] = []
    for _ in range(4):
        w = fitted.parameters_
        pre = ((x * fitted.scale_) - w["b_dec"]) @ w["W_enc"].T + w["b_enc"]
        smallest = float(pre.flatten().topk(K * N).values[-1])
        expected.append(smallest if not expected else expected[-1] + MEMORY * (smallest - expected[-1]))
        fitted.partial_fit(x)
        assert float(fitted.buffers_["threshold"]) == pytest.approx(expected[-1], rel=1e-5)
    rule = fitted.dictionary().activation
    assert isinstance(rule, JumpReluRule)
    assert rule.threshold.unique().numel() == 1
    assert float(rule.threshold[0]) * fitted.scale_ == pytest.approx(expected[-1], rel=1e-5)


def test_a_row_alone_is_active_where_it_would_be_in_a_batch() -> None:
    rows = torch.randn(1024, 12, generator=torch.Generator().manual_seed(1))
    fitted = BatchTopK(12, 32, k=4, lr=3e-3, steps=400).fit([rows] * 400)
    assert float((fitted.encode(rows) > 0).sum(1).double().mean()) == pytest.approx(4, rel=0.05)


def test_nan_leaves_the_threshold_as_it_was() -> None:
    fitted, x = started(torch.float32)
    fitted.partial_fit(x)
    before = float(fitted.buffers_["threshold"])
    bad = x.clone()
    bad[0, 0] = torch.nan
    with pytest.raises(UserError, match="NaN"):
        fitted.partial_fit(bad)
    assert float(fitted.buffers_["threshold"]) == before


def test_going_on_from_a_state_is_bit_equal() -> None:
    rng = np.random.default_rng(0)
    batches = [torch.tensor(rng.normal(size=(64, D)), dtype=torch.float32) for _ in range(12)]
    how = {"k": K, "lr": 1e-2, "steps": 12, "dead_after": 200}
    whole = BatchTopK(D, F, **how).fit(batches)
    half = {name: t.clone() for name, t in BatchTopK(D, F, **how).fit(batches[:6]).state().items()}
    resumed = BatchTopK(D, F, **how).load_state(half).fit(batches[6:])
    for name, expected in whole.state().items():
        assert torch.equal(resumed.state()[name], expected), name
