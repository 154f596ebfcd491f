"""The random dictionary: its rows never change, its one factor and its bias do, by the right gradients."""

import pytest
import torch

from theodolite.core.errors import UserError
from theodolite.dictionaries.seeded import seeded_rows
from theodolite.dictionaries.variants.random import Random

D, WIDTH, K = 12, 40, 3


def rows(seed: int, n: int = 200) -> torch.Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed)) * torch.linspace(0.2, 2, D) + 3


def test_gradients_are_those_of_autograd() -> None:
    fitted = Random(D, WIDTH, k=K)
    fitted.start(rows(0))
    fitted.parameters_ = {name: t.double() for name, t in fitted.parameters_.items()}
    x = rows(1).double() * fitted.scale_
    w = {name: t.clone().requires_grad_() for name, t in fitted.parameters_.items() if name != "W_dec"}
    W = fitted.parameters_["W_dec"]
    val, idx = ((x - w["b_dec"]) @ W.T).topk(K, dim=1)
    z = torch.zeros(len(x), WIDTH, dtype=torch.float64).scatter(1, idx, val.relu())
    loss = (x - w["gain"] * z @ W - w["b_dec"]).square().sum() / (x - x.mean(0)).square().sum()
    done = fitted._step(x)
    torch.testing.assert_close(done.losses["fvu"], loss.detach())
    for name, expected in zip(w, torch.autograd.grad(loss, list(w.values())), strict=True):
        torch.testing.assert_close(done.gradients[name], expected)
    assert done.fired.sum() == (z > 0).any(0).sum()


def test_rows_stay_random_and_only_gain_and_bias_learn() -> None:
    fitted = Random(D, WIDTH, k=K, seed=4, lr=1e-2).fit(rows(s) for s in range(50))
    found = fitted.dictionary()
    assert torch.equal(found.W_dec, seeded_rows(WIDTH, D, 4))
    torch.testing.assert_close(found.W_enc, fitted.parameters_["gain"] * seeded_rows(WIDTH, D, 4))
    assert found.fvu(rows(99)) < Random(D, WIDTH, k=K, seed=4).fit([rows(0)]).fvu(rows(99))
    assert set(fitted._trained()) == {"b_dec", "gain"}


def test_the_start_has_the_best_gain() -> None:
    fitted = Random(D, WIDTH, k=K)
    fitted.start(rows(0))
    best = float(fitted.parameters_["gain"])
    at = {}
    for gain in (0.95 * best, best, 1.05 * best):
        fitted.parameters_["gain"].fill_(gain)
        at[gain] = float(fitted._step(rows(0) * fitted.scale_).losses["fvu"])
    assert 0 < best < 1
    assert min(at, key=at.__getitem__) == best


def test_going_on_from_a_state_is_bit_equal() -> None:
    whole = Random(D, WIDTH, k=K, steps=20).fit(rows(s) for s in range(20))
    half = Random(D, WIDTH, k=K, steps=20).fit(rows(s) for s in range(9))
    stored = {name: t.clone() for name, t in half.state().items()}
    resumed = Random(D, WIDTH, k=K, steps=20).load_state(stored).fit(rows(s) for s in range(9, 20))
    for name, expected in whole.state().items():
        assert torch.equal(resumed.state()[name], expected), name


def test_what_makes_no_sense_is_refused() -> None:
    for option in ({"frozen": "decoder"}, {"weight_decay": 0.1}):
        with pytest.raises(UserError, match="never trained"):
            Random(D, WIDTH, k=K, **option)
    with pytest.raises(UserError, match="k=41"):
        Random(D, WIDTH, k=41)
