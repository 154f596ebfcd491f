"""Every kernel against torch in float64, at sizes that are no multiple of anything; ties, empty rows, NaN, threads."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from theodolite.dictionaries.ops import kernels, sparse
from theodolite.dictionaries.ops.codes import Codes
from theodolite.dictionaries.training import adam


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("width", [1, 5, 511, 512, 513, 1500, 5000])
@pytest.mark.parametrize("k", [1, 3, 32, 300])
def test_top_k_is_torchs(width: int, k: int) -> None:
    pre, k = drawn(20, width), min(k, width)
    idx, val = sparse.top_k(pre, k)
    expected = pre.topk(k, dim=1).values.relu()
    assert torch.equal(val.sort(dim=1, descending=True).values, expected)
    assert torch.equal(pre.gather(1, idx)[val > 0], val[val > 0])
    dense = torch.zeros_like(pre).scatter_add(1, idx, val)
    assert torch.equal((dense > 0).sum(1), (val > 0).sum(1)), "a latent was chosen twice"


def test_top_k_of_ties_and_of_one_block() -> None:
    """All equal, many equal in few values, and all large ones in one strided block, where maxima say little."""
    equal, few = torch.ones(3, 2000), drawn(3, 2000).round()
    block = torch.full((3, 2048), 0.5)
    block[:, 7::512] = torch.tensor([4.0, 3.0, 2.0, 1.0])
    for pre in (equal, few, block):
        for k in (1, 3, 40, 700):
            _, val = sparse.top_k(pre, k)
            assert torch.equal(val.sort(dim=1, descending=True).values, pre.topk(k, dim=1).values.relu())


def test_top_k_of_rows_without_enough_positive_ones() -> None:
    pre = -drawn(4, 900).abs()
    pre[1, 5] = 2.0
    idx, val = sparse.top_k(pre, 3)
    assert val.sum(1).tolist() == [0.0, 2.0, 0.0, 0.0]
    assert idx[1, val[1].argmax()] == 5


@pytest.mark.parametrize("nan", [torch.nan, -torch.nan])
def test_nan_is_not_hidden(nan: float) -> None:
    pre = drawn(3, 900)
    pre[1, 700] = nan
    _, val = sparse.top_k(pre, 4)
    assert val.isnan().any(1).tolist() == [False, True, False]
    starts, _, value = kernels.run(kernels.above, pre, torch.full((900,), 2.0))
    assert np.isnan(value[starts[1] : starts[2]]).sum() == 1


@pytest.mark.parametrize("width", [1, 40, 512, 1300])
def test_above_is_torchs(width: int) -> None:
    pre, level = drawn(9, width), 1 + 0.3 * drawn(width, seed=1)
    pre[4] = -9.0
    starts, latent, value = map(torch.from_numpy, kernels.run(kernels.above, pre, level))
    found = torch.zeros_like(pre)
    row = torch.repeat_interleave(starts.diff())
    found[row, latent] = value
    assert torch.equal(found, pre * (pre > level))
    assert len(latent) == int((pre > level).sum())


def random_codes(n: int, width: int, *, empty: float = 0.3) -> Codes:
    """Rows of 0 to 5 slots, some of them empty; row 1 has none."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 6, n)
    counts[1] = 0
    latent = np.concatenate([rng.choice(width, c, replace=False) for c in counts]).astype(np.int64)
    value = rng.normal(size=len(latent)) * (rng.random(len(latent)) > empty)
    starts = torch.from_numpy(np.concatenate([[0], counts.cumsum()]))
    return Codes(starts, torch.from_numpy(latent), torch.from_numpy(value).float(), width)


def in_double(codes: Codes) -> Codes:
    return Codes(codes.starts, codes.latent, codes.value.double(), codes.width)


@pytest.mark.parametrize("ends", [(60,), (7, 30, 60)])
def test_errors_and_gradients_are_torchs(ends: tuple[int, ...]) -> None:
    codes, x, W = random_codes(50, 60), drawn(50, 13), drawn(60, 13, seed=1)
    factor = -torch.arange(1.0, len(ends) + 1)
    found = codes.missed(x, W, ends, factor)
    expected = in_double(codes).missed(x.double(), W.double(), ends, factor.double())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)
    for train_encoder in (True, False):
        g = codes.weight_gradients(found, x, ends, train_encoder=train_encoder)
        wanted = in_double(codes).weight_gradients(expected, x.double(), ends, train_encoder=train_encoder)
        assert g.keys() == wanted.keys()
        for name in g:
            torch.testing.assert_close(g[name].double(), wanted[name], rtol=1e-5, atol=1e-5)


def test_products_are_torchs() -> None:
    codes, x, W = random_codes(50, 60), drawn(50, 13), drawn(60, 13, seed=1)
    args = (codes.starts, codes.latent)
    z = torch.zeros(50, 60)
    z[torch.repeat_interleave(codes.starts.diff()), codes.latent] = codes.value
    torch.testing.assert_close(sparse.decode_flat(*args, codes.value, W), z @ W)
    dots = sparse.row_dots_flat(*args, x, W)
    torch.testing.assert_close(dots, (x @ W.T)[torch.repeat_interleave(codes.starts.diff()), codes.latent])
    torch.testing.assert_close(sparse.sum_by_latent(codes.by_latent, codes.value, x), z.T @ x)
    torch.testing.assert_close(sparse.decode_flat(*args, codes.value, W.T.contiguous().T), z @ W)  # strides


def test_the_number_of_threads_changes_no_bit() -> None:
    codes, x, W, pre = random_codes(200, 60), drawn(200, 13), drawn(60, 13, seed=1), drawn(200, 1000)

    def all_of_it() -> list[torch.Tensor]:
        missed = codes.missed(x, W, (30, 60), torch.tensor([-1.0, -2.0]))
        g = codes.weight_gradients(missed, x, (30, 60), train_encoder=True)
        norm, taken = adam.gradient_norm({"W": g["W_dec"]}, {"W": W})
        return [*sparse.top_k(pre, 5), *missed, *g.values(), torch.tensor(norm), *taken.values()]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = all_of_it()
        torch.set_num_threads(2)
        two = all_of_it()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a, b)


def test_where_autograd_follows_the_kernels_stay_out() -> None:
    pre = drawn(4, 30).requires_grad_()
    idx, val = sparse.top_k(pre, 3)
    sparse.decode(idx, val, drawn(30, 5)).sum().backward()
    assert pre.grad is not None
    assert int((pre.grad != 0).sum()) == 12
    with torch.no_grad():
        assert sparse.on_kernels(pre)


def test_numba_is_loaded_on_use_only() -> None:
    code = (
        "import sys, torch\n"
        "from theodolite.dictionaries.variants import topk, batch_topk, jumprelu\n"
        "from theodolite.dictionaries import opening\n"
        "assert 'numba' not in sys.modules\n"
        "topk.TopK(4, width=8, k=2).fit([torch.eye(4)])\n"
        "assert 'numba' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
