"""Laws of what needs h itself, `keep_norm` and `when`, on a random model of every family."""

import numpy as np
import pytest
import torch

from theodolite.core.basis import Direction
from theodolite.core.condition import Condition
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.site import Site
from theodolite.models.model import Model
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model

TEXTS = ["hello there", "how are you, all of you?", "x"]
V = np.random.default_rng(0).normal(size=32).astype(np.float32)


def make(family: str = "llama") -> Model:
    return Model.from_pretrained(tiny_model(family), tokenizer=byte_tokenizer())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_kept_norm_is_that_of_the_state_before(family: str) -> None:
    model = make(family)
    tokens = model.tokens(TEXTS)
    plain = model.run(tokens, capture=model.sites())
    for site in model.sites():
        changed = model.run(tokens, capture=site, interventions=Intervention.add(site, V, 3.0, keep_norm=True))
        was, now = plain[site][tokens.mask], changed[site][tokens.mask]
        torch.testing.assert_close(now.norm(dim=-1), was.norm(dim=-1))
        moved = was + 3 * torch.from_numpy(V)
        torch.testing.assert_close(now, moved * (was.norm(dim=-1) / moved.norm(dim=-1)).unsqueeze(-1))


@pytest.mark.parametrize("family", FAMILIES)
def test_only_tokens_that_fulfil_the_condition_change_and_those_as_without_it(family: str) -> None:
    model = make(family)
    tokens = model.tokens(TEXTS)
    for site, asked in ((Site(1, "resid_post"), None), (Site(2, "attn_out"), Site(0, "resid_post"))):
        plain = model.run(tokens, capture=[site, asked or site])
        z = plain[asked or site] @ torch.from_numpy(V / (V @ V))
        bound = float(z[tokens.mask].median()) + 1e-6
        always = Intervention.add(site, V, 2.0, "content")
        when = Condition(Direction(V), above=bound, site=asked)
        sometimes = Intervention.add(site, V, 2.0, "content", when=when)
        one, other = (model.run(tokens, capture=site, interventions=i) for i in (always, sometimes))
        fulfilled = (z > bound) & (one[site] != plain[site]).any(-1)
        assert 0 < int(fulfilled.sum()) < one.changed[0]
        assert torch.equal(other[site][fulfilled], one[site][fulfilled])
        assert torch.equal(other[site][~fulfilled], plain[site][~fulfilled])
        assert other.changed == (int(fulfilled.sum()),)
        everywhere = Condition(Direction(V), above=-1e9, site=asked)
        same = model.run(tokens, interventions=Intervention.add(site, V, 2.0, "content", when=everywhere))
        assert torch.equal(same.logits, one.logits)


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2", "gpt_neox"])
def test_a_condition_treats_a_cached_token_like_any_other(family: str) -> None:
    """Generated with a cache, then scored at once: the same log-probabilities, so the same tokens were changed."""
    model = make(family)
    change = Intervention.add(
        "blocks.1.resid_post", V, 4.0, when=Condition(Direction(V), above=0.0, site="blocks.0.resid_post")
    )
    answers = model.generate(TEXTS, max_new_tokens=8, interventions=change)
    assert answers != model.generate(TEXTS, max_new_tokens=8)
    assert answers == [model.generate(text, max_new_tokens=8, interventions=change)[0] for text in TEXTS]


def test_a_condition_of_another_width_is_refused() -> None:
    change = Intervention.add("blocks.1.resid_post", V, 1.0, when=Condition(Direction(V[:7]), above=0.0))
    with pytest.raises(UserError, match="vectors of 7 numbers, the model's states have 32"):
        make().run(make().tokens(TEXTS), interventions=change)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_dose_of_nothing_is_the_model_and_a_greater_one_moves_it_further(family: str) -> None:
    model = make(family)
    dose = Intervention.add("blocks.1.resid_post", V)
    moved = [model.kl_per_text(TEXTS, interventions=dose.at(s), format="chat").mean() for s in (0.1, 0.5, 1.0)]
    assert 0 < moved[0] < moved[1] < moved[2]
