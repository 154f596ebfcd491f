"""Laws of every method of control that we ship: no change at 0, the sign, refits, the order of rows, and its report."""

import json
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from theodolite.control.control import Control, LatentControl, NeuronControl, VectorControl
from theodolite.control.logit_bias import LogitBiasControl
from theodolite.control.material import Examples, Material
from theodolite.control.method import ADAPTER, Method, control_method, control_methods
from theodolite.control.rank_one import RankOneControl
from theodolite.core.metrics import auroc
from theodolite.core.seeds import generator
from theodolite.core.site import Site
from theodolite.dictionaries.activations import ReluRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.models.generate import Decoding
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE = Site.parse("blocks.1.resid_post")
SPECS = [
    *(name for name in control_methods() if name not in (ADAPTER, "reft")),
    *["difference_in_means", "logistic", "lat", "lda", "random_direction(draw=2)"],
    *["latent(choose=output)", "latent(choose=unsupervised)", "latent_set(k=3)", "reft(steps=6, every=3)"],
]
ORDERED = ("lat",)  # readers that pair rows by their places, as the readers' own laws say
WITHOUT_LABELS = ("contrast_vector", "prompt", "random_direction(draw=2)", "latent(choose=unsupervised)")


def dictionary(seed: int) -> Dictionary:
    draw = torch.Generator().manual_seed(seed)
    shapes = ((40, 32), (40,), (40, 32), (32,))
    return Dictionary(*(torch.randn(shape, generator=draw) for shape in shapes), activation=ReluRule())


@cache
def parts() -> tuple[Model, Examples, Examples, dict[str, Any]]:
    model, draw = Model(tiny_model(), byte_tokenizer()), generator(0, "control laws")

    def some(n: int) -> Examples:
        texts = ["".join(draw.choice(list(letters), 8)) for letters in ("abcdmn", "wxyzmn") for _ in range(n // 2)]
        rows = model.read(texts, SITE, format="raw")[SITE].rows
        return Examples(texts, np.repeat([1, 0], n // 2), np.arange(n) // 2, rows)

    words = SimpleNamespace(positive="abcd", negative="wxyz")
    more = {"dictionary": dictionary(0), "control_dictionary": dictionary(1), "instruction": words}
    return model, some(20), some(10), more


def material(order: Any = slice(None)) -> Material:
    model, one, other, more = parts()
    columns = [np.array(one.texts, object)[order].tolist(), one.labels[order], one.groups[order], one.rows[order]]
    return Material(model, SITE, *columns, development=other, **more)


@cache
def fitted(spec: str) -> tuple[Method, Control]:
    method = control_method(spec)
    return method, method.fit(material())


def numbers(control: Control) -> list[np.ndarray]:
    """Everything that a control holds of what was fitted, as arrays."""
    names = ("vector", "latents", "percentiles", "signs", "neurons", "difference", "bias", "write", "read")
    return [np.asarray(getattr(control, name)) for name in names if hasattr(control, name)]


@pytest.mark.parametrize("spec", SPECS)
def test_strength_0_is_the_model_bit_for_bit_and_another_strength_is_not(spec: str) -> None:
    _, control = fitted(spec)
    prompts, how = ["ab", "a longer prompt"], Decoding(max_new_tokens=3)
    plain = control.at(0.0).generate(prompts, how)
    expected = parts()[0].generations(prompts, how, format="raw")
    for one, other in zip(plain, expected, strict=True):
        np.testing.assert_array_equal(one.log_probs, other.log_probs)
    pushed = control.at(1.0).generate(prompts, how)
    assert any(abs(one.log_probs[0] - other.log_probs[0]) > 1e-6 for one, other in zip(pushed, expected, strict=True))


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec not in WITHOUT_LABELS])
def test_a_positive_strength_is_the_side_of_the_positive_class(spec: str) -> None:
    _, control = fitted(spec)
    given = material()
    rows, labels = given.training, given.labels
    if isinstance(control, VectorControl):
        assert auroc(labels, rows.rows @ control.vector) > 0.7
    elif isinstance(control, NeuronControl):
        states = given.read(rows, control.site)[:, list(control.neurons)]
        assert auroc(labels, states @ control.difference) > 0.7
    elif isinstance(control, LatentControl):
        latents = given.latents(rows, control.dictionary).rows[:, list(control.latents)].toarray()
        assert auroc(labels, latents @ (control.signs / control.percentiles)) > 0.6
    elif isinstance(control, LogitBiasControl):
        ids = [byte_tokenizer()(text)["input_ids"] for text in rows.texts]
        assert auroc(labels, np.array([control.bias[row].mean() for row in ids])) > 0.9
    else:
        assert isinstance(control, RankOneControl)
        positive = rows.of_class(1)
        losses = [given.model.loss(positive, interventions=control.at(s).interventions).mean_loss for s in (0.0, 1.0)]
        assert losses[1] < losses[0]


@pytest.mark.parametrize("spec", SPECS)
def test_a_refit_and_another_order_of_rows_give_the_same(spec: str) -> None:
    method, control = fitted(spec)
    for order in [slice(None)] + [np.random.default_rng(0).permutation(20)] * (spec not in ORDERED):
        again = method.fit(material(order))
        for one, other in zip(numbers(again), numbers(control), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spec", SPECS)
def test_a_report_can_say_what_was_fitted_and_what_it_cost(spec: str) -> None:
    method, control = fitted(spec)
    said = json.loads(json.dumps(method.describe()))
    assert {"saw", "passes", "fits", "parameters"} <= set(said)
    assert said["passes"] >= 0 <= said["fits"]
    assert control.method == spec.partition("(")[0] or control.method == spec
    assert control.has_dial
    assert control.cap > 0
    stored = {name for name in vars(control_method(spec)) if name.endswith("_")}
    assert not stored, "what ends in _ is fitted"


@pytest.mark.parametrize("strength", [float("nan"), float("inf")])
@pytest.mark.parametrize("spec", SPECS)
def test_a_strength_that_is_no_number_is_refused(spec: str, strength: float) -> None:
    with pytest.raises(ValueError, match="no finite number"):
        fitted(spec)[1].at(strength)


def test_every_shipped_file_is_here() -> None:
    names = {spec.partition("(")[0] for spec in SPECS}
    assert set(control_methods()) - {ADAPTER} <= names
    assert all(issubclass(cls, Method) for cls in control_methods().values())
