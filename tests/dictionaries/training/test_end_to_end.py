"""Fine-tuning through a tiny model: predictions come closer on texts not seen, controls keep what they keep."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.dictionaries.activations import GatedRule, JumpReluRule, ReluRule, TopKRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.seeded import seeded_rows
from theodolite.dictionaries.training.end_to_end import divergence, fine_tuned
from theodolite.dictionaries.variants.topk import TopK
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE, D, F = "blocks.1.resid_post", 32, 48
WORDS = ["red", "house", "over", "ninety", "go", "water", "thin", "queue", "why", "far", "lamp", "in"]


def texts(n: int, seed: int) -> list[str]:
    g = torch.Generator().manual_seed(seed)
    return [" ".join(WORDS[i] for i in torch.randint(len(WORDS), (8,), generator=g)) for _ in range(n)]


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.from_pretrained(tiny_model(), tokenizer=byte_tokenizer())


def rows(model: Model, n: int, seed: int) -> Tensor:
    found = model.read(texts(n, seed), SITE, pooling=None, format="raw")
    return torch.from_numpy(found[model.site(SITE)].rows)


@pytest.fixture(scope="module")
def trained(model: Model) -> Dictionary:
    x = rows(model, 100, 0)
    return TopK(D, width=F, k=4, lr=1e-2).fit([x] * 60).dictionary()


@pytest.fixture(scope="module")
def batches(model: Model) -> list[Any]:
    return [divergence(model, SITE, texts(6, 10 + i)) for i in range(12)]


def reconstructed(dictionary: Dictionary) -> Any:
    return lambda x: dictionary.reconstruct(x)


@torch.no_grad()
def lost(model: Model, dictionary: Dictionary) -> float:
    return float(divergence(model, SITE, texts(20, 99))(dictionary.reconstruct))


def test_divergence_falls_on_texts_not_seen_and_the_error_does_not_grow(
    model: Model, trained: Dictionary, batches: list[Any]
) -> None:
    seen = []
    tuned = fine_tuned(trained, batches, steps=30, lr=1e-2, log=lambda step, losses: seen.append((step, losses)))
    assert lost(model, tuned) < 0.93 * lost(model, trained)
    x = rows(model, 30, 99)
    assert tuned.fvu(x) < 1.1 * trained.fvu(x)
    assert [step for step, _ in seen] == list(range(30))
    torch.testing.assert_close(tuned.W_dec.norm(dim=1), trained.W_dec.norm(dim=1))
    assert tuned.info["end_to_end"] == {"steps": 30, "lr": 1e-2, "error": True}
    assert "end_to_end" not in trained.info


def test_without_the_error_term_only_predictions_count(model: Model, trained: Dictionary, batches: list[Any]) -> None:
    both, alone = (fine_tuned(trained, batches, steps=20, lr=1e-2, error=e) for e in (True, False))
    x = rows(model, 30, 99)
    assert lost(model, alone) < lost(model, trained)
    assert both.fvu(x) < alone.fvu(x)


def test_it_is_deterministic_and_leaves_the_dictionary_it_was_given(trained: Dictionary, batches: list[Any]) -> None:
    before = trained.fingerprint()
    first, second = (fine_tuned(trained, batches, steps=3) for _ in range(2))
    assert first.fingerprint() == second.fingerprint() != before == trained.fingerprint()
    assert not first.W_enc.requires_grad


def test_a_step_too_small_to_move_gives_the_same_function(
    trained: Dictionary, batches: list[Any], model: Model
) -> None:
    tuned = fine_tuned(trained, batches, steps=1, lr=1e-12)
    x = rows(model, 5, 1)
    torch.testing.assert_close(tuned.reconstruct(x), trained.reconstruct(x), rtol=1e-4, atol=1e-4)


def test_only_content_rows_are_handed_over(model: Model) -> None:
    sizes = []
    kl = divergence(model, SITE, ["abc", "abcdefgh"])
    kl(lambda x: sizes.append(len(x)) or x * 1.001)
    assert sizes == [len(model.read(["abc", "abcdefgh"], SITE, pooling=None, format="raw")[model.site(SITE)].rows)]
    assert sizes[0] < 16  # padded, the two texts have 16 tokens


@pytest.mark.parametrize("name", ["W_enc", "b_enc", "W_dec", "b_dec"])
def test_gradient_is_that_of_finite_differences(name: str) -> None:
    """Through dictionary, model and divergence, in float64, along a random direction of each parameter."""
    model = Model.from_pretrained(tiny_model("gpt2").double(), tokenizer=byte_tokenizer())
    W = seeded_rows(F, D, 0).double()
    plain = Dictionary(W.clone(), torch.zeros(F).double(), W, torch.zeros(D).double(), TopKRule(6))
    kl = divergence(model, SITE, texts(2, 0))
    start = getattr(plain, name)
    moved = start.clone().requires_grad_()
    value = kl(lambda x: (d := replace(plain, **{name: moved})).decode(d.encode(x)))
    (gradient,) = torch.autograd.grad(value, [moved])
    axis = torch.randn(start.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ends = [float(kl(replace(plain, **{name: start + s * axis}).reconstruct)) for s in (1e-7, -1e-7)]
    assert float((gradient * axis).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-7, rel=1e-3)
    assert gradient.abs().max() > 0


@pytest.mark.parametrize(
    "rule",
    [ReluRule(), JumpReluRule(torch.full((F,), 0.2)), GatedRule(torch.full((F,), 1.5), torch.full((F,), 0.1))],
    ids=lambda r: r.name,
)
@pytest.mark.parametrize("normalise", ["none", "layer_norm"])
def test_every_rule_has_gradients(rule: Any, normalise: str, batches: list[Any], model: Model) -> None:
    W = seeded_rows(F, D, 0)
    start = Dictionary(W.clone(), torch.full((F,), -0.1), W, torch.zeros(D), rule, normalise=normalise)
    tuned = fine_tuned(start, batches, steps=10, lr=3e-3)
    assert lost(model, tuned) < lost(model, start)
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        assert not torch.equal(getattr(tuned, name), getattr(start, name)), name


@pytest.mark.parametrize(
    ("info", "kept"),
    [
        ({"frozen": "encoder"}, {"W_enc"}),
        ({"frozen_encoder": True}, {"W_enc"}),
        ({"frozen": "decoder"}, {"W_dec"}),
        ({"frozen": "soft_decoder"}, {"W_dec"}),
        ({}, set()),
    ],
)
def test_controls_keep_what_they_keep(trained: Dictionary, batches: list[Any], info: dict, kept: set[str]) -> None:
    start = replace(trained, info=info | {"card": {}})
    tuned = fine_tuned(start, batches, steps=2)
    assert set(tuned.info) == set(info) | {"end_to_end"}  # the card spoke of other weights
    same = {n for n in ("W_enc", "b_enc", "W_dec", "b_dec") if torch.equal(getattr(tuned, n), getattr(start, n))}
    assert same == kept


def test_what_cannot_be_tuned_is_refused(trained: Dictionary, batches: list[Any]) -> None:
    for wrong in (replace(trained, refit=True), replace(trained, info={"read_site": "embed"})):
        with pytest.raises(UserError, match="its own site"):
            fine_tuned(wrong, batches, steps=1)
    with pytest.raises(UserError, match="0 batches"):
        fine_tuned(trained, [], steps=1)
    with pytest.raises(UserError, match=r"step 0: .'kl': nan"):
        fine_tuned(trained, [lambda f: f(torch.randn(9, D)).sum() * torch.nan], steps=1)
