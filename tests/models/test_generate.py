"""Generation: equal to transformers, equal with and without a cache, equal alone and in company."""

import numpy as np
import pytest
import torch

from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.positions import Positions, Role
from theodolite.models import generate as generation
from theodolite.models import preflight
from theodolite.models.generate import Decoding, generate
from theodolite.models.model import Model
from theodolite.models.run import Effects, run
from theodolite.models.scoring import score
from theodolite.models.tokens import Encoding, encode, pad
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model

PROMPTS = ["one", "a longer prompt", "x y"]
V = np.random.default_rng(2).normal(size=32).astype(np.float32)
N = 12


def make(family: str = "llama") -> Model:
    return Model.from_pretrained(tiny_model(family), tokenizer=byte_tokenizer())


def new_ids(model: Model, prompts: list[Encoding], *interventions: Intervention, **options: object) -> list[list[int]]:
    asked = {"max_new_tokens": N} | {
        k: options.pop(k) for k in ("max_new_tokens", "temperature", "seed") if k in options
    }
    found = generate(model.network, prompts, Decoding(**asked), effects=Effects(interventions), **options)  # type: ignore[arg-type]
    return [one.ids for one in found]


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
    monkeypatch.setattr(preflight, "batch_tokens", lambda module, deepest_block, writing: 100)
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
    monkeypatch.setattr(generation, "_write", lambda network, answers, *rest: [a.end("length") for a in answers])
    assert len(model.generate(["a", "x" * 400], max_new_tokens=room, max_tokens=999, batch_tokens=1)) == 2
    with pytest.raises(UserError, match="new ones behind it exceed the model's context of 512"):
        model.generate(["a", "x" * 400], max_new_tokens=room + 1, max_tokens=999, batch_tokens=1)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_are_those_of_the_whole_text_read_at_once(family: str, temperature: float) -> None:
    model = make(family)
    change = Intervention.add("blocks.1.resid_post", V, 2.0, "last+generated")
    how = Decoding(max_new_tokens=N, temperature=temperature, seed=3)
    found = model.generations(PROMPTS, how, interventions=change, batch_tokens=40)
    joined = [
        row.extend(one.ids, Role.GENERATED) for row, one in zip(encode(model.tokenizer, PROMPTS), found, strict=True)
    ]
    tokens = pad(joined, 0)
    targets = torch.from_numpy(Positions("generated").mask(tokens.roles.numpy()))
    scored = score(model.network, tokens, targets, Effects([change]), batch_tokens=4096)
    np.testing.assert_allclose([one.log_probs.sum() for one in found], scored.log_prob, atol=1e-3)
    for one in found:
        assert len(one.log_probs) == len(one.ids) == N
        assert (one.log_probs <= 0).all()
        assert one.stopped == "length"


def test_a_generation_says_why_it_stopped(model: Model, prompts: list[Encoding]) -> None:
    plain = new_ids(model, prompts)
    stop = plain[0][3]
    model.network.module.generation_config.eos_token_id = [stop]
    try:
        found = model.generations(PROMPTS, Decoding(max_new_tokens=N))
    finally:
        model.network.module.generation_config.eos_token_id = 2
    assert [one.stopped for one in found] == ["stop" if stop in row else "length" for row in plain]
    assert [one.ids for one in found] == [row[: row.index(stop)] if stop in row else row for row in plain]
    assert [one.text for one in model.generations(PROMPTS)] == model.generate(PROMPTS)


def test_the_pieces_of_a_stream_are_the_text(model: Model) -> None:
    """One token is one byte here: a character of several bytes comes in one piece, and never as a replacement first."""
    pieces: dict[int, list[str]] = {0: [], 1: [], 2: []}
    how = Decoding(max_new_tokens=30, temperature=1.0, stream=lambda number, text: pieces[number].append(text))
    found = model.generations(PROMPTS, how, batch_tokens=40)
    assert ["".join(pieces[i]) for i in range(3)] == [one.text for one in found]
    assert min(map(len, pieces.values())) > 3
    word = model.tokenizer("né€!")["input_ids"]
    shown: list[str] = []
    answer = generation._Answer(
        7,
        encode(model.tokenizer, ["x"])[0],
        Decoding(stream=lambda n, text: shown.append(text)),
        model.tokenizer.decode,
    )
    for token in word[:-2]:
        answer.take(token, -1.0, [])
    assert shown == ["n", "é"]
    answer.end("cancelled")
    assert "".join(shown) == answer.finished().text == "né\ufffd"
    answer.take(word[-1], -1.0, [])
    assert answer.finished().ids == word[:-2]


@pytest.mark.parametrize("batch_tokens", [1, 10_000])
def test_a_cancelled_generation_keeps_what_it_has(model: Model, prompts: list[Encoding], batch_tokens: int) -> None:
    plain, asked = new_ids(model, prompts), iter([False] * 5 + [True] * 99)
    change = Intervention.add("blocks.1.resid_post", V, 0.0, "generated[50]")  # never reached, and no error
    found = model.generations(
        PROMPTS, Decoding(max_new_tokens=N, cancel=lambda: next(asked)), interventions=change, batch_tokens=batch_tokens
    )
    assert {one.stopped for one in found} == {"cancelled"}
    lengths = sorted(len(one.ids) for one in found)
    assert lengths == ([5, 5, 5] if batch_tokens > 1 else [0, 0, 5])
    for one, row in zip(found, plain, strict=True):
        assert one.ids == row[: len(one.ids)]
        assert len(one.log_probs) == len(one.ids)
