"""Shrinkage undone: closed forms against dense least squares, planted shrunken features, rows not seen in the fit."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from theodolite.core.errors import UserError
from theodolite.dictionaries import shrinkage
from theodolite.dictionaries.activations import JumpReluRule, MatchingPursuitRule, ReluRule, TopKRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.seeded import seeded_rows
from theodolite.dictionaries.shrinkage import redecoded, rescaled

D, F, C = 12, 20, 0.6


def features(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Strengths g in 1..3 of 12 orthogonal features, each active in a fifth of the rows, and the rows."""
    rng = np.random.default_rng(seed)
    g = (rng.random((n, D)) < 0.2) * rng.uniform(1, 3, (n, D))
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((D, D)))[0]
    return torch.tensor(g).float(), torch.tensor(g @ axes + 2).float()


def shrunk() -> Dictionary:
    """What an L1 penalty leaves of the features: every strength minus C."""
    axes = torch.tensor(np.linalg.qr(np.random.default_rng(0).standard_normal((D, D)))[0]).float()
    return Dictionary(axes, torch.full((D,), -C), axes, torch.full((D,), 2.0), ReluRule())


def overlapping(rule: object = None, **how: object) -> Dictionary:
    W = seeded_rows(F, D, 0)
    return Dictionary(W * 0.6, torch.full((F,), -0.1), W, torch.full((D,), 0.5), rule or TopKRule(4), **how)


def noise(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed)) * 2 + 1


