"""Concept files: the strict schema, a user's table, parts by group, and a concept as the source of a recipe."""

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy_rows import recipe_of, sentences

from theodolite.core.errors import UserError
from theodolite.core.recipe import Recipe, Source
from theodolite.data import concept_file, sources
from theodolite.data.concept_fields import ConceptFields, prefixes

HEAD = "name: toy\ntitle: Toy\npositive: up\nnegative: down\n"


def write(folder: Path, body: str, rows: pd.DataFrame | None = None) -> Path:
    table = toy_rows() if rows is None else rows
    table.to_csv(folder / "toy.csv", index=False)
    path = folder / "toy.yaml"
    path.write_text(HEAD + textwrap.dedent(body), encoding="utf-8")
    return path


def toy_rows(n_groups: int = 60) -> pd.DataFrame:
    texts = sentences(2 * n_groups, seed=3)
    groups = [f"pair {i // 2}" for i in range(2 * n_groups)]
    return pd.DataFrame({"text": texts, "label": [1, 0] * n_groups, "group": groups})


TABLE = "texts: {file: toy.csv, group: group}\n"


def test_a_concept_file_finds_its_table_beside_itself(tmp_path: Path) -> None:
    body = "targets: {positive: [' yes'], negative: [' no']}\nopenings: ['The first', 'A second']\n"
    concept = concept_file.load(write(tmp_path, TABLE + body))
    assert (len(concept.texts), concept.openings) == (120, ["The first", "A second"])
    assert concept.fields.targets is not None
    assert concept.fields.targets.all == [" yes", " no"]
    assert concept.shift is None


def test_rows_may_be_written_in_the_file_itself(tmp_path: Path) -> None:
    body = (
        "texts:\n  positive: [happy]\n  rows:\n    - {text: I sing, label: happy}\n    - {text: I weep, label: sad}\n"
    )
    concept = concept_file.load(write(tmp_path, body))
    assert concept.texts.labels.tolist() == [1, 0]
    assert len(set(concept.texts.groups)) == 2  # each text without a group is one of its own


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("texts: {file: toy.csv, colour: red}", "texts.colour: Extra inputs"),
        ("texts: {}", "give either a file or rows"),
        ("texts: {file: gone.csv}", "no file"),
        ("texts: {file: toy.csv, group: grup}", "did you mean 'group'"),
        ("texts: {file: toy.csv, label: labels}", "did you mean 'label'"),
        (TABLE + "targets: {positive: [' good'], negative: [' goods']}", "' good' is the beginning of ' goods'"),
        (TABLE + "targets: {positive: [], negative: [' no']}", "targets.positive"),
        (TABLE + "openings: []", "leave the field out for the neutral ones"),
        (TABLE + "openings: [A]\nnext: [verb]", "`next` chooses among the neutral openings"),
        (TABLE + "next: [adverb]", "next.0"),
        ("texts: {rows: [{text: a, label: 1}, {text: b, label: 1}]}", "one class only, no text has label 0"),
        ("texts: {rows: [{text: a, label: 1}, {text: ' ', label: 0}]}", "the first in row 1"),
        ("texts: {rows: [{text: a, label: 1}, {text: a, label: 0}]}", "both labels"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        concept_file.load(write(tmp_path, body))


def test_unknown_names_come_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'french'"):
        concept_file.load("frensh")
    with pytest.raises(UserError, match="no concept file"):
        concept_file.load(tmp_path / "gone.yaml")


def test_a_plain_table_is_a_concept_with_neutral_openings(tmp_path: Path) -> None:
    toy_rows().replace({"label": {1: "rude", 0: "polite"}}).to_csv(tmp_path / "mine.csv", index=False)
    concept = concept_file.from_table(tmp_path / "mine.csv", positive=["rude"])
    assert concept.fields.targets is None
    assert concept.fields.private
    assert concept.openings == concept_file.neutral_openings()
    assert concept.texts.labels.sum() == 60
    assert len(set(concept.texts.groups)) == 60  # the column called group, without being named


def test_openings_and_targets_of_ones_own_come_from_files(tmp_path: Path) -> None:
    toy_rows().to_csv(tmp_path / "mine.csv", index=False)
    (tmp_path / "open.txt").write_text("We saw\nWe saw\nThey heard\n", encoding="utf-8")
    (tmp_path / "targets.csv").write_text("target,label\n up,1\n down,0\n", encoding="utf-8")
    concept = concept_file.from_table(
        tmp_path / "mine.csv", openings=tmp_path / "open.txt", targets=tmp_path / "targets.csv"
    )
    assert concept.openings == ["We saw", "They heard"]
    assert concept.fields.targets is not None
    assert concept.fields.targets.positive == [" up"]
    (tmp_path / "targets.csv").write_text("target,label\n up,yes\n", encoding="utf-8")
    with pytest.raises(UserError, match="not 'yes'"):
        concept_file.from_table(tmp_path / "mine.csv", targets=tmp_path / "targets.csv")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "open.jsonl",
            '{"opening": "We saw"}\n{"opening": 5}\n',
            "row 1 of column 'opening' .* is an int, not a string",
        ),
        ("open.jsonl", '{"opening": ["We", "saw"]}\n', "row 0 of column 'opening' .* is a list, not a string"),
        ("open.csv", "opening,opening\nWe saw,They\n", "2 columns called 'opening': rename all but one"),
        ("open.csv", "openning\nWe saw\n", "did you mean 'openning'"),
        ("open.txt", "\n \n", "'.*open.txt' holds no opening: give one a line"),
    ],
)
def test_openings_are_texts_or_are_refused(tmp_path: Path, name: str, content: str, said: str) -> None:
    toy_rows().to_csv(tmp_path / "mine.csv", index=False)
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        concept_file.from_table(tmp_path / "mine.csv", openings=tmp_path / name)


