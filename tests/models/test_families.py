"""Where sites lie: module paths by table, and the arithmetic of the residual stream in every family."""

import pytest
import torch

from theodolite.core.errors import UserError
from theodolite.core.site import INNER, PARTS, Site
from theodolite.models.families import FAMILIES as KNOWN
from theodolite.models.families import Network
from theodolite.models.hooks import attached
from theodolite.models.model import Model
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model

LLAMA_LIKE = ["llama", "mistral", "smollm3", "qwen2", "qwen3", "gemma"]
TEXTS = ["one text", "and a longer one"]

# family: paths of embed, final_norm and, in block 1, of the five parts (resid_mid is the input of its module)
PATHS = {
    **dict.fromkeys(
        LLAMA_LIKE,
        ("model.embed_tokens", "model.norm", "model.layers.1", "self_attn", "post_attention_layernorm", "mlp"),
    ),
    **dict.fromkeys(
        ["gemma2", "gemma3_text"],
        (
            "model.embed_tokens",
            "model.norm",
            "model.layers.1",
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "post_feedforward_layernorm",
        ),
    ),
    "gpt2": ("transformer.wte", "transformer.ln_f", "transformer.h.1", "attn", "ln_2", "mlp"),
    "gpt_neox": ("gpt_neox.embed_in", "gpt_neox.final_layer_norm", "gpt_neox.layers.1", "attention", None, "mlp"),
    "gpt_neox_sequential": (
        "gpt_neox.embed_in",
        "gpt_neox.final_layer_norm",
        "gpt_neox.layers.1",
        "attention",
        "post_attention_layernorm",
        "mlp",
    ),
}


def test_the_tables_cover_every_family() -> None:
    assert set(PATHS) == set(FAMILIES)
    assert {family.removesuffix("_sequential") for family in FAMILIES} == set(KNOWN)


@pytest.mark.parametrize("family", FAMILIES)
def test_module_paths(family: str) -> None:
    net = Network.of(tiny_model(family))
    embed, norm, block, attention, mid, mlp = PATHS[family]
    table = {
        Site(None, "embed"): (embed, "output"),
        Site(1, "resid_pre"): (block, "input"),
        Site(1, "attn_out"): (f"{block}.{attention}", "output"),
        Site(1, "resid_mid"): (f"{block}.{mid}", "input"),
        Site(1, "mlp_out"): (f"{block}.{mlp}", "output"),
        Site(1, "resid_post"): (block, "output"),
        Site(None, "final_norm"): (norm, "output"),
    }
    if mid is None:
        del table[Site(1, "resid_mid")]
    for site, (path, side) in table.items():
        assert net.family.locate(site) == (path, side)
        assert net.family.site(path, side) == site
        assert net.family.site(path.partition(".")[2], side) == site  # sparsify's hookpoints have no root
        assert net.locate(site)[0] is net.module.get_submodule(path)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_site_has_the_same_name_in_every_tool(family: str) -> None:
    """Its own, that of TransformerLens and its module's path lead to one site and one state."""
    model, tokens, trace = _traced(family)
    for site in model.sites():
        path, side = model.network.family.locate(site)
        names = [str(site), f"{path}.{side}", *([path] if side == "output" else [])]
        names += [] if site.part == "final_norm" else [site.to_transformer_lens()]
        assert {model.site(name) for name in names} == {site}
        for name in names:
            assert torch.equal(model.run(tokens, capture=[name], logits=False)[site], trace[site])
    for site in (Site(1, "resid_post"), Site(2, "resid_pre"), Site(None, "embed"), Site(None, "final_norm")):
        path, side = model.network.family.locate(site)
        assert Site.parse(f"{path}.{side}") == site
        assert trace[f"{path}.{side}"] is trace.activations[f"{path}.{side}"] is trace[site]
    assert model.read(TEXTS, "blocks.1.hook_resid_post")["blocks.1.resid_post"].site == Site(1, "resid_post")
    with pytest.raises(UserError, match="is not a site"):
        model.site("model.layers.1.o_proj")


