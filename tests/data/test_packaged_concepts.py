"""Every packaged concept keeps its promises: counts, groups with both classes, openings, targets, sizes."""

from functools import cache
from importlib import resources

import numpy as np
import pytest

from theodolite.core import recipe as recipes
from theodolite.data import concept, concept_file
from theodolite.data.concept_fields import joined, prefixes, spaced
from theodolite.data.concept_file import ConceptFile
from theodolite.data.file_check import check_concept

NAMES = concept_file.names()
SPINE = ("french", "past-tense", "sentiment")
FURTHER = ("anger", "fear", "formality", "joy")


@cache
def loaded(name: str) -> ConceptFile:
    return concept_file.load(name)


def test_at_least_twelve_concepts_ship_the_spine_among_them() -> None:
    assert {*SPINE, *FURTHER} < set(NAMES)
    assert len(NAMES) >= 12


@pytest.mark.parametrize("name", NAMES)
def test_the_check_finds_nothing_wrong(name: str) -> None:
    assert [found for found in check_concept(loaded(name)) if found.level != "note"] == []


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_enough_balanced_and_paired(name: str) -> None:
    found = loaded(name)
    for rows, fewest in ((found.texts, 120 if name in SPINE else 60), (found.shift, 40)):
        if rows is None:
            continue
        assert rows.labels.sum() * 2 == len(rows)
        assert rows.labels.sum() >= fewest
        pairs = {group: sorted(rows.labels[rows.groups == group].tolist()) for group in set(rows.groups)}
        assert set(map(tuple, pairs.values())) == {(0, 1)}
        assert len(set(map(spaced, rows.texts))) == len(rows)
    assert (found.shift is not None) == (name in SPINE)
    assert found.shift is None or len(found.shift) >= 80


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_short_and_of_equal_length_in_both_classes(name: str) -> None:
    rows = loaded(name).texts
    words = np.array([len(text.split()) for text in rows.texts])
    assert words.min() >= 5
    assert words.max() <= 26
    mean = [np.log([len(text) for text in rows.at(rows.labels == label).texts]).mean() for label in (0, 1)]
    assert abs(mean[1] - mean[0]) < 0.15


@pytest.mark.parametrize("name", NAMES)
def test_targets_are_words_with_a_space_that_can_be_told_apart(name: str) -> None:
    fields = loaded(name).fields
    assert fields.targets is not None
    assert fields.unseen_targets is not None
    assert [len(fields.targets.positive), len(fields.targets.negative)] == [8, 8]
    assert [len(fields.unseen_targets.positive), len(fields.unseen_targets.negative)] == [6, 6]
    every = [*fields.targets.all, *fields.unseen_targets.all]
    assert all(target[0] == " " and len(target.split()) == 1 for target in every)
    assert prefixes(every) == []


@pytest.mark.parametrize("name", NAMES)
def test_unseen_targets_stand_in_no_text_of_either_genre(name: str) -> None:
    found = loaded(name)
    assert found.fields.unseen_targets is not None
    texts = [*found.texts.texts, *(found.shift.texts if found.shift else [])]
    assert [t for t in found.fields.unseen_targets.all if f" {spaced(t)} " in joined(texts)] == []


@pytest.mark.parametrize("name", NAMES)
def test_at_least_a_hundred_openings_hold_no_target_and_stand_in_no_text(name: str) -> None:
    found = loaded(name)
    assert found.fields.targets is not None
    assert len(found.openings) >= 100
    assert [t for t in found.fields.targets.all if f" {spaced(t)} " in joined(found.openings)] == []
    read = joined(found.texts.texts)
    assert [opening for opening in found.openings if f" {spaced(opening)} " in read] == []


def test_openings_are_neutral_in_number_length_and_kind() -> None:
    found = concept_file.neutral_openings()
    assert len(found) == len(set(found)) >= 150
    assert all(2 <= len(opening.split()) <= 8 and opening == opening.strip() for opening in found)
    slots = [set(concept_file.neutral_openings([slot])) for slot in ("verb", "description", "noun")]
    assert len(set.union(*slots)) == sum(map(len, slots)) == len(found)


@pytest.mark.parametrize("name", NAMES)
def test_each_has_an_instruction_a_licence_and_says_what_words_alone_reach(name: str) -> None:
    fields = loaded(name).fields
    assert fields.instruction is not None
    assert fields.licence == "Apache-2.0"
    assert not fields.private
    assert "pairs of words alone reach an AUROC of" in fields.note


@pytest.mark.parametrize("name", NAMES)
def test_parts_have_both_classes_in_their_shares(name: str) -> None:
    found = concept_file.parts(loaded(name), seed=0)
    n = len(loaded(name).texts)
    for part, share in ((found.direction, 1 / 2), (found.development, 1 / 6), (found.classifier, 1 / 3)):
        assert part.labels.mean() == 0.5
        assert abs(len(part) - share * n) <= 4


@pytest.mark.parametrize("name", NAMES)
def test_classifiers_read_no_text_that_a_direction_or_a_shift_holds(name: str) -> None:
    own = loaded(name)
    found = [concept_file.parts(own, seed) for seed in range(5)]
    apart = set(found[0].classifier.texts)
    for parts in found:
        assert set(parts.classifier.texts) == apart
        assert not apart & {*parts.direction.texts, *parts.development.texts}
        assert not apart & {*(own.shift.texts if own.shift else ()), *own.openings}


@pytest.mark.parametrize("name", SPINE)
def test_a_spine_concept_is_read_at_the_sites_that_it_is_steered_at(name: str) -> None:
    recipe = reading(name)
    assert (recipe.name, recipe.format, recipe.site) == (f"reading/{name}", "raw", "blocks.17.resid_post")
    assert recipe.sites == [f"blocks.{block}.resid_post" for block in (9, 13, 17)]
    sources = [*recipe.train, *recipe.shifts["other-genre"].rows]
    assert [(s.concept, s.member, s.group) for s in sources] == [(name, None, "group"), (name, "shift", "group")]


def test_a_concept_is_read_on_the_texts_that_it_is_steered_by() -> None:
    found, own = concept.load(reading("french")), loaded("french")
    assert own.shift is not None
    assert sorted(found.train.texts) == sorted(own.texts.texts)
    assert sorted(found.shifts["other-genre"].texts) == sorted(own.shift.texts)
    assert found.train.frame["cluster"].nunique() == len(set(own.texts.groups))  # a pair is never divided


def reading(name: str) -> recipes.Recipe:
    return recipes.load(resources.files("theodolite") / "recipes" / "reading" / f"{name}.yaml")  # type: ignore[arg-type]


def test_all_of_it_is_small() -> None:
    folder = resources.files("theodolite") / "concepts"
    assert sum(len(path.read_bytes()) for path in folder.iterdir()) < 1_000_000
