"""Laws of interventions: every rule on a random model of every family, and the site of the logits in every path."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from theodolite.core.basis import Direction, Identity, Subspace
from theodolite.core.condition import Condition
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.leace import Leace
from theodolite.core.rules import Add, Clamp, Mean, Patch, Piecewise, Rotate, Scale, Zero, rules
from theodolite.core.site import Site
from theodolite.models.generate import Decoding, generate
from theodolite.models.model import Model
from theodolite.models.run import Effects, NoEffect
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model

SITE = Site(1, "resid_post")
RANDOM = np.random.default_rng(0)
V, W = RANDOM.normal(size=(2, 32)).astype(np.float32)
ROWS = RANDOM.normal(size=(40, 32)).astype(np.float32) + np.arange(40)[:, None] % 2 * V
TEXTS = ["hello there", "how are you?", "x y", "a"]
STRENGTHS = np.array([2.0, -1.0, 0.5, 3.0])
BIAS = RANDOM.normal(size=260).astype(np.float32) * 3

ACTING = {
    "add": Intervention.add(SITE, V, 2.0),
    "keep norm": Intervention.add(SITE, V, 2.0, keep_norm=True),
    "clamp": Intervention.clamp(SITE, V, 1.5),
    "scale": Intervention.scale(SITE, V, -1.0),
    "piecewise": Intervention.piecewise(SITE, V, 1.5),
    "rotate": Intervention.rotate(SITE, V, 0.7),
    "replace": Intervention.replace(SITE, V, W),
    "ablate": Intervention.ablate(SITE, [V, W], ROWS),
    "leace": Leace.fit(ROWS, np.arange(40) % 2).intervention(SITE),
    "project out": Intervention.project_out(SITE, [V, W]),
    "patch": Intervention.patch(SITE, W, Direction(V)),
    "cosine": Intervention.add(SITE, V, 2.0, when=Condition(Direction(V), above=0.0, cosine=True)),
    "since": Intervention.add(
        SITE, V, 2.0, when=Condition(Direction(W), above=-2.0, cosine=True, site="embed", since="last")
    ),
    "logits": Intervention.add("logits", BIAS, 2.0),
    "logits, piecewise": Intervention.piecewise("logits", BIAS, 0.5),
    "logits since": Intervention.add("logits", BIAS, when=Condition(Direction(BIAS), above=-9.0, since="all")),
}


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Model:
    return Model(tiny_model(request.param), byte_tokenizer())


@pytest.fixture(scope="module")
def llama() -> Model:
    return Model(tiny_model(), byte_tokenizer())


def test_every_rule_is_among_the_acting() -> None:
    assert {type(change.rule) for change in ACTING.values()} == {rules()[name] for name in rules()}


@pytest.mark.filterwarnings("ignore::theodolite.models.run.NoEffect")
def test_a_change_by_nothing_changes_no_bit(model: Model) -> None:
    tokens = model.tokens(TEXTS, format="raw")
    plain = model.run(tokens, [SITE, "logits"])
    for site, v in ((SITE, V), (Site(None, "logits"), BIAS)):
        h = plain[site]
        natural = [
            Intervention(site, Clamp(basis.encode(h)), basis) for basis in (Direction(v), Subspace([v, v[::-1]]))
        ]
        nothing = [
            *natural,
            *(Intervention(site, rule, Direction(v)) for rule in (Add(0.0), Scale(1.0), Piecewise(0.0), Patch(h))),
            Intervention(site, Rotate(v, 0.0)),
            Intervention(site, Patch(h), Identity()),
            Intervention(site, Add(0.0), Direction(v), keep_norm=True),
        ]
        for change in nothing:
            assert torch.equal(model.run(tokens, interventions=change).logits, plain.logits), change


# several act at once, in the order of their list, so that every rule meets every family in few passes
GROUPS = [[*ACTING][start::4] for start in range(4)]


@pytest.mark.parametrize("names", GROUPS, ids=" + ".join)
def test_a_key_value_cache_changes_nothing(model: Model, names: list[str]) -> None:
    prompts, effects = model._encode(["hello there", "a b"], "raw", 64), [ACTING[name] for name in names]
    cached, whole = (
        generate(model.network, prompts, Decoding(3), effects=Effects(effects), use_cache=on) for on in (True, False)
    )
    for one, other in zip(cached, whole, strict=True):
        assert one.ids == other.ids
        np.testing.assert_allclose(one.log_probs, other.log_probs, atol=1e-3)


def _last(model: Model, texts: list[str], changes: list[Intervention]) -> np.ndarray:
    tokens = model.tokens(texts, format="raw")
    return model.run(tokens, interventions=changes, logits="last").logits[:, 0].numpy()


@pytest.mark.parametrize("names", GROUPS, ids=" + ".join)
def test_a_padded_batch_is_its_texts_one_by_one(model: Model, names: list[str]) -> None:
    """With a strength for each text, where the rule has one."""

    def at(strength: Any) -> list[Intervention]:
        return [c.at(strength) if hasattr(c.rule, "at") else c for c in map(ACTING.__getitem__, names)]

    alone = [_last(model, [text], at(float(s))) for text, s in zip(TEXTS, STRENGTHS, strict=True)]
    np.testing.assert_allclose(_last(model, TEXTS, at(STRENGTHS)), np.concatenate(alone), atol=2e-3, rtol=1e-3)


def test_gradients_reach_strengths_and_vectors(model: Model) -> None:
    tokens = model.tokens(TEXTS[:2], format="raw")
    v, w = (torch.from_numpy(x).clone().requires_grad_() for x in (V, W))
    s, b = torch.tensor(0.5, requires_grad=True), torch.from_numpy(BIAS).clone().requires_grad_()
    changes = [
        (Intervention.add(SITE, v, s), [v, s]),
        (Intervention.clamp(SITE, v, s), [v, s]),
        (Intervention.scale(SITE, v, s), [v, s]),
        (Intervention.piecewise(SITE, v, s), [v, s]),
        (Intervention.rotate(SITE, v, s), [v, s]),
        (Intervention.replace(SITE, v, w), [v, w]),
        (Intervention.ablate(SITE, v, w), [v, w]),
        (Intervention.project_out(SITE, v), [v]),
        (Intervention.patch(SITE, w, Direction(v)), [v, w]),
        (Intervention.add("logits", b, s), [b, s]),
    ]
    for change, wanted in changes:
        logits = model.run(tokens, interventions=change, grad=True).logits
        found = torch.autograd.grad(logits.log_softmax(-1)[..., 5].sum(), wanted)
        for gradient in found:
            assert gradient.isfinite().all()
            assert gradient.abs().max() > 1e-6, change


def _loss(model: Model, texts: list[str], changes: Any) -> np.ndarray:
    return model.loss(texts, interventions=changes).log_prob


def _logprobs(model: Model, texts: list[str], changes: Any) -> np.ndarray:
    return model.logprobs(texts, [" yes"] * len(texts), format="raw", interventions=changes).log_prob


def _rows(model: Model, text: str, strength: float) -> torch.Tensor:
    """Log-probabilities of the plain run with the bias added by hand, (t, vocabulary)."""
    logits = model.run(model.tokens(text, format="raw")).logits[0]
    return (logits + strength * torch.from_numpy(BIAS)).log_softmax(-1)


def test_a_bias_at_the_logits_is_added_to_what_the_model_returns(model: Model) -> None:
    """In every path, with a strength for each text, and where only some columns are computed."""
    change = Intervention.add("logits", BIAS, STRENGTHS)
    tokens = model.tokens(TEXTS, format="raw")
    plain = model.run(tokens)
    shift = torch.from_numpy(STRENGTHS.astype(np.float32))[:, None, None] * torch.from_numpy(BIAS)
    changed = model.run(tokens, "logits", change)
    torch.testing.assert_close(changed.logits[tokens.mask], (plain.logits + shift)[tokens.mask])
    assert torch.equal(changed["logits"], changed.logits)
    assert torch.equal(model.run(tokens, "logits", change, logits=False)["logits"], changed.logits)
    ends = torch.arange(4), tokens.last_columns
    torch.testing.assert_close(
        model.run(tokens, interventions=change, logits="last").logits[:, 0], changed.logits[ends]
    )
    content = model.run(tokens, interventions=Intervention.add("logits", BIAS, positions="content[0]"))
    assert ((content.logits != plain.logits).any(-1)).sum() == 3  # the first token of a text is no content
    expected, kl = [], []
    for text, strength in zip(TEXTS, STRENGTHS.tolist(), strict=True):
        ids = model.tokens(text + " yes", format="raw").ids[0]
        rows, n = _rows(model, text + " yes", strength), len(" yes")
        expected.append(float(rows[-n - 1 : -1].gather(1, ids[-n:, None]).sum()))
        one, other = (_rows(model, text, s)[-1].double() for s in (0.0, strength))
        kl.append(float((one.exp() * (one - other)).sum()))
    np.testing.assert_allclose(_logprobs(model, TEXTS, change), expected, atol=1e-3, rtol=1e-4)
    np.testing.assert_allclose(model.kl_per_text(TEXTS, interventions=change, positions="all[-1]"), kl, rtol=1e-3)
    assert float(model.kl(TEXTS, interventions=change, positions="all[-1]")) == pytest.approx(np.mean(kl), rel=1e-3)
    written = [one.ids for one in model.generations(TEXTS, Decoding(2), format="raw", interventions=change)]
    for text, strength, ids in zip(TEXTS, STRENGTHS.tolist(), written, strict=True):
        assert int(_rows(model, text, strength)[-1].argmax()) == [*ids, 2][0]  # 2 ends a text


def test_a_loss_under_a_bias_is_that_of_the_sum(llama: Model) -> None:
    change = Intervention.add("logits", BIAS, STRENGTHS)
    texts = ["hello there", "how are you?", "x y z", "abc"]
    expected = []
    for text, strength in zip(texts, STRENGTHS.tolist(), strict=True):
        ids, rows = llama.tokens(text, format="raw").ids[0], _rows(llama, text, strength)
        expected.append(float(rows[:-1].gather(1, ids[1:, None]).sum()))
    np.testing.assert_allclose(_loss(llama, texts, change), expected, atol=1e-3, rtol=1e-4)


def test_states_before_the_logits_cannot_depend_on_them(llama: Model) -> None:
    with pytest.raises(UserError, match=r"cannot reach blocks\.1\.resid_post"):
        llama.run(llama.tokens("hi"), SITE, Intervention.add("logits", BIAS), logits=False)
    with pytest.raises(UserError, match="vectors of 32 numbers, the model's states have 260"):
        llama.run(llama.tokens("hi"), interventions=Intervention.add("logits", V))


def test_an_edit_that_moves_no_logit_is_reported(llama: Model) -> None:
    for ask in (llama.kl, llama.kl_per_text):
        with pytest.warns(NoEffect, match="did nothing: no logit that was compared moved by 0.0001"):
            ask(TEXTS[:2], interventions=Intervention.add(SITE, V, 1e-6))
        with pytest.warns(NoEffect, match="positions at or before the tokens"):
            ask(TEXTS[:2], interventions=Intervention.add(SITE, V, positions="all[-1]"), positions="content[1]")
    effects = Effects([])
    assert not effects.did_nothing
    effects.move(torch.zeros(2), torch.full((2,), 5e-5))
    assert effects.did_nothing
    effects.move(torch.zeros(2), torch.full((2,), -2e-4))
    assert not effects.did_nothing


ASKING: dict[str, Callable[..., Any]] = {
    "loss": _loss,
    "logprobs": _logprobs,
    "kl": lambda model, texts, i: model.kl(texts, interventions=i),
    "kl_per_text": lambda model, texts, i: model.kl_per_text(texts, interventions=i),
    "generate": lambda model, texts, i: model.generate(texts, max_new_tokens=2, interventions=i),
    "run": lambda model, texts, i: model.run(model.tokens(texts), interventions=i),
}


@pytest.mark.parametrize("ask", ASKING)
def test_logits_that_overflow_stop_with_the_cause(llama: Model, ask: str) -> None:
    small, large = Intervention.add("embed", V), Intervention.add("blocks.0.resid_post", V, 3e38)
    with pytest.raises(UserError, match=r"NaN or infinite.*blocks\.0\.resid_post.*not finite, where norms were up to"):
        ASKING[ask](llama, ["one text", "another"], [large, small])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in llama.network.module.modules())


def test_the_cause_is_the_intervention_with_the_largest_norm(llama: Model) -> None:
    """States of 3e38 are finite in float32, and their products with the unembedding are not."""
    changes = [Intervention.add("final_norm", np.ones(32), 3e38), Intervention.add("embed", V, 2.0)]
    with pytest.raises(UserError, match=r"Intervention\(final_norm.*norms of up to \S+e\+39, where they were up to"):
        llama.run(llama.tokens("hi"), interventions=changes)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_no_hook_is_left_after_an_error(model: Model, error: type[BaseException]) -> None:
    def stop(z: torch.Tensor, context: object) -> torch.Tensor:
        raise error

    tokens = model.tokens("a text", format="raw")
    plain = model.run(tokens).logits
    for site in (SITE, Site(0, "attn_out"), Site(None, "logits"), Site(2, "mlp_out")):
        with pytest.raises(error):
            model.run(tokens, interventions=[Intervention(site, stop)])
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.network.module.modules())
    assert torch.equal(model.run(tokens).logits, plain)


def test_contradictory_interventions_are_refused(llama: Model) -> None:
    tokens = llama.tokens("a text", format="raw")
    twice = [Intervention.clamp(SITE, V, 1.0), Intervention.clamp(SITE, -2 * V, 1.0)]
    with pytest.raises(UserError, match="set the same coordinate to other values"):
        llama.run(tokens, interventions=twice)
    fine = [
        Intervention.clamp(SITE, W, 5.0),
        Intervention.clamp("embed", V, 2.0),
        Intervention.clamp(SITE, V, 2.0, "last"),
    ]
    for other in (Intervention.clamp(SITE, -2 * V, -0.5), *fine):
        llama.run(tokens, interventions=[twice[0], other])
    with pytest.raises(UserError, match=r"acts inside block 1, which .* skips on the same tokens"):
        llama.run(tokens, interventions=[Intervention.skip(1), Intervention.add("blocks.1.mlp_out", V)])
    read_by_others = Intervention.add("blocks.1.v", np.ones(16), positions="content")
    llama.run(tokens, interventions=[Intervention.skip(1, "last"), read_by_others])


def test_a_gate_by_cosine_that_is_decided_on_the_prompt_holds_while_text_is_generated(llama: Model) -> None:
    """Of two prompts the one whose end points along the direction is steered, in each new token, with a cache."""
    prompts = ["hello there", "how are you?"]
    states = llama.read(prompts, "blocks.0.resid_post", positions="last", format="raw")["blocks.0.resid_post"].rows
    cosines = states @ V / np.linalg.norm(V) / np.linalg.norm(states, axis=1)
    gate = Condition(Direction(V), above=float(cosines.mean()), site="blocks.0.resid_post", since="last", cosine=True)  # type: ignore[arg-type]
    always, gated = (Intervention.add(SITE, V, 4.0, "last+generated", when=when) for when in (None, gate))
    found, plain, steered = (
        llama.generate(prompts, max_new_tokens=4, format="raw", interventions=i) for i in (gated, (), always)
    )
    on = int(cosines.argmax())
    assert (found[on], found[1 - on]) == (steered[on], plain[1 - on])
    assert steered[on] != plain[on]
    assert steered[1 - on] != plain[1 - on]


def test_rules_by_hand() -> None:
    unused: Any = None
    z = torch.tensor([[[3.0], [-2.0], [0.0]]])
    assert Piecewise(0.5)(z, unused).flatten().tolist() == [3.5, -2.5, 0.0]
    h = torch.tensor([[[2.0, 0.0], [0.0, -3.0], [0.0, 5.0], [0.0, 0.0]]])
    turned = Rotate(np.array([0.0, 7.0]), np.pi / 2)(h, unused)
    torch.testing.assert_close(
        turned, torch.tensor([[[0.0, 2.0], [0.0, -3.0], [0.0, 5.0], [0.0, 0.0]]]), atol=1e-6, rtol=0
    )
    half = Rotate(np.array([0.0, 7.0]), np.pi / 6)(h[:, :1], unused)
    torch.testing.assert_close(half, torch.tensor([[[np.sqrt(3), 1.0]]], dtype=torch.float32))
    assert isinstance(Intervention.ablate(SITE, V, W).rule, Mean)
    assert isinstance(Intervention.replace(SITE, V, W).rule, Zero)
