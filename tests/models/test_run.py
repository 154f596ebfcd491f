"""The primitive: laws of interventions, on random models of every family; hooks that never outlive a call."""

import copy
import json
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from theodolite.core.basis import Direction, Identity, Subspace
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.positions import Positions
from theodolite.core.rules import Add, Clamp, Mean, Patch, Scale
from theodolite.core.site import Site
from theodolite.models.model import Model
from theodolite.models.run import Effects, NoEffect, run
from theodolite.models.tokens import Tokens, encode, pad
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model

TEXTS = ["hello there", "how are you, all of you?", "x"]
D = 32
RNG = np.random.default_rng(0)
V = RNG.normal(size=D).astype(np.float32)


def make(family: str = "llama") -> Model:
    return Model.from_pretrained(tiny_model(family), tokenizer=byte_tokenizer())


@pytest.fixture(scope="module")
def model() -> Model:
    return make()


def hooks_on(model: Model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.network.module.modules())


def logits(model: Model, tokens: Tokens, *interventions: Intervention) -> torch.Tensor:
    found = model.run(tokens, interventions=interventions).logits
    assert found is not None
    return found


def test_a_text_in_place_of_tokens_is_told_how(model: Model) -> None:
    with pytest.raises(UserError, match=r"not str: write model\.run\(model\.tokens\(text\)"):
        model.run("a text", capture="blocks.1.resid_post")  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::theodolite.models.run.NoEffect")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("basis", [Identity(), Direction(V), Subspace(RNG.normal(size=(3, D)))], ids=repr)
def test_a_no_op_is_bit_exact_at_every_site(dtype: torch.dtype, basis: Any) -> None:
    model = Model.from_pretrained(tiny_model(), tokenizer=byte_tokenizer(), dtype=dtype)
    tokens = model.tokens(TEXTS)
    plain = logits(model, tokens)
    own = model.run(tokens, capture=model.sites())
    for site in model.sites():
        for rule in (Add(0.0), Scale(1.0), Patch(own[site].float().numpy())):
            changed = model.run(tokens, interventions=[Intervention(site, rule, basis)])
            assert changed.logits is not None
            assert torch.equal(changed.logits, plain), (site, rule)
            assert changed.changed == (0,)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_write_at_each_site_is_seen_by_all_that_read_it(family: str) -> None:
    """A patched state is the donor's bit for bit, and the stream goes on from it: also around the MLP at resid_mid."""
    model = make(family)
    tokens = model.tokens(TEXTS)
    real, plain = tokens.mask, logits(model, tokens)
    for site in model.sites():
        donor = RNG.normal(size=(*tokens.ids.shape, D)).astype(np.float32)
        trace = model.run(tokens, capture=model.sites(), interventions=[Intervention.patch(site, donor)])
        assert torch.equal(trace[site][real], torch.from_numpy(donor)[real])
        assert trace.changed == (int(real.sum()),)
        assert trace.logits is not None
        assert (trace.logits - plain)[real].abs().amax(-1).min() > 1e-4  # every token's logits moved
        for n in range(model.n_blocks):
            before = Site(n, "resid_pre"), Site(n, "attn_out")
            middle = sum(trace[s] for s in before) if family == "gpt_neox" else trace[Site(n, "resid_mid")]
            if site not in (Site(n, "resid_mid"), Site(n, "resid_post")):
                torch.testing.assert_close(sum(trace[s] for s in before)[real], middle[real])
            if site != Site(n, "resid_post"):
                torch.testing.assert_close(
                    (middle + trace[Site(n, "mlp_out")])[real], trace[Site(n, "resid_post")][real]
                )


@pytest.mark.parametrize("family", FAMILIES)
def test_skipping_a_block_equals_deleting_it(family: str) -> None:
    model = make(family)
    tokens = model.tokens(TEXTS)
    skipped = logits(model, tokens, Intervention.skip(1))
    module = copy.deepcopy(model.network.module)
    blocks = module.get_submodule(f"{model.network.family.root}.{model.network.family.blocks}")
    del blocks[1]
    config = module.base_model.config
    config.num_hidden_layers = 2
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[0], config.layer_types[2]]
    deleted = logits(Model.from_pretrained(module, tokenizer=model.tokenizer), tokens)
    torch.testing.assert_close(skipped[tokens.mask], deleted[tokens.mask])