def _traced(family: str) -> tuple:
    model = Model.from_pretrained(tiny_model(family), tokenizer=byte_tokenizer())
    tokens = model.tokens(TEXTS)
    return model, tokens, model.run(tokens, capture=model.sites())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_stream_adds_up(family: str) -> None:
    """What `attn_out` and `mlp_out` name is what the stream receives: the law that Gemma's post-norms break."""
    model, tokens, trace = _traced(family)
    real = tokens.mask
    for n in range(model.n_blocks):
        pre, attention, mlp, post = (
            trace[Site(n, p)][real] for p in ("resid_pre", "attn_out", "mlp_out", "resid_post")
        )
        torch.testing.assert_close(pre + attention + mlp, post)
        if family != "gpt_neox":
            torch.testing.assert_close(pre + attention, trace[Site(n, "resid_mid")][real])
        if n + 1 < model.n_blocks:
            assert torch.equal(trace[Site(n + 1, "resid_pre")], trace[Site(n, "resid_post")])
    if family != "gpt2":  # whose stream starts with position embeddings on top
        assert torch.equal(trace["embed"], trace["blocks.0.resid_pre"])
    embedded = model.network.module.get_input_embeddings()(tokens.ids)
    torch.testing.assert_close(trace["embed"][real], embedded[real])


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_and_logits_are_those_of_transformers(family: str) -> None:
    model, tokens, trace = _traced(family)
    with torch.no_grad():
        plain = model.network.module(input_ids=tokens.ids, attention_mask=tokens.mask.long(), output_hidden_states=True)
    for index, state in enumerate(plain.hidden_states):
        site = Site.from_hidden_states(index, model.n_blocks)
        torch.testing.assert_close(trace[site][tokens.mask], state[tokens.mask])
    assert trace.logits is not None
    torch.testing.assert_close(trace.logits[tokens.mask], plain.logits[tokens.mask])


def test_parallel_blocks_have_no_middle() -> None:
    model = Model.from_pretrained(tiny_model("gpt_neox"), tokenizer=byte_tokenizer())
    with pytest.raises(UserError, match="run in parallel"):
        model.read(TEXTS, "blocks.1.resid_mid")
    assert not [site for site in model.sites() if site.part == "resid_mid"]
    with pytest.raises(UserError, match="is not a site"):
        model.network.family.site("layers.1.post_attention_layernorm", "input")


@pytest.mark.parametrize("path", ["model.layers", "model.layers.x", "model.layers.1.self_attn.o_proj", "lm_head"])
def test_a_module_that_is_no_site_is_refused(path: str) -> None:
    with pytest.raises(UserError, match="is not a site"):
        KNOWN["llama"].site(path)


def test_gemma_attention_before_its_post_norm_is_no_site() -> None:
    with pytest.raises(UserError, match="is not a site"):
        KNOWN["gemma2"].site("model.layers.1.self_attn")


def test_an_unknown_architecture_is_named() -> None:
    config = tiny_model("llama").config
    config.model_type = "llamma"
    with pytest.raises(UserError, match="did you mean 'llama'"):
        Model(SimpleModule(config), byte_tokenizer())


class SimpleModule(torch.nn.Module):
    """Enough of a model to be refused."""

    def __init__(self, config: object) -> None:
        super().__init__()
        self.config = config


def test_a_site_that_the_pass_never_reaches_is_an_error() -> None:
    net = Network.of(tiny_model())
    with pytest.raises(UserError, match=r"never reached blocks\.2\.mlp_out"):  # noqa: SIM117
        with attached(net, [Site(0, "mlp_out"), Site(2, "mlp_out")], lambda site, h: h):
            net.module.model.layers[0].mlp(torch.zeros(1, 1, 32))


def test_every_part_has_a_place_in_every_family() -> None:
    for family in KNOWN.values():
        assert set(family.parts) == set(PARTS)
        assert set(family.inner) == set(INNER)
