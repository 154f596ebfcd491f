"""Recipes: what a file may hold, and how a value out of bounds is said."""

from pathlib import Path

import pytest

from theodolite.core import recipe as recipes
from theodolite.core.errors import UserError

YAML = "{name: n, title: t, positive: p, negative: q, question: x, train: []%s}"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (", seeds: 0", "recipe 'mine': seeds: .*greater than or equal to 1 .got 0."),
        (", limit: 3", "recipe 'mine': limit: .*greater than or equal to 40 .got 3."),
        (", sedes: 3", "recipe 'mine': sedes: Extra inputs are not permitted .got 3."),
        (", seeds: [", "recipe 'mine' is not YAML"),
        (
            ", primary: wraped, shifts: {wrapped: {rows: []}}",
            "mine': unknown primary shift 'wraped': did you mean 'wrapped'",
        ),
        (
            ", sealed: toxicchta, shifts: {toxicchat: {rows: []}}",
            "unknown sealed shift 'toxicchta': did you mean 'toxicchat'",
        ),
        (", leave_out: [roh]", "unknown source to leave out 'roh'"),
        (", shifts: {train: {rows: []}}", "a shift cannot be called 'train'"),
        (", shifts: {in-distribution: {rows: []}}", "a shift cannot be called 'in-distribution'"),
    ],
)
def test_problems_are_named_with_place_and_value(extra: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipes.parse(YAML % extra, "mine")


def test_bounds_leave_good_recipes_as_they_are() -> None:
    assert (recipes.parse(YAML % ", seeds: 1, limit: 40", "mine").seeds, recipes.parse(YAML % "", "m").limit) == (
        1,
        None,
    )
    for name in recipes.names("compare"):
        recipes.load(name)


def test_every_field_of_a_recipe_and_a_source_is_explained() -> None:
    for kind in (recipes.Recipe, recipes.Source):
        unsaid = [name for name in kind.model_fields if f"`{name}`" not in (kind.__doc__ or "")]
        assert set(unsaid) <= {"source", "choices", "licence", "redistributable"}, unsaid


def test_a_source_to_leave_out_is_told_from_what_it_is_ranked_against() -> None:
    fields = {**dict.fromkeys(("name", "title", "positive", "negative", "question"), "x"), "leave_out": ["a vs b"]}
    train = [{"source": "a vs b"}, {"source": "c"}]
    with pytest.raises(UserError, match="named up to ' vs ': 'a'"):
        recipes.validated(fields | {"train": train}, "mine")
    assert recipes.validated(fields | {"train": train, "leave_out": ["a"]}, "mine").leave_out == ["a"]


def test_relative_data_files_lie_beside_the_recipe(tmp_path: Path) -> None:
    source = "{source: s, file: rows.csv}"
    wrapped = f"{{rows: [{source}], wrap: {{templates: {{source: t, file: sub/templates.txt}}}}}}"
    text = YAML.replace("train: []", f"train: [{source}, {{source: o, file: /data/other.csv}}]")
    (tmp_path / "mine.yaml").write_text(text % f", shifts: {{new: {wrapped}}}")
    recipe = recipes.load(tmp_path / "mine.yaml")
    assert [source.file for source in recipe.train] == [str(tmp_path / "rows.csv"), "/data/other.csv"]
    assert recipe.shifts["new"].rows[0].file == str(tmp_path / "rows.csv")
    assert recipe.shifts["new"].wrap is not None
    assert recipe.shifts["new"].wrap.templates.file == str(tmp_path / "sub/templates.txt")