def test_neutral_openings_that_hold_a_target_or_stand_in_a_text_are_left_out(tmp_path: Path) -> None:
    first, second = concept_file.neutral_openings()[:2]
    rows = toy_rows()
    rows.loc[0, "text"] = f"{first.upper()} is here today"
    target = second.split()[-1]
    concept = concept_file.load(
        write(tmp_path, TABLE + f"targets: {{positive: [' {target}'], negative: [' zzz']}}", rows)
    )
    assert not {first, second} & set(concept.openings)
    assert len(concept.openings) > 100


def test_parts_hold_whole_groups_in_their_shares_whatever_the_order_of_rows(tmp_path: Path) -> None:
    rows = toy_rows()
    one = concept_file.parts(concept_file.load(write(tmp_path, TABLE, rows)), seed=1)
    other = concept_file.parts(concept_file.load(write(tmp_path, TABLE, rows.sample(frac=1, random_state=0))), seed=1)
    sizes = [len(part) for part in (one.direction, one.development, one.classifier)]
    assert np.abs(np.array(sizes) - [60, 20, 40]).max() <= 4
    groups = [set(part.groups) for part in (one.direction, one.development, one.classifier)]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 60
    assert one.direction.texts == other.direction.texts
    assert one.classifier.labels.tolist() == other.classifier.labels.tolist()
    assert one.direction.texts != concept_file.parts(concept_file.load(tmp_path / "toy.yaml"), seed=2).direction.texts


def test_no_seed_fits_a_direction_on_a_text_of_any_seeds_classifier(tmp_path: Path) -> None:
    concept = concept_file.load(write(tmp_path, TABLE))
    found = [concept_file.parts(concept, seed) for seed in range(6)]
    classifier = set().union(*(set(parts.classifier.texts) for parts in found))
    fitted = set().union(*(set(parts.direction.texts) | set(parts.development.texts) for parts in found))
    assert not classifier & fitted
    assert len(classifier) == len(found[0].classifier)
    assert len(classifier | fitted) == 120
    assert len({tuple(parts.direction.texts) for parts in found}) == 6


