"""Sites inside attention and MLP, on a random model of every family: what they hold, and that a write there is read."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.neurons import Neurons
from theodolite.core.rules import Add, Clamp, Scale, Zero
from theodolite.core.site import INNER, Site
from theodolite.models.generate import Decoding, generate
from theodolite.models.model import Model
from theodolite.models.run import Effects
from theodolite.models.tokens import encode
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model

TEXTS = ["hello there", "how are you, all of you?", "x"]
RNG = np.random.default_rng(0)


def make(family: str = "llama", **options: Any) -> Model:
    return Model.from_pretrained(tiny_model(family), tokenizer=byte_tokenizer(), **options)


def inner(model: Model, block: int = 1) -> list[Site]:
    return [Site(block, part) for part in INNER if Site(block, part) in model.sites(inner=True)]


def logits(model: Model, *interventions: Intervention) -> Tensor:
    tokens = model.tokens(TEXTS)
    found = model.run(tokens, interventions=interventions).logits
    assert found is not None
    return found[tokens.mask]


def last_projection(module: Any, model: Model, site: Site) -> Any:
    """The projection that reads z or mlp_act."""
    return module.get_submodule(model.network.family.locate(site)[0])


def without_inputs(projection: Any, rows: list[int]) -> None:
    """Take some inputs of a projection away; GPT-2's Conv1D has them as rows, a Linear as columns."""
    if type(projection).__name__ == "Conv1D":
        projection.weight.data[rows] = 0
    else:
        projection.weight.data[:, rows] = 0


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_every_inner_site_in_order(family: str) -> None:
    model = make(family)
    sites = model.sites(inner=True)
    assert len(inner(model)) == len(INNER) == 7
    assert sites == sorted(sites)
    assert [site for site in sites if site.part not in INNER] == model.sites()


@pytest.mark.parametrize("family", FAMILIES)
def test_each_site_leads_to_the_next_by_the_modules_of_the_model(family: str) -> None:
    """By hand: the norm of the stream, the projections of that, what the heads' and the neurons' projections make."""
    model = make(family)
    tokens = model.tokens(TEXTS)
    trace = model.run(tokens, capture=model.sites(inner=True))
    state = {part: trace[Site(1, part)] for part in {site.part for site in model.sites(inner=True) if site.block == 1}}
    block = model.network.module.get_submodule(model.network.family.locate(Site(1, "resid_post"))[0])
    inside = {part: block.get_submodule(path) for part, (path, _) in model.network.family.inner.items()}
    with torch.no_grad():
        before_mlp = state["resid_pre" if family == "gpt_neox" else "resid_mid"]
        torch.testing.assert_close(inside["attn_in"](state["resid_pre"]), state["attn_in"])
        torch.testing.assert_close(inside["mlp_in"](before_mlp), state["mlp_in"])
        if inside["q"] is inside["k"]:
            projected = inside["q"](state["attn_in"])
            if family == "gpt2":
                parts = projected.split(32, dim=-1)
            else:
                heads = projected.unflatten(-1, (4, 3, 8))  # of each head its q, its k and its v
                parts = tuple(heads[..., i, :].flatten(-2) for i in range(3))
        else:
            parts = tuple(inside[part](state["attn_in"]) for part in "qkv")
        for part, expected in zip("qkv", parts, strict=True):
            torch.testing.assert_close(state[part], expected)
        attention, mlp = inside["z"](state["z"]), inside["mlp_act"](state["mlp_act"])
        if family in ("gemma2", "gemma3_text"):
            attention, mlp = block.post_attention_layernorm(attention), block.post_feedforward_layernorm(mlp)
        torch.testing.assert_close(attention, state["attn_out"])
        torch.testing.assert_close(mlp, state["mlp_out"])
    assert {part: state[part].shape[-1] for part in ("q", "z", "mlp_act")} == {"q": 32, "z": 32, "mlp_act": 48}


