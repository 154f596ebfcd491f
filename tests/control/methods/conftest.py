"""Material for methods of control: two classes of texts that a random model tells apart, and dictionaries at a site."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from theodolite.control.material import Examples, Material
from theodolite.core.seeds import generator
from theodolite.core.site import Site
from theodolite.dictionaries.activations import ReluRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE = Site.parse("blocks.1.resid_post")
POSITIVE, NEGATIVE = "abcdefgh", "stuvwxyz"


def random_dictionary(width: int = 48, d: int = 32, seed: int = 0) -> Dictionary:
    draw = torch.Generator().manual_seed(seed)
    shapes = ((width, d), (width,), (width, d), (d,))
    return Dictionary(*(torch.randn(shape, generator=draw) for shape in shapes), activation=ReluRule())


def texts_of(letters: str, n: int, seed: str) -> list[str]:
    """Words of some letters and of letters that both classes share."""
    draw = generator(0, seed)
    return [" ".join("".join(draw.choice(list(letters + "mno"), 3)) for _ in range(4)) for _ in range(n)]


def examples(model: Model, n: int, seed: str, site: Site = SITE) -> Examples:
    texts = [*texts_of(POSITIVE, n // 2, seed + "+"), *texts_of(NEGATIVE, n // 2, seed + "-")]
    rows = model.read(texts, site, format="raw")[site].rows
    return Examples(texts, np.repeat([1, 0], n // 2), [f"{seed}{i // 2}" for i in range(n)], rows)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model(), byte_tokenizer())


@pytest.fixture(scope="module")
def make_material(model: Model) -> Callable[..., Material]:
    """Return a maker of material; rows in another order, or another part, as one asks."""
    training, development = examples(model, 24, "training"), examples(model, 12, "development")
    parts: dict[str, Any] = {
        "development": development,
        "dictionary": random_dictionary(),
        "control_dictionary": random_dictionary(seed=1),
        "instruction": SimpleNamespace(positive="use abcdefgh", negative="use stuvwxyz"),
    }

    def make(order: Any = slice(None), **changes: Any) -> Material:
        columns = [np.array(training.texts, object)[order].tolist(), training.labels[order]]
        return Material(model, SITE, *columns, training.groups[order], training.rows[order], **{**parts, **changes})

    return make


@pytest.fixture
def material(make_material: Callable[..., Material]) -> Material:
    return make_material()