def test_ablation_by_hooks_equals_orthogonalised_weights(model: Model) -> None:
    """Projecting v out of everything that writes to the stream is W <- W - v v^T W (2406.11717)."""
    tokens = model.tokens(TEXTS)
    writers = [s for s in model.sites() if s.part in ("embed", "attn_out", "mlp_out")]
    hooked = logits(model, tokens, *(Intervention.project_out(site, V) for site in writers))
    module = copy.deepcopy(model.network.module)
    v = torch.from_numpy(V / np.linalg.norm(V))
    embedding = module.model.embed_tokens.weight
    embedding.data = embedding.data - (embedding.data @ v)[:, None] * v
    for block in module.model.layers:
        for writer in (block.self_attn.o_proj.weight, block.mlp.down_proj.weight):
            writer.data = writer.data - v[:, None] * (v @ writer.data)
    baked = logits(Model.from_pretrained(module, tokenizer=model.tokenizer), tokens)
    torch.testing.assert_close(hooked[tokens.mask], baked[tokens.mask], atol=1e-4, rtol=1e-4)
    assert (hooked - logits(model, tokens))[tokens.mask].abs().max() > 0.01


def test_a_patched_run_becomes_the_donor_s(model: Model) -> None:
    tokens, donor = model.tokens(["abcdef"]), model.tokens(["uvwxyz"])
    state = model.run(donor, capture=["blocks.1.resid_post"])["blocks.1.resid_post"].numpy()
    patched = logits(model, tokens, Intervention.patch("blocks.1.resid_post", state))
    # all tokens at one depth: nothing of the original is left
    assert torch.equal(patched, logits(model, donor))


def test_order_at_one_site_is_the_order_of_the_list(model: Model) -> None:
    tokens, site = model.tokens(TEXTS), Site(1, "resid_post")
    clamp, double = Intervention.clamp(site, V, 3.0), Intervention(site, Scale(2.0), Direction(V))
    unit = torch.from_numpy(V / (V @ V))
    for order, coordinate in (([clamp, double], 6.0), ([double, clamp], 3.0)):
        state = model.run(tokens, capture=[site], interventions=order)[site][tokens.mask]
        torch.testing.assert_close(state @ unit, torch.full((len(state),), coordinate), atol=1e-4, rtol=1e-4)


def test_a_read_site_is_seen_after_its_own_interventions(model: Model) -> None:
    """y' = y + W_D (g(E x) - E x) with x read one block earlier in the same, already changed, pass."""
    tokens, read, write = model.tokens(TEXTS), Site(0, "resid_post"), Site(1, "resid_post")
    basis = Direction(V, read=RNG.normal(size=D))
    early = Intervention.add(read, V, 0.5)
    before = model.run(tokens, capture=[read, write], interventions=[early])
    late = Intervention(write, Clamp(2.0), basis, read_site=read)
    after = model.run(tokens, capture=[write], interventions=[early, late])[write]
    x, y = before[read][tokens.mask], before[write][tokens.mask]
    z = x @ torch.from_numpy(basis.read_kd).T
    torch.testing.assert_close(after[tokens.mask], y + (2.0 - z) * torch.from_numpy(V))