def test_training_sets_of_seeds_share_what_their_parts_share(tmp_path: Path) -> None:
    found = concept_file.training_sets(concept_file.load(write(tmp_path, TABLE)), 8)
    assert found.overlap == pytest.approx(3 / 4, abs=0.06)  # each holds three quarters of the pool
    assert found.groups == pytest.approx(40)
    assert not found.reason
    few = toy_rows().assign(group=[f"pair {i // 2 % 9}" for i in range(120)])
    assert "effective groups" in concept_file.training_sets(concept_file.load(write(tmp_path, TABLE, few)), 3).reason


def test_near_copies_stay_in_one_part_though_their_groups_differ(tmp_path: Path) -> None:
    rows = toy_rows()
    rows.loc[2, "text"] = rows.loc[0, "text"] + "!"
    for seed in range(4):
        parts = concept_file.parts(concept_file.load(write(tmp_path, TABLE, rows)), seed)
        where = [("pair 0" in part.groups, "pair 1" in part.groups) for part in (parts.direction, parts.classifier)]
        assert all(one == other for one, other in where)


def test_other_texts_for_the_classifier_leave_all_rows_to_the_direction(tmp_path: Path) -> None:
    other = pd.DataFrame({"text": sentences(40, seed=9), "label": [0, 1] * 20})
    other.to_csv(tmp_path / "other.csv", index=False)
    parts = concept_file.parts(concept_file.load(write(tmp_path, TABLE + "classifier: {file: other.csv}")), seed=0)
    assert parts.classifier.texts == other["text"].tolist()
    assert len(parts.direction) + len(parts.development) == 120


def test_too_few_groups_for_three_parts_are_refused_in_words(tmp_path: Path) -> None:
    rows = pd.DataFrame({"text": sentences(4, seed=1), "label": [1, 0, 1, 0], "group": ["a", "a", "b", "b"]})
    with pytest.raises(UserError, match="too few or too unequal"):
        concept_file.parts(concept_file.load(write(tmp_path, TABLE, rows)), seed=0)


def test_the_digest_follows_rows_and_fields(tmp_path: Path) -> None:
    one = concept_file.load(write(tmp_path, TABLE)).digest
    assert concept_file.load(write(tmp_path, TABLE)).digest == one
    changed = toy_rows()
    changed.loc[5, "text"] += " more"
    assert concept_file.load(write(tmp_path, TABLE, changed)).digest != one
    assert concept_file.load(write(tmp_path, TABLE + "note: x")).digest != one


def test_a_recipe_can_name_a_packaged_concept() -> None:
    frame = sources.rows(Source(source="fr", concept="french", member="shift", group="group"))
    assert frame["text"].tolist() == concept_file.load("french").shift.texts  # type: ignore[union-attr]
    assert frame["label"].mean() == 0.5
    with pytest.raises(UserError, match="unknown member of the concept 'joy' 'shift'"):
        sources.rows(Source(source="joy", concept="joy", member="shift"))
    with pytest.raises(UserError, match="did you mean 'french'"):
        sources.rows(Source(source="fr", concept="frensh"))


def test_a_recipe_without_a_concept_keeps_the_digest_it_had_before_sources_could_name_one() -> None:
    recipe = recipe_of([Source(source="a", file="a.csv")])
    assert "concept" not in recipe.model_dump()["train"][0]
    named = recipe_of([Source(source="a", concept="french")])
    assert Recipe.model_validate(named.model_dump()) == named
    assert named.model_dump()["train"][0]["concept"] == "french"
    # what the commit before the field gave
    assert recipe.digest() == "fdfc85053499198649ad754fac8237d9b2b471b9cf2a0073678a32900bd68266"


def test_prefixes_are_found_across_both_sides() -> None:
    assert prefixes([" b", " ab", " a", " abc"]) == [(" a", " ab"), (" a", " abc"), (" ab", " abc")]
    assert prefixes([" is", " isn"]) == [(" is", " isn")]
    fields = {"name": "n", "title": "t", "positive": "p", "negative": "n", "texts": {"rows": []}}
    with pytest.raises(ValueError, match="beginning"):
        ConceptFields.model_validate({**fields, "targets": {"positive": [" a"], "negative": [" a"]}})
