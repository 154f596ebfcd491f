"""Interventions cost little: what a pass could repeat is done once, and nothing in the states tells."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from theodolite import Decoding, Intervention, Model, UserError
from theodolite.core.positions import Positions
from theodolite.models.run import Effects, run
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE = "blocks.1.resid_post"


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model(), byte_tokenizer())


def adds(n: int, d_model: int, site: str = SITE) -> list[Intervention]:
    vectors = np.random.default_rng(0).normal(size=(n, d_model)).astype(np.float32)
    return [Intervention.add(site, vector, 0.3 * (i + 1)) for i, vector in enumerate(vectors)]


def test_adds_at_one_site_are_rounded_one_after_the_other(model: Model) -> None:
    tokens, changes = model.tokens(["a text", "another one"], format="raw"), adds(5, model.d_model)
    clean = run(model.network, tokens, [changes[0].site])[SITE]
    found = run(model.network, tokens, [changes[0].site], Effects(changes))[SITE]
    h = clean
    for i, change in enumerate(changes):
        read, write = (torch.from_numpy(x) for x in (change.basis.read_kd, change.basis.write_kd))
        z = h @ read.mT
        h = h + ((z + torch.tensor(0.3 * (i + 1))) - z) @ write
    real = tokens.mask
    assert torch.equal(found[real], h[real])
    assert torch.equal(found[~real], clean[~real])
    merged = clean + sum(0.3 * (i + 1) * torch.from_numpy(c.basis.write_kd[0]) for i, c in enumerate(changes))
    assert torch.allclose(found[real], merged[real], atol=1e-5)
    assert not torch.equal(found[real], merged[real])  # a sum of the vectors would be rounded otherwise


def test_a_step_finds_its_tokens_once_for_all_interventions(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, own = [], Positions.mask
    monkeypatch.setattr(Positions, "mask", lambda self, *a: asked.append(self.text) or own(self, *a))
    written = model.generations("a text", Decoding(3), interventions=adds(6, model.d_model), format="raw")
    assert len(written[0].ids) == 3
    assert asked == ["all"] * 3


def test_effects_that_fit_one_model_are_refused_by_another_of_other_width(model: Model) -> None:
    sizes = {"intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=260, hidden_size=48, max_position_embeddings=64, **sizes)
    wider = Model(LlamaForCausalLM(config).eval(), byte_tokenizer())
    effects = Effects(adds(2, model.d_model))
    for _ in range(2):
        run(model.network, model.tokens("a text", format="raw"), effects=effects, logits=True)
    with pytest.raises(UserError, match=f"vectors of {model.d_model} numbers, the model's states have 48"):
        run(wider.network, wider.tokens("a text", format="raw"), effects=effects, logits=True)


def test_sites_of_a_call_are_in_the_order_of_a_pass_and_captured_ones_join_them(model: Model) -> None:
    changes = adds(1, model.d_model, "blocks.2.resid_post") + adds(1, model.d_model, "blocks.0.resid_pre")
    effects = Effects(changes)
    assert [str(site) for site in effects.sites] == ["blocks.0.resid_pre", "blocks.2.resid_post"]
    trace = run(model.network, model.tokens("a text", format="raw"), [model.site(SITE)], effects, logits=True)
    assert list(map(str, trace.activations)) == [SITE]
    assert [str(site) for site in effects.sites] == ["blocks.0.resid_pre", "blocks.2.resid_post"]
