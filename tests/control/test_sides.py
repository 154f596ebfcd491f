"""The oracle's tilt by hand, an edit of the logits, the direct share, and where an edit acts."""

import numpy as np
import pytest
import torch
from torch import Tensor

from theodolite.control.calibrate import Curve, calibrate
from theodolite.control.control import LatentControl
from theodolite.control.dial import Dialled
from theodolite.control.direct import direct_log_probs, direct_share
from theodolite.control.disturbance import acting, firing_share, kl_acting, kl_of_tokens, over_generations
from theodolite.control.effects import ScoredOpenings, Targets
from theodolite.control.passes import Passes
from theodolite.control.policy import Intervened
from theodolite.control.tilt import Tilt, ceiling, first_tokens
from theodolite.core.basis import Direction
from theodolite.core.condition import Condition
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.dictionaries.activations import ReluRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.models.generate import Decoding
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

TEXTS = ["hello there", "how are you, all of you?", "xyz"]
V = np.random.default_rng(0).normal(size=32).astype(np.float32)


def planted_dictionary() -> Dictionary:
    """Four random latents, of which each fires at some tokens."""
    g = torch.Generator().manual_seed(0)
    W_enc, W_dec = (torch.randn(4, 32, generator=g) for _ in range(2))
    return Dictionary(W_enc, torch.full((4,), -3.0), W_dec, torch.zeros(32), activation=ReluRule())


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model(), byte_tokenizer())


@pytest.fixture(scope="module")
def passes(model: Model) -> Passes:
    return Passes.of(model, TEXTS)


def test_a_tilt_by_hand_on_three_tokens() -> None:
    base = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    for t in (0.7, -1.3):
        weighed = base * np.exp(t * np.array([0.0, 1.0, -1.0]))
        tilted = weighed / weighed.sum(1, keepdims=True)
        expected = (base * np.log(base / tilted)).sum(1)
        np.testing.assert_allclose(Tilt((1,), (2,)).kl(np.log(base), t), expected, rtol=1e-12)
    assert Tilt((1,), (2,)).kl(np.log(base), 0.0).tolist() == [0.0, 0.0]
    # far out all mass is on token 1: KL = t - log p - t (p - q) + ...
    assert Tilt((1,), ()).kl(np.log(base), 500.0)[0] == pytest.approx(500 + np.log(0.3) - 150)


def test_the_tilt_of_a_model_costs_its_nats_and_no_pass(model: Model, passes: Passes) -> None:
    tilt = first_tokens(model, ["ab", "cd"], ["e"])
    spent = passes.spent
    for nats, sign in ((0.03, 1), (0.3, -1)):
        t = tilt.strength(passes, nats, sign)
        policy = tilt.at(model, t)
        assert t * sign > 0
        assert passes.kl_of_rows(policy).mean() == pytest.approx(nats, rel=1e-4)
        moved = passes.log_probs(policy) - passes.clean
        gain = moved[:, tilt.positive[0]] - moved[:, tilt.negative[0]]
        torch.testing.assert_close(gain, torch.full_like(gain, 2 * t), atol=1e-4, rtol=1e-4)
    assert passes.spent == spent
    assert passes.kl(tilt.at(model, 0.0)).tolist() == [0.0] * 3
    with pytest.raises(UserError, match="begins a positive and a negative"):
        Tilt((1,), (1, 2))
    with pytest.raises(UserError, match="it has no first token"):
        first_tokens(model, [""])


def test_an_edit_of_the_logits_is_that_of_whole_passes_alone_and_behind_another(model: Model, passes: Passes) -> None:
    bias = np.random.default_rng(1).normal(size=260).astype(np.float32)
    end = Intervention.add("logits", bias, 0.5, "content")
    early = Intervention.add("blocks.1.resid_post", V)
    places = passes.targets.nonzero()
    for changes in ((end,), (early, end)):
        found = passes.log_probs(Intervened(model, changes))
        whole = model.run(model.tokens(TEXTS, format="raw", max_tokens=24), interventions=changes).logits
        torch.testing.assert_close(found, whole[places[:, 0], places[:, 1]].log_softmax(-1), atol=1e-4, rtol=1e-4)
    with pytest.raises(UserError, match="has vectors of 32 numbers, the vocabulary has 260"):
        passes.kl(Intervened(model, (Intervention.add("logits", V),)))


