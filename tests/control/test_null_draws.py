"""Nulls as a comparison draws them: nothing of the concept is left in them, and no text is used twice."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from theodolite.control import null_draws
from theodolite.control.material import Material
from theodolite.control.neutral_texts import neutral_texts
from theodolite.control.null_draws import NEUTRAL_HALVES, OTHER_CONCEPTS, STRATIFIED, TEXTS, null_directions
from theodolite.control.nulls import random_directions
from theodolite.core.seeds import generator
from theodolite.core.site import Site
from theodolite.data import concept_file
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE = Site.parse("blocks.1.resid_post")


@pytest.fixture(scope="module")
def material() -> Material:
    """Eight texts of each class whose states are planted: far apart along one direction, alike in all others."""
    model, draw, n = Model(tiny_model(), byte_tokenizer()), generator(0, "null draws"), 16
    labels, rows = np.repeat([1, 0], n // 2), draw.normal(size=(n, 32))
    rows[:, 0] += np.where(labels == 1, 4.0, -4.0)
    return Material(model, SITE, [f"text {i}" for i in range(n)], labels, [f"group {i}" for i in range(n)], rows)


def test_shuffles_within_the_classes_keep_no_more_of_the_concept_than_random_directions(material: Material) -> None:
    """Plain shuffles of so few labels are unbalanced between the classes, and would keep much of it."""
    rows, label_n = material.training.rows, material.training.labels
    concept_d = rows[label_n == 1].mean(0) - rows[label_n == 0].mean(0)

    def kept(found_md: Any) -> float:
        along_m = np.array(found_md) @ concept_d / np.linalg.norm(concept_d)
        return float(np.sqrt(np.mean(along_m**2)))

    shuffled = null_directions(STRATIFIED, material, 200, concept="joy")
    assert len(shuffled) == 200
    assert kept([*shuffled.values()]) < 1.3 * kept(random_directions(rows, 200, label_n=label_n))


def test_halves_hold_no_text_that_strengths_are_matched_on(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def rows(material: Material, texts: Sequence[str]) -> np.ndarray:
        seen.extend(texts)
        return np.random.default_rng(0).normal(size=(len(texts), 32))

    monkeypatch.setattr(null_draws, "_rows", rows)
    assert len(null_directions(NEUTRAL_HALVES, material, 2, concept="joy", skip=40)) == 2
    assert len(seen) == TEXTS
    assert not set(seen) & set(neutral_texts("joy", 40))


def test_directions_of_other_concepts_leave_the_own_one_out(material: Material) -> None:
    found = null_directions(OTHER_CONCEPTS, material, 2, concept=concept_file.names()[0])
    assert [*found] == concept_file.names()[1:3]
    assert np.linalg.norm([*found.values()], axis=1) == pytest.approx([1.0, 1.0])
