"""Reading and scoring texts: rows, embeddings, losses and log-probabilities against plain transformers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.positions import POOLINGS, Positions, Role, pooled_over
from theodolite.core.site import Site
from theodolite.models.harvest import harvest
from theodolite.models.harvest_plan import HarvestPlan
from theodolite.models.model import Model
from theodolite.models.sweep import batches
from theodolite.models.tokens import Tokens, Truncated
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model

TEXTS = ["hello there", "b", "a rather longer text, to make lengths unlike", "hello there!"]
SCORED = ["hello there", "bcd", "a rather longer text"]  # a raw text of one token has nothing to predict
SITES = ["blocks.0.resid_mid", "blocks.1.resid_post"]
V = np.random.default_rng(1).normal(size=32).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.from_pretrained(tiny_model(), tokenizer=byte_tokenizer())


def rows_by_hand(model: Model, text: str, site: str, role: Role = Role.CONTENT) -> np.ndarray:
    """One text, whole model, no padding, no cache."""
    tokens = model.tokens([text])
    return model.run(tokens, capture=[site])[site][0][tokens.roles[0] == role].numpy()


@pytest.mark.parametrize("batch_tokens", [1, 64, 8192])
def test_token_rows_come_in_the_order_of_the_texts_whatever_the_batches(model: Model, batch_tokens: int) -> None:
    found = model.read(TEXTS, SITES, pooling=None, batch_tokens=batch_tokens)
    for site in SITES:
        acts = found[Site.parse(site)]
        for i, text in enumerate(TEXTS):
            np.testing.assert_allclose(acts.rows[acts.doc == i], rows_by_hand(model, text, site), atol=1e-5)
        assert (np.diff(acts.doc) >= 0).all()
        assert (acts.model_hash, acts.rows.dtype) == (model.hash, np.float32)


@pytest.mark.parametrize("how", POOLINGS)
def test_pooling_in_the_model_equals_pooling_the_rows(model: Model, how: str) -> None:
    site = Site.parse(SITES[1])
    pooled = model.read(TEXTS, site, pooling=how)[site]
    over = str(pooled_over(Positions("content"), how))
    expected = model.read(TEXTS, site, positions=over, pooling=None)[site].pool(how)
    np.testing.assert_allclose(pooled.rows, expected.rows, atol=1e-5)
    assert pooled.doc.tolist() == list(range(len(TEXTS)))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_shared_start_changes_nothing(family: str) -> None:
    """Rows behind a cached template equal those of the whole text, in every family and at every depth."""
    model = Model.from_pretrained(tiny_model(family), tokenizer=byte_tokenizer())
    alone = []
    for text in TEXTS:
        tokens = model.tokens([text])
        kept = (tokens.roles[0] == Role.CONTENT) | (tokens.roles[0] == Role.SUFFIX)
        trace = model.run(tokens, capture=model.sites(), logits=False)
        alone.append({site: trace[site][0][kept].numpy() for site in model.sites()})
    for wanted in (model.sites()[:1], model.sites()[:4], model.sites()):
        for site, acts in model.read(TEXTS, wanted, positions="content+suffix", pooling=None).items():
            expected = np.concatenate([states[site] for states in alone])
            np.testing.assert_allclose(acts.rows, expected, atol=5e-5, rtol=1e-4, err_msg=str(site))


def test_the_start_runs_once_and_the_rest_once(model: Model, spy: Callable[..., None]) -> None:
    seen: list[int] = []
    spy(model.network.module.model.embed_tokens, lambda args: seen.append(args[0].numel()))
    model.read(TEXTS, SITES[1])
    tokens = model.tokens(TEXTS)
    start = int((tokens.roles[0] == Role.PREFIX).sum())
    assert seen == [start, len(TEXTS) * (tokens.lengths.max() - start)]


def test_reading_the_template_itself_is_possible(model: Model) -> None:
    site = Site.parse(SITES[0])
    acts = model.read(TEXTS[:2], site, positions="prefix[1:]", pooling=None)[site]
    expected = rows_by_hand(model, TEXTS[1], SITES[0], Role.PREFIX)[1:]
    np.testing.assert_allclose(acts.rows[acts.doc == 1], expected, atol=1e-5)


def test_interventions_reach_what_is_read_also_from_the_template(model: Model) -> None:
    site = Site.parse(SITES[1])
    change = [Intervention.add("blocks.0.resid_pre", V, 1.0, "prefix")]
    found = model.read(TEXTS, site, interventions=change)[site]
    for i, text in enumerate(TEXTS):
        tokens = model.tokens([text])
        states = model.run(tokens, capture=[site], interventions=change)[site][0]
        expected = states[tokens.roles[0] == Role.CONTENT].mean(0).numpy()
        np.testing.assert_allclose(found.rows[i], expected, atol=1e-5)
    assert np.abs(found.rows - model.read(TEXTS, site)[site].rows).min(1).max() > 0


def test_a_text_without_content_is_named(model: Model) -> None:
    with pytest.raises(UserError, match="the first is text 1"):
        model.read(["a", ""], SITES)


def test_batches_hold_every_text_once_and_keep_the_limit() -> None:
    rng = np.random.default_rng(0)
    for limit in (10, 300, 5000):
        lengths = rng.integers(1, 200, 500)
        parts = batches(lengths, limit)
        assert sorted(np.concatenate(parts).tolist()) == list(range(500))
        for part in parts:
            assert len(part) == 1 or lengths[part].max() * len(part) <= limit
    padded = sum(lengths[part].max() * len(part) for part in batches(lengths, 8192))
    assert padded < 1.15 * lengths.sum()


def test_embeddings_are_means_over_content(model: Model) -> None:
    table = model.network.module.model.embed_tokens.weight.detach()
    expected = torch.stack(
        [table[model.tokenizer(text, return_tensors="pt")["input_ids"][0]].mean(0) for text in TEXTS]
    )
    np.testing.assert_allclose(model.embed(TEXTS), expected.numpy(), atol=1e-6)


def test_loss_is_that_of_transformers(model: Model) -> None:
    found = model.loss(SCORED)
    for i, text in enumerate(SCORED):
        ids = model.tokens([text], format="raw").ids
        with torch.no_grad():
            plain = model.network.module(input_ids=ids, labels=ids).loss
        assert found.loss[i] == pytest.approx(float(plain), abs=1e-5)
        assert found.n_tokens[i] == ids.shape[1] - 1


def test_loss_weights_tokens_and_takes_interventions(model: Model) -> None:
    scored = model.loss(SCORED)
    assert scored.mean_loss == pytest.approx(float((scored.loss * scored.n_tokens).sum() / scored.n_tokens.sum()))
    flat = Intervention.patch("final_norm", np.zeros(32, np.float32))
    uniform = model.loss(SCORED, interventions=[flat])
    np.testing.assert_allclose(uniform.loss, np.log(260), atol=1e-5)  # tied to nothing: no bias in the head


@pytest.mark.parametrize("form", ["chat", "raw"])
def test_logprobs_are_sums_over_the_continuation(model: Model, form: str) -> None:
    prompts, answers = ["one", "a longer prompt"], ["yes", " no, never"]
    found = model.logprobs(prompts, answers, format=form)  # type: ignore[arg-type]
    for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        before = model.tokens([prompt], format=form).ids[0].tolist()  # type: ignore[arg-type]
        after = model.tokenizer(answer)["input_ids"]
        ids = torch.tensor([before + after])
        with torch.no_grad():
            table = model.network.module(ids).logits.log_softmax(-1)[0]
        expected = sum(float(table[len(before) + k - 1, token]) for k, token in enumerate(after))
        assert found.log_prob[i] == pytest.approx(expected, abs=1e-4)
        assert found.n_tokens[i] == len(after)


def test_scores_do_not_depend_on_the_batch(model: Model) -> None:
    together = model.logprobs(["a", "bb", "cccccc"], ["x", "yy", "zzz"])
    small = model.logprobs(["a", "bb", "cccccc"], ["x", "yy", "zzz"], batch_tokens=1)
    np.testing.assert_allclose(together.log_prob, small.log_prob, atol=1e-4)


def test_what_cannot_be_scored_is_refused(model: Model) -> None:
    with pytest.raises(UserError, match="nothing before it"):
        model.loss(["abc"], positions="first+content")
    with pytest.raises(UserError, match="2 prompts and 1 continuations"):
        model.logprobs(["a", "b"], ["c"])
    with pytest.raises(UserError, match="no token at 'generated'"):
        model.logprobs(["a", "b"], ["c", ""])


UNLIKE = ["hello there", "bcd", "a rather longer text, to make lengths unlike", "hello there!", "the longest " * 4]


def _donors(model: Model, tokens: Tokens) -> tuple[np.ndarray, list[Intervention]]:
    """States of its own for every token of every text, (n, t, d), and the patch that puts them in."""
    donor = np.random.default_rng(0).normal(size=(*tokens.ids.shape, model.d_model)).astype(np.float32)
    return donor, [Intervention.patch("blocks.1.resid_post", donor)]


@pytest.mark.parametrize("batch_tokens", [1, 90, 8192])
def test_a_text_gets_its_own_donor_in_whatever_batch_it_runs(model: Model, batch_tokens: int) -> None:
    """Texts run in the order of their lengths, donors come in the order of the texts."""
    tokens = model.tokens(UNLIKE)
    donor, change = _donors(model, tokens)
    site, content = Site(1, "resid_post"), tokens.roles.numpy() == Role.CONTENT
    found = model.read(UNLIKE, site, pooling=None, interventions=change, batch_tokens=batch_tokens)[site]
    np.testing.assert_array_equal(found.rows, donor[content])


def test_scores_of_a_patched_text_are_those_it_has_alone(model: Model) -> None:
    tokens = model.tokens(UNLIKE, format="raw")
    donor, change = _donors(model, tokens)
    prompts, answers = ["one", "a longer prompt", "x"], [" yes", " no, never", " b"]
    joined = model.tokens([p + a for p, a in zip(prompts, answers, strict=True)], format="raw")
    other, asked = _donors(model, joined)
    alone = [
        float(model.loss([text], interventions=[Intervention.patch("blocks.1.resid_post", one)]).loss[0])
        for text, one in zip(UNLIKE, donor, strict=True)
    ]
    single = [
        model.logprobs([p], [a], format="raw", interventions=[Intervention.patch("blocks.1.resid_post", one)]).log_prob
        for p, a, one in zip(prompts, answers, other, strict=True)
    ]
    for batch_tokens in (1, 60, 8192):
        found = model.loss(UNLIKE, interventions=change, batch_tokens=batch_tokens).loss
        np.testing.assert_allclose(found, alone, atol=1e-4)
        scored = model.logprobs(prompts, answers, format="raw", interventions=asked, batch_tokens=batch_tokens)
        np.testing.assert_allclose(scored.log_prob, np.concatenate(single), atol=1e-4)
    with pytest.raises(UserError, match="donor"):  # as many rows as some batch has, but not as the call
        model.loss(UNLIKE, interventions=[Intervention.patch("blocks.1.resid_post", donor[:2])], batch_tokens=60)


def test_pooling_last_is_the_last_token_of_all_as_in_a_harvest(model: Model, tmp_path: Path) -> None:
    site = Site.parse(SITES[1])
    rows = harvest(model, TEXTS, tmp_path / "rows", HarvestPlan(pooled_sites=[site], poolings=("last",)))
    read = model.read(TEXTS, site, pooling="last")[site].rows
    np.testing.assert_allclose(read, rows.pooled(site, "last"), atol=1e-5)
    with pytest.raises(UserError, match="no token at 'content'"):
        model.read([*TEXTS, ""], site, pooling="last")


def test_texts_cut_at_a_limit_that_nobody_gave_are_counted(model: Model) -> None:
    texts = ["x" * 300, "y", "z" * 257]
    calls = [
        lambda **how: model.read(texts, SITES[0], **how),
        lambda **how: model.embed(texts, **how),
        lambda **how: model.loss(["yy", *texts[::2]], **how),
        lambda **how: model.logprobs(texts, [" a"] * 3, **how),
        lambda **how: model.generate(texts, max_new_tokens=1, **how),
    ]
    for call in calls:
        with pytest.warns(Truncated, match="2 of 3 texts have more than 256 tokens"):
            call()
        call(max_tokens=256)  # warnings are errors here