def test_only_the_chosen_tokens_and_what_attends_to_them_change(model: Model) -> None:
    tokens, site = model.tokens(TEXTS), Site(1, "resid_pre")
    chosen = torch.from_numpy(Positions("content[-1]").mask(tokens.roles.numpy()))
    plain = model.run(tokens, capture=[site, "final_norm"])
    trace = model.run(tokens, capture=[site, "final_norm"], interventions=[Intervention.add(site, V, 1, "content[-1]")])
    assert torch.equal((trace[site] != plain[site]).any(-1), chosen)
    reached = chosen.cumsum(1) > 0
    assert torch.equal((trace["final_norm"] != plain["final_norm"]).any(-1) & tokens.mask, reached & tokens.mask)
    assert trace.changed == (len(TEXTS),)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_company_do_not_change_a_row(family: str) -> None:
    model = make(family)
    encodings = encode(model.tokenizer, TEXTS)
    change = [Intervention.add("blocks.0.resid_post", V, 1.0, "content")]
    sites = ["blocks.1.resid_post", "final_norm"]
    found = {}
    for side in ("left", "right"):
        tokens = pad(encodings, 0, side)
        trace = model.run(tokens, capture=sites, interventions=change)
        found[side] = [torch.stack([trace[s][i][tokens.mask[i]] for s in sites]) for i in range(len(TEXTS))]
    for i, row in enumerate(encodings):
        alone = model.run(pad([row], 0), capture=sites, interventions=change)
        expected = torch.stack([alone[s][0] for s in sites])
        torch.testing.assert_close(found["left"][i], expected, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(found["right"][i], expected, atol=2e-5, rtol=1e-4)


def test_a_pass_without_logits_ends_at_the_deepest_site(model: Model) -> None:
    module, ran = model.network.module, []
    names = {"block 1": module.model.layers[1], "block 2": module.model.layers[2], "head": module.lm_head}
    handles = [m.register_forward_hook(lambda *_, name=name: ran.append(name)) for name, m in names.items()]
    try:
        tokens = model.tokens(TEXTS)
        trace = model.run(tokens, capture=["blocks.0.mlp_out", "blocks.1.attn_out"], logits=False)
        assert (ran, trace.logits) == ([], None)
        model.run(tokens, capture=["final_norm"], logits=False)
        assert ran == ["block 1", "block 2"]
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, MemoryError])
def test_hooks_never_outlive_a_call(model: Model, error: type[BaseException]) -> None:
    def fail(z: torch.Tensor, context: Any) -> torch.Tensor:
        raise error("in the middle of a block")

    tokens, plain = model.tokens(TEXTS), logits(model, model.tokens(TEXTS))
    failing = Intervention(Site(1, "mlp_out"), fail)
    with pytest.raises(error):
        model.run(tokens, capture=model.sites(), interventions=[Intervention.add("embed", V), failing])
    assert hooks_on(model) == 0
    model.run(tokens, capture=["blocks.1.resid_mid"], logits=False)
    with pytest.raises(error):
        model.generate(TEXTS, max_new_tokens=2, interventions=[failing])
    assert hooks_on(model) == 0
    assert torch.equal(logits(model, tokens), plain)


def test_hooks_are_gone_when_the_last_of_them_cannot_be_attached(model: Model) -> None:
    with pytest.raises(AttributeError):
        model.network.module.get_submodule("model.layers.9")
    with pytest.raises(UserError, match="blocks 0 to 2"):
        model.run(model.tokens(TEXTS), capture=["embed", "blocks.9.mlp_out"])
    assert hooks_on(model) == 0


def test_gradients_flow_to_every_captured_site(model: Model) -> None:
    tokens = model.tokens(TEXTS[:1])
    sites = model.sites()
    trace = model.run(tokens, capture=sites, interventions=[Intervention.add("blocks.1.resid_mid", V, 0.1)], grad=True)
    assert trace.logits is not None
    target = trace.logits[0, -1, 7]
    gradients = torch.autograd.grad(target, [trace[s] for s in sites])
    assert all(g.abs().sum() > 0 for g in gradients)
    step = 1e-2 * V / np.linalg.norm(V)
    for site in (Site(0, "attn_out"), Site(1, "resid_mid"), Site(2, "resid_pre")):
        last = Intervention.add(site, step, 1.0, "last")
        base = Intervention.add("blocks.1.resid_mid", V, 0.1)
        order = [base, last]
        moved = logits(model, tokens, *order)[0, -1, 7] - target.detach()
        slope = gradients[sites.index(site)][0, -1] @ torch.from_numpy(step)
        torch.testing.assert_close(moved, slope, atol=2e-4, rtol=0.02)


def test_captured_states_are_not_edited_afterwards(model: Model) -> None:
    """A later in-place edit would show in the state captured before it: resid_mid is written in place."""
    tokens = model.tokens(TEXTS)
    plain = model.run(tokens, capture=["blocks.1.attn_out", "blocks.1.resid_pre"])
    edited = model.run(
        tokens,
        capture=["blocks.1.attn_out", "blocks.1.resid_pre"],
        interventions=[Intervention.add("blocks.1.resid_mid", V, 9.0)],
    )
    for site in ("blocks.1.attn_out", "blocks.1.resid_pre"):
        assert torch.equal(plain[site], edited[site])