def log_odds(log_probs: Tensor) -> float:
    return float((log_probs[:, 70] - log_probs[:, 80]).mean())


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_an_edit_that_no_later_block_works_with_is_all_direct(family: str) -> None:
    """With later blocks that write nothing the share is 1; with their own weights it is another number."""
    for zeroed in (True, False):
        module = tiny_model(family)
        model = Model(module, byte_tokenizer())
        for name in ("attn_out", "mlp_out") if zeroed else ():
            writer, _ = model.network.locate(model.site(f"blocks.2.{name}"))
            for parameter in writer.parameters():
                parameter.data.zero_()  # of the norm that ends the write in Gemma 2, whose weight counts from 1
            if family == "gemma2":
                writer.weight.data.fill_(-1.0)
        passes = Passes.of(model, TEXTS, batch_tokens=30)
        for site in ("blocks.1.resid_post", "blocks.1.mlp_act"):
            width = 32 if site.endswith("post") else 48
            policy = Intervened(model, (Intervention.add(site, np.resize(V, width)),))
            share = direct_share(policy, passes, log_odds)
            if zeroed:
                assert share == pytest.approx(1.0, abs=1e-3), site
            else:
                assert abs(share - 1) > 0.01, site


def test_the_direct_path_is_the_clean_stream_with_the_edit_added_behind_the_last_block(
    model: Model, passes: Passes
) -> None:
    policy = Intervened(model, (Intervention.add("blocks.1.resid_post", V),))
    order = torch.cat(passes.rows_of_batches()).argsort()
    stream = torch.cat(passes.states(model.site("blocks.2.resid_post")))[order]
    norm, _ = model.network.locate(model.site("final_norm"))
    by_hand = model.network.unembed(norm(stream + torch.as_tensor(V))).log_softmax(1).detach()
    torch.testing.assert_close(direct_log_probs(policy, passes), by_hand, atol=1e-4, rtol=1e-4)
    clean, whole = log_odds(passes.clean), log_odds(passes.log_probs(policy))
    assert direct_share(policy, passes, log_odds) == pytest.approx(
        (log_odds(by_hand) - clean) / (whole - clean), rel=1e-3
    )


def test_the_direct_path_of_the_last_block_is_the_whole_effect(model: Model, passes: Passes) -> None:
    for site in ("blocks.2.resid_post", "final_norm"):
        policy = Intervened(model, (Intervention.add(site, V),))
        torch.testing.assert_close(direct_log_probs(policy, passes), passes.log_probs(policy), atol=1e-5, rtol=1e-4)
    assert np.isnan(direct_share(Intervened(model), passes, log_odds))
    two = tuple(Intervention.add(f"blocks.{n}.resid_post", V) for n in (0, 1))
    with pytest.raises(UserError, match="that of one site"):
        direct_share(Intervened(model, two), passes, log_odds)