@pytest.mark.filterwarnings("ignore::theodolite.models.run.NoEffect")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_no_op_changes_no_bit(family: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        model = make(family, dtype=dtype)
        plain, tokens = logits(model), model.tokens(TEXTS)
        held = model.run(tokens, capture=inner(model))
        for site in inner(model):
            basis = Neurons([0, 3], held[site].shape[-1])
            for change in (
                Intervention(site, Scale(1.0)),
                Intervention(site, Add(0.0), basis),
                Intervention.patch(site, held[site]),
            ):
                assert torch.equal(logits(model, change), plain), change


@pytest.mark.parametrize("family", FAMILIES)
def test_a_write_is_read_by_what_comes_behind_it_and_by_nothing_else(family: str) -> None:
    model = make(family)
    tokens = model.tokens(TEXTS)
    plain = model.run(tokens, capture=model.sites(inner=True))
    for site in inner(model):
        donor = RNG.normal(size=tuple(plain[site].shape)).astype(np.float32)
        trace = model.run(tokens, capture=model.sites(inner=True), interventions=Intervention.patch(site, donor))
        assert torch.equal(trace[site][tokens.mask], torch.from_numpy(donor)[tokens.mask])
        end = Site(1, "attn_out" if site < Site(1, "attn_out") else "mlp_out")
        assert (trace[end] - plain[end])[tokens.mask].abs().max() > 1e-3
        others = {"q", "k", "v"} - {site.part} if site.part in "qkv" else set()
        before = [other for other in plain.activations if other < site or (other.part in others and other.block == 1)]
        for other in before:
            assert torch.equal(trace[other], plain[other]), (site, other)


@pytest.mark.parametrize("family", FAMILIES)
def test_ablating_neurons_and_heads_equals_taking_them_from_the_weights(family: str) -> None:
    model = make(family)
    plain = logits(model)
    neurons, heads = Neurons([0, 5, 47], 48), model.network.heads("blocks.1.z", [0, 2])
    for site, basis in ((Site(1, "mlp_act"), neurons), (Site(1, "z"), heads)):
        module = copy.deepcopy(model.network.module)
        without_inputs(last_projection(module, model, site), basis.neurons)
        edited = logits(Model.from_pretrained(module, tokenizer=model.tokenizer))
        ablated = logits(model, Intervention(site, Zero(), basis))
        torch.testing.assert_close(ablated, edited, atol=1e-5, rtol=1e-4)
        assert (ablated - plain).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_are_the_slices_that_attention_takes(family: str) -> None:
    """With the values of one head set to c for every token, that head's own slice of z is c and no other moves."""
    model = make(family)
    tokens, values = model.tokens(TEXTS), Site(1, "v")
    shared = 1 if family in ("gpt2", "gpt_neox", "gpt_neox_sequential") else 2  # query heads on one head of values
    basis = model.network.heads(values, 1)
    plain = model.run(tokens, capture="blocks.1.z")["blocks.1.z"][tokens.mask].unflatten(-1, (4, 8))
    set_to = model.run(tokens, capture="blocks.1.z", interventions=Intervention(values, Clamp(0.5), basis))
    found = set_to["blocks.1.z"][tokens.mask].unflatten(-1, (4, 8))
    moved = range(shared, 2 * shared)
    for head in range(4):
        if head in moved:
            torch.testing.assert_close(found[:, head], torch.full_like(found[:, head], 0.5))
        else:
            torch.testing.assert_close(found[:, head], plain[:, head])


@pytest.mark.parametrize("family", FAMILIES)
def test_an_edit_inside_a_block_is_the_same_with_and_without_a_cache(family: str) -> None:
    model = make(family)
    for part in ("q", "k", "v", "z", "mlp_act"):
        site = Site(1, part)
        width = model.run(model.tokens(TEXTS), capture=site, logits=False)[site].shape[-1]
        change = Intervention(site, Add(1.5), Neurons([1, width - 1], width))
        prompts, how = encode(model.tokenizer, TEXTS), Decoding(max_new_tokens=6)
        with_cache, without = (
            [g.ids for g in generate(model.network, prompts, how, effects=Effects([change]), use_cache=on)]
            for on in (True, False)
        )
        assert with_cache == without


@pytest.mark.parametrize("family", FAMILIES)
def test_hooks_inside_a_block_never_outlive_a_call(family: str) -> None:
    def fail(z: Tensor, now: Any) -> Tensor:
        raise RuntimeError("in the middle of attention")

    model = make(family)
    plain = logits(model)
    with pytest.raises(RuntimeError, match="in the middle"):
        model.run(model.tokens(TEXTS), capture=model.sites(inner=True), interventions=Intervention(Site(1, "v"), fail))
    modules = list(model.network.module.modules())
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules) == 0
    assert torch.equal(logits(model), plain)


def test_what_has_no_heads_or_neurons_of_that_number_is_refused() -> None:
    model = make()
    with pytest.raises(UserError, match="has no heads"):
        model.network.heads("blocks.1.mlp_act", 0)
    for site, n in (("blocks.1.q", 4), ("blocks.1.k", 2), ("blocks.1.z", 4)):
        assert len(model.network.heads(site, n - 1).neurons) == 8
        with pytest.raises(UserError, match=f"no head {n}: they count from 0 to {n - 1}"):
            model.network.heads(site, n)
    with pytest.raises(UserError, match="vectors of 32 numbers, the model's states have 48"):
        logits(model, Intervention(Site(1, "mlp_act"), Zero(), Neurons(3, 32)))


def test_neurons_survive_json() -> None:
    change = Intervention(Site(1, "mlp_act"), Clamp([1.0, 2.0]), Neurons([7, 3], 48))
    again = Intervention.from_json(change.to_json())
    assert again.to_json() == change.to_json()
    model = make()
    assert torch.equal(logits(model, again), logits(model, change))
    for form, message in (
        ({"basis": "neurons", "neurons": [48], "d_model": 48}, "no neuron 48"),
        ({"basis": "neurons", "neurons": [1], "d_model": "48"}, "a whole number from 1 on"),
        ({"basis": "neurons", "d_model": 48}, "at least one"),
    ):
        with pytest.raises(UserError, match=message):
            Intervention.from_json(change.to_json() | {"basis": form})