def test_interventions_from_json_act_alike(model: Model) -> None:
    tokens = model.tokens(TEXTS)
    chosen = [
        Intervention.skip(1),
        Intervention.add("blocks.2.mlp_out", V, 0.7, "last"),
        Intervention.project_out("embed", V),
    ]
    again = [Intervention.from_json(json.loads(json.dumps(i.to_json()))) for i in chosen]
    assert torch.equal(logits(model, tokens, *chosen), logits(model, tokens, *again))


@pytest.mark.parametrize(
    ("intervention", "message"),
    [
        (Intervention.add("blocks.1.resid_post", V, 1.0, "generated"), "matched no token"),
        (Intervention.add("blocks.1.resid_post", V[:7]), "vectors of 7 numbers"),
        (Intervention.patch("blocks.1.resid_post", np.ones((1, 3, D), np.float32)), "donor"),
        (Intervention.patch("blocks.1.resid_post", np.ones((2, 99, D), np.float32)), "donor"),
        (Intervention.add("blocks.3.resid_post", V), "blocks 0 to 2"),
    ],
)
def test_interventions_that_cannot_act_are_errors(model: Model, intervention: Intervention, message: str) -> None:
    with pytest.raises(UserError, match=message):
        model.run(model.tokens(TEXTS), interventions=[intervention])


def test_an_intervention_past_the_end_of_the_pass_is_an_error(model: Model) -> None:
    late = Intervention.add("blocks.2.resid_post", V)
    with pytest.raises(UserError, match="cannot reach"):
        model.run(model.tokens(TEXTS), capture=["blocks.1.resid_post"], interventions=[late], logits=False)


def test_an_intervention_that_changes_nothing_is_warned_of_and_counted(model: Model) -> None:
    nothing = Intervention.add("blocks.1.resid_post", V, 0.0)
    with pytest.warns(NoEffect, match="changed none"):
        trace = model.run(model.tokens(TEXTS), interventions=[nothing, Intervention.add("embed", V)])
    assert trace.changed[0] == 0 < trace.changed[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.run(model.tokens(TEXTS), interventions=[Intervention.add("embed", V)])


def test_effects_are_counted_without_looking_back_at_every_pass(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    changed = Effects.changed
    monkeypatch.setattr(Effects, "changed", lambda effects: looked.append(1) or changed(effects))
    effects = Effects([Intervention.add("embed", V)])
    for _ in range(3):
        run(model.network, model.tokens(TEXTS), effects=effects, logits=True)
    assert not looked
    assert effects.check() == (3 * int(model.tokens(TEXTS).mask.sum()),)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_longer_than_the_context_is_refused(family: str) -> None:
    model = make(family)
    fits, over = (pad(encode(model.tokenizer, ["x" * n], "raw", max_tokens=999), 0) for n in (512, 513))
    model.run(fits, capture=["embed"], logits=False)
    with pytest.raises(UserError, match="context of 512"):
        model.run(over, capture=["embed"], logits=False)


def test_running_for_nothing_is_an_error(model: Model) -> None:
    with pytest.raises(UserError, match="nothing to run for"):
        model.run(model.tokens(TEXTS), logits=False)


def test_an_intervention_may_read_the_site_that_it_changes(model: Model) -> None:
    tokens, site = model.tokens(TEXTS), Site(1, "resid_post")
    double = Intervention(site, Scale(2.0), Direction(V))
    there = Intervention(site, Clamp(3.0), Direction(V), read_site=site)
    here = Intervention.clamp(site, V, 3.0)
    found, expected = (model.run(tokens, capture=[site], interventions=[double, last])[site] for last in (there, here))
    assert torch.equal(found, expected)  # after what stands before it in the list
    with pytest.warns(NoEffect):
        model.run(tokens, interventions=[Intervention.patch(site, site)])


@pytest.mark.parametrize("shape", [(7,), (1, 99, 7), (3, 99, 7), ()])
def test_states_of_another_width_are_refused_in_any_basis(model: Model, shape: tuple[int, ...]) -> None:
    donor = np.ones(shape, np.float32)
    for basis in (Identity(), Direction(V)):
        with pytest.raises(UserError, match=r"holds states of shape|donor"):
            model.run(model.tokens(TEXTS), interventions=[Intervention.patch("embed", donor, basis)])
    mean = Intervention(Site(None, "embed"), Mean(np.ones((2, 7), np.float32)))
    with pytest.raises(UserError, match=r"holds states of shape \(2, 7\), the model's have 32"):
        model.run(model.tokens(TEXTS), interventions=[mean])