def test_a_constant_taken_from_every_strength_is_scaled_back() -> None:
    """Best scale of f = g - C to g is sum f g / sum f²; the fit of contributions on strengths goes back to slope 1."""
    g, x = features(4000, 0)
    plain = shrunk()
    fixed = rescaled(plain, x.split(512), prior_rows=0)
    f = plain.encode(x)
    expected = (f * g).sum(0) / f.square().sum(0)
    torch.testing.assert_close(fixed.W_dec.norm(dim=1), expected, rtol=1e-4, atol=0)
    assert expected.min() > 1.3
    g, x = features(4000, 1)  # other rows
    slope = lambda d: float((d.encode(x) * d.W_dec.norm(dim=1) * g).sum() / g.square().sum())  # noqa: E731
    assert slope(plain) < 0.75
    assert slope(fixed) == pytest.approx(1, abs=0.02)
    assert fixed.fvu(x) < 0.3 * plain.fvu(x)
    for d, low, high in ((plain, 0, 0.75), (fixed, 0.98, 1.02)):  # reconstruction bias of 2404.16014: 1 is unbiased
        x_hat = d.reconstruct(x) - 2
        assert low < float(x_hat.square().sum() / (x_hat * (x - 2)).sum()) < high
    assert torch.equal(fixed.encode(x), plain.encode(x))


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "conjugate gradients"])
def test_scales_are_those_of_least_squares(direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not direct:
        monkeypatch.setattr(shrinkage, "_DIRECT", 1)
    x, plain = noise(800, 0), overlapping()
    found = rescaled(plain, x.split(300), prior_rows=0)
    f, W = plain.encode(x).double(), plain.W_dec.double()
    columns = torch.stack([torch.outer(f[:, i], W[i]).flatten() for i in range(F)], dim=1)
    scale = np.linalg.lstsq(columns.numpy(), (x.double() - 0.5).flatten().numpy(), rcond=None)[0]
    torch.testing.assert_close(found.W_dec, (W * torch.tensor(scale)[:, None]).float(), rtol=1e-4, atol=1e-5)
    assert found.info["rescaled_on"] == 800
    assert plain.info == {}


@pytest.mark.parametrize("cure", [rescaled, redecoded])
def test_the_card_of_the_old_weights_does_not_travel(cure: Callable[..., Dictionary]) -> None:
    carded = replace(overlapping(), info={"site": "embed", "card": {"domains": {}}})
    assert set(cure(carded, [noise(100, 0)]).info) == {"site", f"{cure.__name__}_on"}


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "conjugate gradients"])
def test_decoder_and_bias_are_those_of_least_squares(direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not direct:
        monkeypatch.setattr(shrinkage, "_DIRECT", 1)
    x, plain = noise(800, 0), overlapping()
    found = redecoded(plain, x.split(300), prior_rows=0)
    f = torch.cat([plain.encode(x), torch.ones(800, 1)], dim=1).double().numpy()
    expected = torch.tensor(np.linalg.lstsq(f, x.double().numpy(), rcond=None)[0]).float()
    torch.testing.assert_close(found.W_dec, expected[:-1], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.b_dec, expected[-1], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.encode(x), plain.encode(x), rtol=1e-4, atol=1e-5)
    assert found.fvu(x) < rescaled(plain, [x], prior_rows=0).fvu(x) < plain.fvu(x)


def test_normalised_rows_count_in_their_own_units() -> None:
    """The error is that of raw rows, of which some are 10 times as long: least squares on latents times row norms."""
    x = noise(800, 0) * torch.linspace(0.3, 3, 800)[:, None]
    plain = overlapping(normalise="constant_norm")
    found = redecoded(plain, [x], prior_rows=0)
    size = x.double().norm(dim=1, keepdim=True) / D**0.5
    f = torch.cat([plain.encode(x), torch.ones(800, 1)], dim=1).double() * size
    expected = torch.tensor(np.linalg.lstsq(f.numpy(), x.double().numpy(), rcond=None)[0]).float()
    torch.testing.assert_close(found.W_dec, expected[:-1], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.b_dec, expected[-1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rule", [TopKRule(4), ReluRule(), JumpReluRule(torch.full((F,), 0.4))])
@pytest.mark.parametrize("fit", [rescaled, redecoded])
@pytest.mark.parametrize("normalise", ["none", "layer_norm"])
def test_rows_not_seen_are_reconstructed_better(rule: object, fit: object, normalise: str) -> None:
    plain, fresh = overlapping(rule, normalise=normalise), noise(4000, 99)
    assert fit(plain, [noise(2000, 0)]).fvu(fresh) < plain.fvu(fresh)


@pytest.mark.parametrize("fit", [rescaled, redecoded])
def test_latents_seen_once_keep_near_what_they_were(fit: object) -> None:
    """A good dictionary, fitted anew to 15 noisy rows of 12 numbers: without the prior it is fitted to the noise."""
    good = fit(overlapping(), [noise(4000, 0)])
    held_out = noise(4000, 99)
    trusting, careful = (fit(good, [noise(15, 1)], prior_rows=r).fvu(held_out) for r in (0, 30))
    assert careful < good.fvu(held_out) * 1.1
    assert careful < trusting
    idle = replace(good, b_enc=good.b_enc.index_fill(0, torch.tensor([3]), -1e6))
    assert torch.equal(fit(idle, [noise(100, 0)]).W_dec[3], idle.W_dec[3])


def test_a_transcoder_is_fitted_to_its_targets() -> None:
    W, x = seeded_rows(F, D, 0), noise(2000, 0)
    true = Dictionary(
        W,
        torch.zeros(F),
        seeded_rows(F, 5, 1),
        torch.ones(5),
        TopKRule(4),
        subtract_b_dec=False,
        W_skip=torch.ones(5, D) / 3,
    )
    y = true.reconstruct(x)
    wrong = replace(true, W_dec=true.W_dec * 0.5)
    assert wrong.fvu(x, y) > 0.02
    for fit in (rescaled, redecoded):
        found = fit(wrong, [(x, y)], prior_rows=0)
        torch.testing.assert_close(found.W_dec, true.W_dec, rtol=1e-3, atol=1e-4)
        assert torch.equal(found.encode(x), wrong.encode(x))


def test_what_has_no_encoder_to_keep_is_refused() -> None:
    with pytest.raises(UserError, match="matching_pursuit"):
        rescaled(overlapping(MatchingPursuitRule(3)), [noise(10, 0)])
    with pytest.raises(UserError, match="refit"):
        redecoded(overlapping(refit=True), [noise(10, 0)])
    with pytest.raises(UserError, match="no rows"):
        redecoded(overlapping(), [])
