"""Refitted magnitudes against least squares by numpy and scipy, row by row, and in a dictionary."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from theodolite.core.errors import UserError
from theodolite.dictionaries import refit
from theodolite.dictionaries.activations import IdentityRule, JumpReluRule, ReluRule, TopKRule
from theodolite.dictionaries.dictionary import Dictionary, to_csr
from theodolite.dictionaries.refit import magnitudes
from theodolite.dictionaries.seeded import seeded_rows

N, D, F, K = 300, 16, 40, 6


def planted(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows, decoder rows, K random latents per row of which some slots are empty, and values of no meaning."""
    rng = np.random.default_rng(0)
    W = rng.standard_normal((F, D))
    x = rng.standard_normal((N, D)) * 2
    idx = rng.random((N, F)).argsort(axis=1)[:, :K]
    val = (rng.random((N, K)) > 0.2) * 1.0
    return torch.tensor(x).to(dtype), torch.tensor(W).to(dtype), torch.tensor(idx), torch.tensor(val).to(dtype)


@pytest.mark.parametrize("signed", [False, True])
def test_equals_least_squares_of_every_row(signed: bool) -> None:
    x, W, idx, val = planted(torch.float64)
    found = magnitudes(x, idx, val, W, signed=signed).numpy()
    negative = 0
    for row in range(N):
        on = val[row].numpy() > 0
        A = W[idx[row]].numpy()[on].T
        expected = np.linalg.lstsq(A, x[row].numpy(), rcond=None)[0] if signed else nnls(A, x[row].numpy())[0]
        np.testing.assert_allclose(found[row][on], expected, atol=1e-8)
        negative += (np.linalg.lstsq(A, x[row].numpy(), rcond=None)[0] < 0).any()
        assert not found[row][~on].any()
    assert negative > N / 2  # else non-negative fits would be the plain ones


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, W, idx, val = planted()
    whole = magnitudes(x, idx, val, W, signed=False)
    monkeypatch.setattr(refit, "_ENTRIES", 7 * K * (K + D))
    torch.testing.assert_close(magnitudes(x, idx, val, W, signed=False), whole, rtol=1e-6, atol=1e-7)
    assert magnitudes(x[:0], idx[:0], val[:0], W, signed=True).shape == (0, K)


def test_nearly_equal_decoder_rows_keep_their_digits_and_equal_ones_share() -> None:
    """Rows 1e-3 apart: the normal equations have a condition of 4e6, which float32 cannot carry."""
    W = torch.tensor([[1.0, 0.0], [1.0, 1e-3], [1.0, 1e-3]])
    x, val = torch.tensor([[3.0, 2e-3]]), torch.ones(1, 2)
    near = magnitudes(x, torch.tensor([[0, 1]]), val, W, signed=True)
    torch.testing.assert_close(near, torch.tensor([[1.0, 2.0]]), rtol=1e-3, atol=0)
    equal = magnitudes(x, torch.tensor([[1, 2]]), val, W, signed=True)
    assert float(equal[0, 0]) == pytest.approx(float(equal[0, 1]), rel=1e-3)
    assert float(equal.sum()) == pytest.approx(3, rel=1e-3)


def dictionary(rule: object, **how: object) -> Dictionary:
    W = seeded_rows(F, D, 0)
    return Dictionary(W * 1.3, torch.full((F,), -0.2), W, torch.full((D,), 0.5), rule, **how)


@pytest.mark.parametrize("rule", [TopKRule(4), ReluRule(), JumpReluRule(torch.full((F,), 0.8)), IdentityRule()])
@pytest.mark.parametrize("normalise", ["none", "layer_norm", "constant_norm"])
def test_no_row_is_reconstructed_worse(rule: object, normalise: str) -> None:
    x = planted()[0] + 1
    plain = dictionary(rule, normalise=normalise)
    fitted = replace(plain, refit=True)
    before, after = ((x - d.reconstruct(x)).double().square().sum(1) for d in (plain, fitted))
    assert (after <= before * (1 + 1e-4) + 1e-6).all()
    assert fitted.fvu(x) < 0.95 * plain.fvu(x)


def test_every_reading_of_a_refitting_dictionary_agrees_and_keeps_the_support() -> None:
    x = planted()[0]
    plain = dictionary(TopKRule(4))
    fitted = replace(plain, refit=True)
    z = fitted.encode(x)
    torch.testing.assert_close(torch.from_numpy(to_csr(*fitted.encode_sparse(x), F).toarray()), z)
    torch.testing.assert_close(fitted.decode(z), fitted.reconstruct(x))
    assert not z[plain.encode(x) == 0].any()
    assert (z >= 0).all()
    assert fitted.fingerprint() != plain.fingerprint()
    assert torch.equal(fitted.to("cpu").encode(x), z)
    torch.testing.assert_close(fitted.folded(2.0).reconstruct(x / 2), fitted.reconstruct(x) / 2)


def test_a_transcoder_has_nothing_to_refit() -> None:
    x = planted()[0]
    for how in ({"W_skip": torch.eye(D)}, {"info": {"read_site": "blocks.0.resid_mid"}}):
        with pytest.raises(UserError, match="transcoder"):
            dictionary(TopKRule(4), subtract_b_dec=False, refit=True, **how).encode(x)
