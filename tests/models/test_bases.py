"""Laws of every basis that is no vector, on a random model of every family: exact no-op, and the effect by hand."""

from typing import Any

import numpy as np
import pytest
import torch

from theodolite.core.intervention import Intervention
from theodolite.core.latents import LatentBasis
from theodolite.core.rules import Add, Clamp, Scale
from theodolite.core.site import Site
from theodolite.dictionaries.activations import ReluRule, TopKRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.models.model import Model
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model

TEXTS = ["hello there", "how are you, all of you?", "x"]
D, WIDTH = 32, 64


def make(family: str = "llama", **options: Any) -> Model:
    return Model.from_pretrained(tiny_model(family), tokenizer=byte_tokenizer(), **options)


def dictionary(rule: Any = None) -> Dictionary:
    g = torch.Generator().manual_seed(0)
    shapes = ((WIDTH, D), (WIDTH,), (WIDTH, D), (D,))
    return Dictionary(*(torch.randn(shape, generator=g) for shape in shapes), activation=rule or ReluRule())


@pytest.mark.filterwarnings("ignore::theodolite.models.run.NoEffect")
@pytest.mark.parametrize("family", FAMILIES)
def test_latents_that_are_left_as_they_were_change_no_bit(family: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        model = make(family, dtype=dtype)
        tokens = model.tokens(TEXTS)
        plain = model.run(tokens).logits
        for site in model.sites():
            for rule in (Add(0.0), Scale(1.0)):
                trace = model.run(tokens, interventions=Intervention(site, rule, LatentBasis(dictionary(), [3, 50])))
                assert torch.equal(trace.logits, plain), (site, rule)
                assert trace.changed == (0,)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rule", [ReluRule(), TopKRule(9)], ids=repr)
def test_a_clamped_latent_moves_the_stream_along_its_decoder_row(family: str, rule: Any) -> None:
    """(c - z) W_dec by hand, at every site and with it at every block's own state."""
    model, sae = make(family), dictionary(rule)
    tokens = model.tokens(TEXTS)
    plain = model.run(tokens, capture=model.sites())
    for site in model.sites():
        h = plain[site][tokens.mask]
        z = sae.encode(h)[:, [3, 50]]
        clamp = Intervention(site, Clamp([4.0, -2.0]), LatentBasis(sae, [3, 50]))
        changed = model.run(tokens, capture=site, interventions=clamp)
        expected = h + (torch.tensor([4.0, -2.0]) - z) @ sae.W_dec[[3, 50]]
        torch.testing.assert_close(changed[site][tokens.mask], expected, atol=1e-4, rtol=1e-4)
        assert (changed.logits - plain.logits)[tokens.mask].abs().max() > 1e-3


def test_latents_steer_while_text_is_generated_and_read_in_batches() -> None:
    model, text = make(), ["one prompt", "another, longer one", "x"]
    change = Intervention(
        "blocks.1.resid_post", Clamp(np.array([3.0, 9.0, -5.0]).reshape(3, 1, 1)), LatentBasis(dictionary(), [3, 50])
    )
    together = model.generate(text, max_new_tokens=5, interventions=change, batch_tokens=30)
    for i, prompt in enumerate(text):
        own = Intervention(
            Site(1, "resid_post"), Clamp(float(change.rule.value[i, 0, 0])), LatentBasis(dictionary(), [3, 50])
        )
        assert model.generate(prompt, max_new_tokens=5, interventions=own) == together[i : i + 1]
