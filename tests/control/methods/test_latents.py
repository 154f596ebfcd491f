"""Latents and neurons: a planted one is found, choices follow their formulas, and no choice sees what it should not."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from theodolite.control.control import LatentControl, NeuronControl
from theodolite.control.instructed import instructed_states
from theodolite.control.latent_choice import column_aurocs, output_scores
from theodolite.control.material import Examples, Material
from theodolite.control.method import control_method
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.metrics import auroc
from theodolite.core.site import Site
from theodolite.dictionaries.activations import ReluRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.models.model import Model
from theodolite.toys.planted_model import D_MODEL, planted_model
from theodolite.toys.tiny_models import byte_tokenizer

EMBED = Site.parse("embed")
BIT = 3
WITH, WITHOUT = (
    [c for c in "abcdefghijklmnop" if (byte_tokenizer()(c)["input_ids"][0] >> BIT & 1) == b] for b in (1, 0)
)


def bits_material(order: Any = slice(None), **changes: Any) -> Material:
    """States are the bits of token ids and latent i is coordinate i: only latent 3 tells the classes apart."""
    model = Model(planted_model(), byte_tokenizer())
    draw = np.random.default_rng(0)

    def some(n: int) -> Examples:
        texts = ["".join(draw.choice(letters, 6)) for letters in (WITH, WITHOUT) for _ in range(n)]
        rows = model.read(texts, EMBED, format="raw")[EMBED].rows
        return Examples(texts, np.repeat([1, 0], n), np.arange(2 * n), rows)

    one, other = some(20), some(10)
    eye, zero = torch.eye(D_MODEL), torch.zeros(D_MODEL)
    dictionary = Dictionary(eye, zero, 2 * eye, zero, activation=ReluRule())
    columns = [np.array(one.texts, object)[order].tolist(), one.labels[order], one.groups[order], one.rows[order]]
    parts: dict[str, Any] = {"development": other, "dictionary": dictionary, "control_dictionary": dictionary}
    return Material(model, EMBED, *columns, **{**parts, **changes})


@pytest.mark.parametrize("spec", ["latent", "latent_set", "latent_set(k=1)", "frozen_encoder_latent_set"])
def test_a_planted_latent_is_found_and_set_to_its_level(spec: str) -> None:
    control = control_method(spec).fit(bits_material())
    assert isinstance(control, LatentControl)
    assert (list(control.latents), control.percentiles.tolist(), list(control.signs)) == ([BIT], [1.0], [1.0])
    flipped = bits_material()
    flipped = replace(
        flipped,
        labels=1 - flipped.labels,
        development=replace(flipped.development, labels=1 - flipped.development.labels),
    )
    assert list(control_method(spec).fit(flipped).signs) == [-1.0]
    model, tokens = control.model, control.model.tokens(WITHOUT[:3], format="raw")
    for strength in (0.5, -1.0):
        state = model.run(tokens, capture=EMBED, interventions=control.at(strength).interventions, logits=False)[EMBED]
        plain = model.run(tokens, capture=EMBED, logits=False)[EMBED]
        expected = plain.clone()
        expected[..., BIT] += 2 * strength  # the latent is silent there, and its decoder row has length 2
        torch.testing.assert_close(state, expected)


def test_the_number_of_latents_is_chosen_on_development_texts_and_the_smallest_of_equal_ones_is_taken() -> None:
    method = control_method("latent_set")
    method.fit(bits_material())
    said = method.describe()
    assert (said["k"], said["latents"], said["parameters"], said["passes"]) == (1, [BIT], 1, 40 + 20)
    assert said["fits"] == 3  # k of 1, 2 and 4: fewer than 8 latents fire
    with pytest.raises(UserError, match="latent_set needs development texts"):
        method.fit(bits_material(development=None))
    two = control_method("latent_set(k=2)")
    two.fit(bits_material(development=None))
    assert (two.describe()["k"], two.n_fits_, two.passes_) == (2, 1, 40)


def test_a_dictionary_that_is_missing_or_silent_is_refused() -> None:
    for spec, part in (("latent", "dictionary"), ("frozen_encoder_latent_set", "control_dictionary")):
        with pytest.raises(UserError, match=f"{spec} needs a {part.replace('_', ' ')}"):
            control_method(spec).fit(bits_material(**{part: None}))
    silent = bits_material()
    silent = replace(silent, dictionary=replace(silent.dictionary, b_enc=torch.full((D_MODEL,), -5.0)))
    for spec in ("latent", "latent_set"):
        with pytest.raises(UserError, match="no latent of the dictionary fires"):
            control_method(spec).fit(silent)
    with pytest.raises(UserError, match="unknown choice of a latent 'outputs'"):
        control_method("latent(choose=outputs)").fit(bits_material())


def test_aurocs_of_columns_are_those_of_each_column_alone() -> None:
    from scipy.sparse import csr_matrix

    draw = np.random.default_rng(1)
    rows = np.where(draw.random((40, 30)) < 0.4, draw.integers(1, 4, (40, 30)), 0).astype(np.float32)
    labels = np.arange(40) % 2
    found = column_aurocs(csr_matrix(rows), labels)
    np.testing.assert_allclose(found, [float(auroc(labels, rows[:, i])) for i in range(30)])


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_output_scores_are_those_of_their_authors_code(family: str, make_material: Callable[..., Material]) -> None:
    """Amplify at the last token by ten times its largest latent, then rank and probability of the promoted tokens."""
    from theodolite.toys.tiny_models import tiny_model

    model, sae, site = Model(tiny_model(family), byte_tokenizer()), make_material().dictionary, "blocks.1.resid_post"
    assert sae is not None
    tokens = model.tokens("From my experience,", format="raw")
    largest = sae.encode(model.run(tokens, capture=site)[site][0, -1:]).max()
    found = output_scores(model, Site.parse(site), sae, [3, 9, 40])
    module, norm = model.network.module, model.network.locate(Site.parse("final_norm"))[0]
    for latent, score in zip([3, 9, 40], found, strict=True):
        change = Intervention.add(site, sae.W_dec[latent], 10 * float(largest), "last")
        with torch.no_grad():
            probability = model.run(tokens, interventions=change).logits[0, -1].softmax(0)
            promoted = module.get_output_embeddings()(norm(sae.W_dec[latent])).topk(20).indices
        ranks = [int((probability.argsort(descending=True) == token).nonzero()) for token in promoted]
        by_hand = (1 - min(ranks) / len(probability)) * probability[promoted].max()
        assert score == pytest.approx(float(by_hand), rel=1e-3)


def test_the_output_score_chooses_among_latents_that_read_the_concept(material: Material) -> None:
    method = control_method("latent(choose=output, candidates=5)")
    control = method.fit(material)
    n = material.training.n
    assert (method.passes_, method.n_fits_) == (n + 5 + 1, 5)
    rows = material.latents(material.training, material.dictionary).rows
    likely = np.argsort(-column_aurocs(rows, material.training.labels), kind="stable")[:5].tolist()
    scores = output_scores(material.model, material.site, material.dictionary, likely)
    assert list(control.latents) == [likely[int(scores.argmax())]]
    assert method.describe()["output_score"] == pytest.approx(scores.max())


def test_the_unsupervised_choice_sees_no_label_and_follows_the_instructions(
    make_material: Callable[..., Material],
) -> None:
    material = make_material()
    control = control_method("latent(choose=unsupervised)").fit(material)
    other_labels = replace(material, labels=1 - material.labels)
    again = control_method("latent(choose=unsupervised)").fit(other_labels)
    assert (list(again.latents), list(again.signs)) == (list(control.latents), list(control.signs))
    swapped = SimpleNamespace(positive="use stuvwxyz", negative="use abcdefgh")
    back = control_method("latent(choose=unsupervised)").fit(make_material(instruction=swapped))
    assert (list(back.latents), list(back.signs)) == (list(control.latents), [-control.signs[0]])
    with pytest.raises(UserError, match=r"latent\(choose=unsupervised\) needs an instruction"):
        control_method("latent(choose=unsupervised)").fit(make_material(instruction=None))


@pytest.mark.parametrize("side", ["right", "left"])
def test_states_behind_an_instruction_are_those_of_the_whole_text_at_the_texts_own_tokens(
    side: str, model: Model
) -> None:
    from theodolite.models.tokens import encode, pad

    site, texts = Site.parse("blocks.1.resid_post"), ["short", "a longer text"]
    tokens = pad(encode(model.tokenizer, texts, "raw"), 0, side)
    found = instructed_states(model, site, "write well\n\n", tokens)
    for i, text in enumerate(texts):
        whole = model.run(model.tokens("write well\n\n" + text, format="raw"), capture=site)[site][0, -len(text) :]
        torch.testing.assert_close(found[i][tokens.mask[i]], whole, atol=1e-5, rtol=1e-5)


def test_neurons_are_as_many_as_the_latents_and_get_their_class_difference(material: Material) -> None:
    method, latents = control_method("neurons"), control_method("latent_set")
    control, _ = method.fit(material), latents.fit(material)
    assert isinstance(control, NeuronControl)
    assert len(control.neurons) == latents.describe()["k"] == method.describe()["parameters"]
    site = Site.parse("blocks.1.mlp_act")
    states = material.model.read(material.training.texts, site, format="raw")[site].rows
    positive, negative = (states[material.training.labels == label] for label in (1, 0))
    difference = positive.mean(0) - negative.mean(0)
    effect = abs(difference) / states.std(0)
    assert sorted(control.neurons) == sorted(np.argsort(-effect)[: len(control.neurons)].tolist())
    np.testing.assert_allclose(control.difference, difference[list(control.neurons)], atol=1e-5)
    with pytest.raises(UserError, match=r"write neurons\(k=16\)"):
        method.fit(replace(material, dictionary=None))
    with pytest.raises(UserError, match="'embed' lies in no block"):
        method.fit(replace(material, site="embed"))
