"""What material refuses, and that it reads a text once."""

import numpy as np
import pytest

from theodolite.control.material import Examples, Material, pooled_latents_of
from theodolite.core.errors import UserError
from theodolite.core.site import Site
from theodolite.dictionaries.activations import ReluRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model


def identity_dictionary(d: int) -> Dictionary:
    import torch

    return Dictionary(torch.eye(d), torch.zeros(d), torch.eye(d), torch.zeros(d), activation=ReluRule())


def test_bad_examples_are_refused_with_the_reason() -> None:
    with pytest.raises(UserError, match=r"2 texts have 3 labels"):
        Examples(["a", "b"], [0, 1, 1], ["g", "h"], np.eye(2))
    with pytest.raises(UserError, match=r"labels are \[1\]: give 1"):
        Examples(["a", "b"], [1, 1], ["g", "h"], np.eye(2))
    with pytest.raises(UserError, match=r"states of 1 texts hold NaN"):
        Examples(["a", "b"], [0, 1], ["g", "h"], [[1.0, np.nan], [0.0, 1.0]])


def test_latents_are_pooled_per_text_and_their_percentile_is_of_the_tokens_on_which_they_fire() -> None:
    rows = np.array([[1.0, -1.0], [3.0, -1.0], [0.0, -2.0], [5.0, -2.0]], np.float32)
    found = pooled_latents_of(rows, np.array([0, 0, 1, 1]), identity_dictionary(2), "mean")
    assert found.rows.toarray().tolist() == [[2.0, 0.0], [2.5, 0.0]]
    assert found.p99.tolist() == [np.percentile([1.0, 3.0, 5.0], 99), 0.0]


@pytest.mark.parametrize("pooling", ["mean", "max", "last"])
def test_latents_of_an_identity_dictionary_are_the_positive_states_of_the_same_tokens(pooling: str) -> None:
    model, site = Model(tiny_model(), byte_tokenizer()), Site.parse("blocks.1.resid_post")
    texts = ["a text", "another", "third one", "x y"]
    rows = model.read(texts, site, pooling=pooling, format="raw")[site].rows
    material = Material(model, site, texts, [0, 1, 0, 1], list("abcd"), rows, pooling=pooling)
    tokens = model.read(
        texts, site, pooling=None, positions="all[-1]" if pooling == "last" else "content", format="raw"
    )
    one = tokens[site]
    expected = [
        getattr(np.maximum(one.rows[one.doc == i], 0), "max" if pooling == "max" else "mean")(0) for i in range(4)
    ]
    found = material.latents(material.training, identity_dictionary(32)).rows.toarray()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert material.read(material.training, site) is material.read(material.training, site)
    np.testing.assert_allclose(material.read(material.training, site), rows, atol=1e-5)


def test_a_part_that_is_missing_is_named_with_a_way_out() -> None:
    model = Model(tiny_model(), byte_tokenizer())
    material = Material(model, "blocks.1.resid_post", ["a", "b"], [0, 1], ["g", "h"], np.eye(2))
    with pytest.raises(UserError, match="latent_set needs a dictionary, and this comparison has none: name one"):
        material.needed("dictionary", "latent_set")
