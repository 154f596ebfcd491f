"""Resources of a comparison: what they rest on, by hand where sizes decide, and beside what a build really writes."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from theodolite.core.recipe import Recipe, Source
from theodolite.data import concept
from theodolite.dictionaries.activations import ReluRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.models import preflight
from theodolite.models.model import Model
from theodolite.study import build, subjects
from theodolite.study.resources import resources
from theodolite.study.subjects import SiteDictionary, Subjects, coding_device
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE = "blocks.1.resid_post"
BOTH_WAYS = torch.cat([torch.eye(32), -torch.eye(32)])
TEXTS = [f"text {'happy' if i % 2 else 'sad'} number {i}, and some more of it" for i in range(200)]


def dictionary() -> Dictionary:
    return Dictionary(BOTH_WAYS, torch.zeros(64), BOTH_WAYS, torch.zeros(32), ReluRule(), subtract_b_dec=False)


@pytest.fixture(scope="module")
def both() -> Subjects:
    model = Model(tiny_model(), byte_tokenizer(), name="tiny")
    return Subjects(model, (SiteDictionary("both", "", SITE, dictionary()),))


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    pd.DataFrame({"text": TEXTS, "label": np.arange(len(TEXTS)) % 2}).to_csv(tmp_path / "mine.csv", index=False)
    source = Source(source="mine", file=str(tmp_path / "mine.csv"), field="text", label="label")
    words = dict.fromkeys(["name", "title", "positive", "negative", "question"], "x")
    return Recipe(**words, site=SITE, sites=[SITE], train=[source], format="raw", methods=["logistic@latents"])


def test_disk_is_about_what_a_build_writes(recipe: Recipe, both: Subjects, tmp_path: Path) -> None:
    found = concept.load(recipe)
    told = resources(recipe, both, {"train": found.train.texts})
    build.build_views(recipe, found, both, tmp_path / "cache", lambda *_: None)
    tensors = list((tmp_path / "cache" / "views").rglob("*.safetensors"))
    assert told.disk_gb * 1e9 == pytest.approx(sum(path.stat().st_size for path in tensors), rel=0.25)


def test_memory_by_hand(recipe: Recipe, both: Subjects) -> None:
    network = both.model.network.module
    told = resources(recipe, both, {"train": TEXTS}, batch_tokens=100)
    weights = sum(p.numel() * 4 for p in [*network.parameters(), *network.buffers()])
    batch = 100 * preflight.bytes_per_token(network, 2)
    held = 4 * (2 * 64 * 32 + 64 + 32)
    tile = 3 * 4 * 4096 * 64
    assert told.memory_gb == {"cpu": pytest.approx((weights + batch + held + tile) / 1e9)}


def test_minutes_grow_with_the_texts(recipe: Recipe, both: Subjects) -> None:
    few, many = (resources(recipe, both, {"train": TEXTS, "shift": TEXTS * n}) for n in (1, 99))
    assert many.minutes_reading > 10 * few.minutes_reading > 0
    assert many.minutes_coding > 10 * few.minutes_coding > 0


def test_a_dictionary_codes_where_it_fits(both: Subjects, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that only pretends to be one: untested on CUDA."""
    assert coding_device(dictionary(), both.model) == "cpu"
    monkeypatch.setattr(subjects.offload, "entrance", lambda module: torch.device("cuda:0"))
    model = SimpleNamespace(network=SimpleNamespace(module=None))
    for left, device in ((2**30, "cuda:0"), (2**20, "cpu")):
        monkeypatch.setattr(subjects.preflight, "available", lambda device, left=left: left)
        assert coding_device(dictionary(), model) == device