def test_the_divergence_where_an_edit_acts_leaves_the_other_tokens_out(model: Model, passes: Passes) -> None:
    site = model.site("blocks.1.resid_post")
    z = torch.cat(passes.states(site)) @ torch.from_numpy(V) / float(V @ V)
    middle = float(z.sort().values[len(z) // 2 :][:2].mean())  # between two tokens, so that rounding decides nothing
    change = Intervention.add(site, V, 1.0, when=Condition(Direction(V), above=middle))
    policy = Intervened(model, (change,))
    where = acting(policy, passes)
    order = torch.cat(passes.rows_of_batches())
    np.testing.assert_array_equal(where[order], (z > middle).numpy())
    rows = passes.kl_of_rows(policy)
    assert kl_acting(policy, passes) == pytest.approx(rows[where].mean())
    assert rows[where].mean() > rows[~where].mean()
    assert acting(Dialled(model, "Be brief. ", 0.5), passes).all()
    assert np.isnan(kl_acting(Intervened(model), passes))


def test_latents_are_set_to_their_percentile_and_their_firing_is_counted(model: Model, passes: Passes) -> None:
    site = model.site("blocks.1.resid_post")
    dictionary = planted_dictionary()
    control = LatentControl(model, "latent_set", site, dictionary, [0, 1], np.array([2.0, 4.0]), np.array([1.0, -1.0]))
    states = torch.cat(passes.states(site))
    fires = (dictionary.encode(states)[:, :2] != 0).any(1).float().mean()
    assert 0 < fires < 1
    assert firing_share(control.at(0.5), passes) == pytest.approx(float(fires))
    assert control.at(0.5).interventions[0].rule.value.tolist() == [1.0, -2.0]
    assert passes.kl(control.at(0.0)).tolist() == [0.0] * 3
    assert np.isnan(firing_share(Intervened(model), passes))
    # set to almost nothing, they lose what they fire by themselves: the disturbance does not begin at 0
    floor = passes.kl_of_rows(control.at(1e-6)).mean()
    assert floor > 0
    assert calibrate(Curve(control, passes), floor / 2).reason == "floor"
    for bad, match in (([2.0, 0.0], "never fire"), ([2.0], "2 percentiles")):
        with pytest.raises(UserError, match=match):
            LatentControl(model, "latent_set", site, dictionary, [0, 1], np.array(bad))


def test_on_its_own_text_a_policy_is_compared_at_the_tokens_that_it_wrote(model: Model) -> None:
    policy = Intervened(model, (Intervention.add("blocks.1.resid_post", V, 2.0, "last+generated"),))
    written = policy.generate(TEXTS, Decoding(max_new_tokens=4))
    passes = over_generations(model, TEXTS, written, changes=policy.interventions)
    before = passes.spent
    found = passes.kl(policy)
    assert passes.spent - before == pytest.approx(2 / 3), "states before the change are there from the first pass"
    assert found.tolist() == over_generations(model, TEXTS, written).kl(policy).tolist()
    for number in (0, 1):
        each = kl_of_tokens(model, policy, TEXTS[number], written[number])
        assert each.shape == (len(written[number].ids),)
        assert found[number] == pytest.approx(each.mean(), abs=1e-5)
    prompt = model.run(model.tokens(TEXTS[0], format="raw"), interventions=policy.interventions[0].at(2.0))
    clean = model.run(model.tokens(TEXTS[0], format="raw")).logits[0, -1].double().log_softmax(0)
    changed = prompt.logits[0, -1].double().log_softmax(0)
    first = float((clean.exp() * (clean - changed)).sum())
    assert kl_of_tokens(model, policy, TEXTS[0], written[0])[0] == pytest.approx(first, rel=1e-3)


def test_the_ceiling_on_single_tokens_is_the_sum_of_both_tilts() -> None:
    model = Model(tiny_model(), byte_tokenizer())
    passes = Passes.of(model, ["a text", "another one, longer"])
    openings = ScoredOpenings(model, ["It was", "Now"], Targets(("a", "b"), ("c",)))
    tilt = first_tokens(model, ["a", "b"], ["c"])
    up, down = (tilt.strength(passes, 0.1, sign) for sign in (1, -1))
    # log-odds move by 2 t on each side, so half the distance is t+ - t-
    assert ceiling(openings, passes, 0.1) == pytest.approx([up - down] * 2, rel=1e-4)
    assert ceiling(ScoredOpenings(model, ["It was"], Targets(("ab",), ("ac",))), passes, 0.1) is None
