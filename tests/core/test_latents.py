"""Latents as a basis: the formula by hand, what it refuses, and a JSON form that names its dictionary."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.latents import LatentBasis
from theodolite.core.rules import Add, Clamp, Scale, Zero
from theodolite.core.site import Site
from theodolite.dictionaries.activations import ReluRule, TopKRule
from theodolite.dictionaries.dictionary import Dictionary

D, WIDTH = 6, 16
SITE = Site(1, "resid_post")


def make(rule: Any = None, seed: int = 0, **options: Any) -> Dictionary:
    """A random dictionary whose biases are large, so that one that entered would show."""
    g = torch.Generator().manual_seed(seed)
    shapes = {"W_enc": (WIDTH, D), "b_enc": (WIDTH,), "W_dec": (WIDTH, D), "b_dec": (D,)}
    weights = {name: torch.randn(shape, generator=g) * (5 if name == "b_dec" else 1) for name, shape in shapes.items()}
    return Dictionary(**weights, activation=rule or ReluRule(), **options)


def states() -> Tensor:
    return torch.randn(2, 3, D, generator=torch.Generator().manual_seed(1)) * 3


class _Now:
    """A pass that a rule may encode states in."""

    def __init__(self, basis: LatentBasis) -> None:
        self.encode = basis.encode


def apply(intervention: Intervention, h: Tensor) -> Tensor:
    return intervention.apply(h, h, torch.ones(h.shape[:2], dtype=torch.bool), _Now(intervention.basis))  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", [ReluRule(), TopKRule(3)], ids=repr)
@pytest.mark.parametrize("normalise", ["none", "centre"])
def test_clamping_a_latent_is_the_clamped_reconstruction_plus_the_old_error(rule: Any, normalise: Any) -> None:
    dictionary, h = make(rule, normalise=normalise), states()
    z = dictionary.encode(h.reshape(-1, D))
    edited = z.clone()
    edited[:, [3, 7]] = 2.5
    mean = dictionary.normalised(h.reshape(-1, D))[2]
    expected = dictionary.decode(edited) + mean + (h.reshape(-1, D) - (dictionary.decode(z) + mean))
    new = apply(Intervention(SITE, Clamp(2.5), LatentBasis(dictionary, [3, 7])), h)
    torch.testing.assert_close(new.reshape(-1, D), expected)
    assert (new - h).abs().max() > 0.1


def test_the_order_of_the_latents_is_that_of_their_numbers() -> None:
    h, dictionary = states(), make()
    one = apply(Intervention(SITE, Clamp([1.0, 2.0]), LatentBasis(dictionary, [3, 7])), h)
    other = apply(Intervention(SITE, Clamp([2.0, 1.0]), LatentBasis(dictionary, [7, 3])), h)
    torch.testing.assert_close(one, other)
    assert torch.equal(
        LatentBasis(dictionary, 7).encode(h)[..., 0], dictionary.encode(h.reshape(-1, D))[:, 7].view(2, 3)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_rule_that_changes_nothing_is_bit_exact(dtype: torch.dtype) -> None:
    h, basis = (states() * 100).to(dtype), LatentBasis(make(), range(WIDTH))
    for rule in (Add(0.0), Scale(1.0)):
        assert torch.equal(apply(Intervention(SITE, rule, basis), h), h)
    silent = LatentBasis(replace(make(), b_enc=torch.full((WIDTH,), -1e6)), [0, 5])
    assert torch.equal(apply(Intervention(SITE, Zero(), silent), h), h)  # no latent fires: nothing is taken away


def test_a_json_form_finds_its_dictionary_by_fingerprint() -> None:
    dictionary, other = make(), make(seed=9)
    change = Intervention(SITE, Clamp(2.0), LatentBasis(dictionary, [3, 7]))
    form = json.loads(json.dumps(change.to_json()))
    assert form["basis"] == {"basis": "latents", "dictionary": dictionary.fingerprint(), "latents": [3, 7]}
    for given in (dictionary, [other, dictionary]):
        again = Intervention.from_json(form, given)
        assert again.to_json() == form
        assert torch.equal(apply(again, states()), apply(change, states()))
    for missing in ((), [other]):
        with pytest.raises(UserError, match=f"fingerprint {dictionary.fingerprint()[:12]}: it is not among the"):
            Intervention.from_json(form, missing)


def test_what_is_no_latent_of_the_dictionary_is_refused() -> None:
    for latents, message in [
        (WIDTH, "no latent 16: they count from 0 to 15"),
        (-1, "no latent -1"),
        ([2, 2], "each once"),
        ([], "at least one"),
        ("7", "latents are '7'"),
        ([1.5], "a whole number"),
    ]:
        with pytest.raises(UserError, match=message):
            LatentBasis(make(), latents)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no fixed direction"):
        LatentBasis(make(normalise="layer_norm"), 1)


def test_latents_of_a_transcoder_need_the_site_that_it_reads() -> None:
    basis = LatentBasis(make(info={"read_site": "blocks.1.resid_mid"}), 1)
    with pytest.raises(UserError, match="by read_site"):
        Intervention(Site(1, "mlp_out"), Clamp(1.0), basis)
    assert Intervention(Site(1, "mlp_out"), Clamp(1.0), basis, read_site=Site(1, "resid_mid")).sources()
