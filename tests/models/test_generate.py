"""Generation: equal to transformers, equal with and without a cache, equal alone and in company."""

import numpy as np
import pytest
import torch

from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.models import generate as generation
from theodolite.models import preflight
from theodolite.models.generate import generate
from theodolite.models.model import Model
from theodolite.models.run import Effects, run
from theodolite.models.tokens import Encoding, encode, pad
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

PROMPTS = ["one", "a longer prompt", "x y"]
V = np.random.default_rng(2).normal(size=32).astype(np.float32)
N = 12


def make(family: str = "llama") -> Model:
    return Model.from_pretrained(tiny_model(family), tokenizer=byte_tokenizer())


def new_ids(model: Model, prompts: list[Encoding], *interventions: Intervention, **options: object) -> list[list[int]]:
    settings = {"max_new_tokens": N, "effects": Effects(interventions)} | options
    return generate(model.network, prompts, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def model() -> Model:
    return make()


@pytest.fixture(scope="module")
def prompts(model: Model) -> list[Encoding]:
    return encode(model.tokenizer, PROMPTS)


def test_greedy_is_that_of_transformers(model: Model, prompts: list[Encoding]) -> None:
    tokens = pad(prompts, 0, "left")
    plain = model.network.module.generate(
        input_ids=tokens.ids, attention_mask=tokens.mask.long(), max_new_tokens=N, do_sample=False, eos_token_id=None
    )
    assert new_ids(model, prompts) == plain[:, tokens.ids.shape[1] :].tolist()


@pytest.mark.parametrize(
    "positions", ["all", "content", "last", "generated", "last+generated", "content[-1]+generated[1:3]"]
)
@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2", "gpt_neox"])
def test_the_cache_changes_nothing(family: str, positions: str, prompts: list[Encoding]) -> None:
    model = make(family)
    change = Intervention.add("blocks.1.resid_post", V, 2.0, positions)
    with_cache, without = (new_ids(model, prompts, change, use_cache=on) for on in (True, False))
    assert with_cache == without
    if "content" not in positions:  # which a random model may forget before it speaks
        assert with_cache != new_ids(model, prompts)
    for row, alone in zip(with_cache, prompts, strict=True):
        assert new_ids(model, [alone], change) == [row]


def test_positions_of_new_tokens_reach_exactly_them(model: Model, prompts: list[Encoding]) -> None:
    plain = new_ids(model, prompts)
    generated = new_ids(model, prompts, Intervention.add("blocks.2.resid_post", V, 5.0, "generated"))
    assert [row[0] for row in generated] == [row[0] for row in plain]  # predicted at the prompt's last token
    assert [row[1:] for row in generated] != [row[1:] for row in plain]
    last = new_ids(model, prompts, Intervention.add("blocks.2.resid_post", V, 50.0, "last"))
    assert [row[0] for row in last] != [row[0] for row in plain]


def test_a_state_forced_at_the_end_decides_every_token(model: Model, prompts: list[Encoding]) -> None:
    wanted = 77
    aim = model.network.module.lm_head.weight[wanted].detach().numpy()
    assert int((model.network.module.lm_head.weight @ torch.from_numpy(aim)).argmax()) == wanted
    forced = Intervention.patch("final_norm", aim, positions="last+generated")
    assert new_ids(model, prompts, forced) == [[wanted] * N] * len(PROMPTS)


def test_a_stop_token_ends_its_text_and_not_the_others(model: Model, prompts: list[Encoding]) -> None:
    plain = new_ids(model, prompts)
    stop = plain[0][3]
    stopped = new_ids(model, prompts, stop_ids=[stop])
    expected = [row[: row.index(stop)] if stop in row else row for row in plain]
    assert stopped == expected
    assert len(stopped[0]) <= 3


def test_samples_repeat_by_seed_and_not_by_company(model: Model, prompts: list[Encoding]) -> None:
    sampled = new_ids(model, prompts, temperature=1.0, seed=1)
    assert sampled == new_ids(model, prompts, temperature=1.0, seed=1)
    assert sampled != new_ids(model, prompts, temperature=1.0, seed=2)
    assert new_ids(model, prompts[1:2], temperature=1.0, seed=1) == sampled[1:2]
    assert new_ids(model, prompts, temperature=1e-4) == new_ids(model, prompts)


@pytest.mark.parametrize("batch_tokens", [1, 40, 10_000])
def test_batches_change_neither_order_nor_text(
    model: Model, batch_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*PROMPTS, "x y", "one more prompt that is longer than all of the others", "two"]
    change = [Intervention.add("blocks.1.resid_post", V, 2.0, "last+generated")]
    sizes: list[int] = []
    monkeypatch.setattr(generation, "run", lambda *a, **k: sizes.append(len(a[1])) or run(*a, **k))
    for temperature in (0.0, 1.0):
        options = {"max_new_tokens": 6, "interventions": change, "temperature": temperature}
        alone = [model.generate([text], **options)[0] for text in texts]
        sizes.clear()
        assert model.generate(texts, batch_tokens=batch_tokens, **options) == alone
    assert batch_tokens > 1 or max(sizes) == 1
    assert (max(sizes) < len(texts)) == (batch_tokens < 10_000)


def test_generation_takes_no_more_than_memory_holds(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(generation, "run", lambda *a, **k: sizes.append(len(a[1])) or run(*a, **k))
    monkeypatch.setattr(preflight, "batch_tokens", lambda module, deepest_block: 100)
    model.generate(["x"] * 9, max_new_tokens=20)
    assert 1 < max(sizes) < 9


def test_text_in_text_out(model: Model) -> None:
    texts = model.generate(PROMPTS, max_new_tokens=4)
    ids = new_ids(model, encode(model.tokenizer, PROMPTS), max_new_tokens=4, stop_ids=[2])
    assert texts == model.tokenizer.batch_decode(ids, skip_special_tokens=True)
    with pytest.raises(UserError, match="matched no token"):
        model.generate(PROMPTS, max_new_tokens=2, interventions=[Intervention.add("embed", V, 1.0, "first")])


def test_donors_follow_their_prompts_into_every_batch(model: Model, prompts: list[Encoding]) -> None:
    tokens = pad(prompts, 0, "left")
    donor = np.random.default_rng(3).normal(size=(*tokens.ids.shape, 32)).astype(np.float32) * 5
    change = Intervention.patch("blocks.1.resid_post", donor, positions="prompt")
    together = new_ids(model, prompts, change)
    assert new_ids(model, prompts, change, batch_tokens=1) == together
    assert together != new_ids(model, prompts)


def test_an_answer_that_would_pass_the_context_is_refused_before_it_begins(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 512 - max(len(row) for row in encode(model.tokenizer, ["a", "x" * 400], max_tokens=999)) + 1
    monkeypatch.setattr(generation, "_batch", lambda network, prompts, *rest: [[0]] * len(prompts))
    assert len(model.generate(["a", "x" * 400], max_new_tokens=room, max_tokens=999, batch_tokens=1)) == 2
    with pytest.raises(UserError, match="new ones behind it exceed the model's context of 512"):
        model.generate(["a", "x" * 400], max_new_tokens=room + 1, max_tokens=999, batch_tokens=1)
