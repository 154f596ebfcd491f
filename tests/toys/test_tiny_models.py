"""What sets a family apart acts in its tiny model: otherwise the laws that run on it would test a plain Llama."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

TEXT = "a text of more tokens than the window holds"


def final_cap(module: Any) -> None:
    module.config.final_logit_softcapping = None


def attention_cap(module: Any) -> None:
    for layer in module.model.layers:
        layer.self_attn.attn_logit_softcapping = None


def window(module: Any) -> None:
    module.config.sliding_window = 512


def norms(*names: str) -> Callable[[Any], None]:
    def replaced(module: Any) -> None:
        for layer in module.model.layers:
            for name in names:
                parent, _, last = name.rpartition(".")
                setattr(layer.get_submodule(parent) if parent else layer, last, torch.nn.Identity())

    return replaced


SANDWICH = norms("post_attention_layernorm", "post_feedforward_layernorm")
QUERY_AND_KEY = norms("self_attn.q_norm", "self_attn.k_norm")


def logits(module: Any) -> torch.Tensor:
    model = Model(module, byte_tokenizer())
    found = model.run(model.tokens(TEXT)).logits
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("family", "take_away"),
    [
        ("gemma2", final_cap),
        ("gemma2", attention_cap),
        ("gemma2", window),
        ("gemma2", SANDWICH),
        ("gemma3_text", window),
        ("gemma3_text", QUERY_AND_KEY),
        ("gemma3_text", SANDWICH),
        ("qwen3", QUERY_AND_KEY),
    ],
)
def test_what_sets_the_family_apart_moves_the_logits(family: str, take_away: Callable[[Any], None]) -> None:
    plain, module = logits(tiny_model(family)), tiny_model(family)
    take_away(module)
    assert (logits(module) - plain).abs().max() > 0.01


def test_capped_logits_stay_below_the_cap_and_so_does_the_unembedding() -> None:
    model = Model(tiny_model("gemma2"), byte_tokenizer())
    trace = model.run(model.tokens(TEXT), capture="final_norm")
    assert trace.logits is not None
    uncapped = model.network.module.lm_head(trace["final_norm"])
    assert trace.logits.abs().max() < 2.0 < uncapped.abs().max()
    torch.testing.assert_close(model.network.unembed(trace["final_norm"]), trace.logits)


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text"])
def test_both_kinds_of_attention_are_there(family: str) -> None:
    """A token out of the window reaches the last one only from the full block on; deeper ones mix what it wrote."""
    model = Model(tiny_model(family), byte_tokenizer())
    one, other = (model.tokens([text], format="raw") for text in ("x" + TEXT, "y" + TEXT))
    states = [model.run(tokens, capture=["blocks.0.resid_post", "blocks.1.resid_post"]) for tokens in (one, other)]
    first, second = ([trace[site][0, -1] for trace in states] for site in states[0].activations)
    assert torch.equal(*first)
    assert not torch.equal(*second)


@pytest.mark.parametrize("family", ["qwen3", "gemma3_text"])
def test_q_and_k_are_seen_before_their_norms(family: str) -> None:
    """The sites are what the projections give; the norm of each head comes behind, so a scaled q changes nothing."""
    model = Model(tiny_model(family), byte_tokenizer())
    tokens = model.tokens(TEXT)
    plain = model.run(tokens, capture=["blocks.1.q", "blocks.1.attn_in", "blocks.1.z"])
    attention = model.network.module.model.layers[1].self_attn
    torch.testing.assert_close(plain["blocks.1.q"], attention.q_proj(plain["blocks.1.attn_in"]))
    attention.q_proj.weight.data *= 3
    torch.testing.assert_close(
        model.run(tokens, capture="blocks.1.z")["blocks.1.z"], plain["blocks.1.z"], atol=1e-4, rtol=1e-3
    )
