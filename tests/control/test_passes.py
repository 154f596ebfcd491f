"""Passes over fixed tokens: bit for bit whole passes, with the divergence of the model and the cost that was paid."""

import numpy as np
import pytest
import torch

from theodolite.control.passes import Passes
from theodolite.control.policy import Intervened
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.models.model import Model
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model

TEXTS = ["hello there", "how are you, all of you?", "xyz", "one more text"]
V = np.random.default_rng(0).normal(size=32).astype(np.float32)


def make(family: str = "llama") -> Model:
    return Model(tiny_model(family), byte_tokenizer())


def push(model: Model, site: str, strength: float = 1.0, positions: str = "all") -> Intervened:
    return Intervened(model, (Intervention.add(site, V, strength, positions),))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_policy_has_the_divergence_of_the_model_and_the_predictions_of_whole_passes(family: str) -> None:
    model = make(family)
    passes = Passes.of(model, TEXTS, max_tokens=12)
    tokens = model.tokens(TEXTS, format="raw", max_tokens=12)
    places = passes.targets.nonzero()
    for site in ("embed", "blocks.0.mlp_out", "blocks.1.resid_post", "blocks.2.resid_pre", "final_norm"):
        policy = push(model, site, 0.5)
        found = passes.log_probs(policy)
        whole = model.run(tokens, interventions=policy.interventions).logits[places[:, 0], places[:, 1]]
        torch.testing.assert_close(found, whole.float().log_softmax(-1), atol=1e-4, rtol=1e-4)
        expected = model.kl_per_text(TEXTS, interventions=policy.interventions, positions="all", max_tokens=12)
        np.testing.assert_array_equal(passes.kl(policy), expected)
        assert expected.min() > 1e-4, site


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_a_pass_from_the_first_changed_block_is_the_whole_pass_bit_for_bit(family: str) -> None:
    """The same change is made to run whole by another one at the embedding, which moves nothing."""
    model = make(family)
    passes = Passes.of(model, TEXTS, batch_tokens=30)
    nothing = Intervention.add("embed", V, 0.0)
    for site in ("blocks.1.attn_out", "blocks.2.resid_post"):
        policy = push(model, site)
        with pytest.warns(UserWarning, match="changed none"):
            whole = passes.log_probs(Intervened(model, (nothing, *policy.interventions)))
        assert torch.equal(passes.log_probs(policy), whole)


def test_without_interventions_the_divergence_is_exactly_0_and_costs_nothing() -> None:
    model = make()
    passes = Passes.of(model, TEXTS)
    assert passes.kl(Intervened(model)).tolist() == [0.0] * 4
    assert passes.spent == 0
    assert passes.shared == pytest.approx(1.0)


def test_spent_counts_blocks_and_the_states_before_a_block_run_once() -> None:
    model = make()
    passes = Passes.of(model, TEXTS, batch_tokens=30)
    for policy, once, cost in (
        (push(model, "blocks.2.resid_pre"), 2 / 3, 1 / 3),  # the states before block 2, then block 2
        (push(model, "blocks.2.resid_post"), 0, 1 / 3),
        (push(model, "blocks.1.resid_mid"), 1 / 3, 2 / 3),
        (push(model, "blocks.2.mlp_out"), 0, 1 / 3),
        (push(model, "final_norm"), 0, 1 / 3),
        (push(model, "embed"), 0, 1.0),
    ):
        before, shared = passes.spent, passes.shared
        passes.kl(policy)
        assert passes.spent - before == pytest.approx(cost), policy
        assert passes.shared - shared == pytest.approx(once), policy


def test_states_before_a_block_go_on_from_those_before_an_earlier_one() -> None:
    model = make()
    passes = Passes.of(model, TEXTS)
    passes.kl(push(model, "blocks.1.resid_pre"))
    before = passes.shared
    later = passes.starts(2)
    assert passes.shared - before == pytest.approx(1 / 3)
    fresh = Passes.of(model, TEXTS).starts(2)
    for one, other in zip(later, fresh, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one.state, other.state)


def test_rows_are_in_the_order_of_the_texts_whatever_the_batches() -> None:
    model = make()
    policy = push(model, "blocks.1.resid_post", positions="content[-1]")
    whole = Passes.of(model, TEXTS, positions="content")
    small = Passes.of(model, TEXTS, positions="content", batch_tokens=15)
    assert len(small.rows_of_batches()) > len(whole.rows_of_batches())
    torch.testing.assert_close(whole.clean, small.clean, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(whole.kl_of_rows(policy), small.kl_of_rows(policy), atol=1e-5)
    assert whole.text_of_row.tolist() == sorted(whole.text_of_row.tolist())
    alone = Passes.of(model, TEXTS[2:3], positions="content")
    torch.testing.assert_close(whole.clean[whole.text_of_row == 2], alone.clean, atol=1e-4, rtol=1e-4)


def test_states_are_those_of_a_run_at_the_targets() -> None:
    model = make()
    passes = Passes.of(model, TEXTS, batch_tokens=30)
    policy = push(model, "blocks.1.attn_out")
    tokens = model.tokens(TEXTS, format="raw", max_tokens=24)
    for site in ("embed", "blocks.1.resid_post", "blocks.2.resid_pre", "final_norm"):
        for changes in ((), policy.interventions):
            rows = torch.empty(passes.n_rows, 32)
            for where, states in zip(passes.rows_of_batches(), passes.states(model.site(site), changes), strict=True):
                rows[where] = states
            acting = changes if not model.site(site) < model.site("blocks.1.attn_out") else ()
            expected = model.run(tokens, site, acting)[site][passes.targets]
            torch.testing.assert_close(rows, expected, atol=1e-4, rtol=1e-4)


def test_bad_passes_are_refused() -> None:
    model = make()
    passes = Passes.of(model, TEXTS)
    with pytest.raises(UserError, match="the passes are of"):
        passes.kl(push(make(), "embed"))
    with pytest.raises(UserError, match="mask of the tokens"):
        Passes(model, passes.tokens, passes.targets[:2])
    with pytest.raises(UserError, match="no target may be padding"):
        Passes(model, passes.tokens, torch.ones_like(passes.targets))


def test_nan_stops_with_the_cause() -> None:
    """States whose logits overflow: the message names the intervention and a way out."""
    model = make()
    passes = Passes.of(model, TEXTS)
    with pytest.raises(UserError, match=r"(NaN or infinite).*(smaller strength)"):
        passes.kl(push(model, "final_norm", 1e38))
    assert np.isfinite(passes.kl(push(model, "blocks.1.resid_post"))).all()


def test_more_than_memory_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("theodolite.models.preflight.available", lambda device="cpu": 10**5)
    with pytest.raises(UserError, match="give fewer texts or tokens"):
        Passes.of(make(), TEXTS, batch_tokens=100)


@pytest.mark.parametrize("site", ["blocks.1.resid_post", "logits"])
def test_a_change_whose_positions_hold_no_token_is_refused_wherever_it_acts(site: str) -> None:
    model = Model(tiny_model(), byte_tokenizer())
    passes, width = Passes.of(model, ["a text"]), 260 if site == "logits" else 32
    push = Intervened(model, (Intervention.add(site, [1.0] * width, 2.0, "generated"),))
    with pytest.raises(UserError, match="matched no token"):
        passes.kl(push)
