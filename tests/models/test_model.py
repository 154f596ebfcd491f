"""The model's own facts, and the arguments it refuses."""

import numpy as np
import pytest
import torch

from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.site import Site
from theodolite.models import preflight
from theodolite.models.model import Model
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model


@pytest.mark.parametrize("family", FAMILIES)
def test_facts(family: str) -> None:
    module = tiny_model(family)
    model = Model.from_pretrained(module, tokenizer=byte_tokenizer())
    assert (model.n_blocks, model.d_model) == (3, 32)
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)
    assert model.parameters == sum(p.numel() for p in module.parameters())
    assert len(model.sites()) == 2 + 3 * (4 if family == "gpt_neox" else 5)
    assert model.sites() == sorted(model.sites())
    assert model.hash
    assert "3 blocks" in repr(model)


def test_the_same_weights_have_the_same_hash_and_others_another() -> None:
    hashes = [Model.from_pretrained(tiny_model(seed=s), tokenizer=byte_tokenizer()).hash for s in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_model_put_together_by_hand_has_the_hash_of_its_weights() -> None:
    module, tokenizer = tiny_model(), byte_tokenizer()
    assert Model(module, tokenizer).hash == Model.from_pretrained(module, tokenizer=tokenizer).hash != ""
    assert Model(module, tokenizer, hash="known").hash == "known"


@pytest.mark.parametrize("family", FAMILIES)
def test_one_alone_is_a_list_of_one(family: str) -> None:
    """A bare string, not its letters: texts, prompts, continuations, sites; and an intervention by itself."""
    model = Model.from_pretrained(tiny_model(family), tokenizer=byte_tokenizer())
    text, site, change = "one text", "blocks.1.resid_post", Intervention.add("blocks.0.mlp_out", np.arange(32), 0.5)
    assert torch.equal(model.tokens(text).ids, model.tokens([text]).ids)
    one, many = model.tokens(text), {"interventions": [change]}
    lone = model.run(one, capture=site, interventions=change)
    assert torch.equal(lone[site], model.run(one, capture=[site], **many)[site])
    assert model.read(text, site, interventions=change)[site].rows.shape == (1, 32)
    np.testing.assert_array_equal(model.read(text, site)[site].rows, model.read([text], [site])[site].rows)
    np.testing.assert_array_equal(model.embed(text), model.embed([text]))
    np.testing.assert_array_equal(model.loss(text, interventions=change).log_prob, model.loss([text], **many).log_prob)
    assert model.kl(text, interventions=change) == model.kl([text], **many)
    np.testing.assert_array_equal(model.logprobs(text, " yes").log_prob, model.logprobs([text], [" yes"]).log_prob)
    assert model.generate(text, max_new_tokens=3) == model.generate([text], max_new_tokens=3)
    assert model.control_tokens_in("a <|im_end|>") == [("<|im_end|>",)]
    with pytest.raises(UserError, match="1 prompts and 2 continuations"):
        model.logprobs(text, [" yes", " no"])


def test_sites_are_checked_by_name() -> None:
    model = Model.from_pretrained(tiny_model(), tokenizer=byte_tokenizer())
    assert model.site("blocks.2.mlp_out") == Site(2, "mlp_out")
    with pytest.raises(UserError, match="blocks 0 to 2"):
        model.site("blocks.3.mlp_out")


def test_stop_tokens_come_from_model_and_tokenizer() -> None:
    model = Model.from_pretrained(tiny_model(), tokenizer=byte_tokenizer())
    model.network.module.generation_config.eos_token_id = [7, 9]
    head = model.network.module.lm_head
    with torch.no_grad():
        head.weight[9] = 100 * head.weight.abs().sum(0)  # towers over every other logit, in one direction or the other
        head.weight[7] = -head.weight[9]
    assert model.generate(["stop at once"], max_new_tokens=3) == [""]


def test_a_model_needs_its_tokenizer() -> None:
    with pytest.raises(UserError, match="tokenizer"):
        Model.from_pretrained(tiny_model())


@pytest.mark.slow
def test_the_shipped_model_answers() -> None:
    model = Model.from_pretrained("smollm2-135m-instruct")
    assert (model.n_blocks, model.d_model, model.quantisation) == (30, 576, "dequantised Q4_1")
    answer = model.generate(["Hello! What is the capital of France?"], max_new_tokens=12)
    assert "Paris" in answer[0]
    ids = model.tokens(["The capital of France is Paris."], format="raw").ids
    with torch.no_grad():
        plain = float(model.network.module(ids, labels=ids).loss)
    assert model.loss(["The capital of France is Paris."]).mean_loss == pytest.approx(plain, abs=1e-4)
    assert plain < 3


def test_a_batch_needs_memory_for_the_blocks_that_run_and_logits_only_where_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Model.from_pretrained(tiny_model(), tokenizer=byte_tokenizer())
    monkeypatch.setattr(preflight, "batch_tokens", lambda module, deepest_block: deepest_block)
    asked = (["embed"], ["embed", "blocks.1.mlp_out"], ["blocks.0.mlp_out", "final_norm"])
    assert [model.batch_tokens([model.site(s) for s in sites]) for sites in asked] == [-1, 1, 2]
    assert model.batch_tokens(None) is None
