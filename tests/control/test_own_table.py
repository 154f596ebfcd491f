"""A recipe of kind `steer` made of the user's own files."""

from pathlib import Path

import pytest

from theodolite.control.own_table import asked_recipe
from theodolite.core.errors import UserError
from theodolite.study.compare_request import CompareRequest

CONCEPT = """
name: weather
title: Weather
positive: weather
negative: other topics
texts: {rows: [{text: It rains., label: 1}, {text: It is bread., label: 0}]}
"""


def test_a_concept_file_is_a_recipe_without_a_table(tmp_path: Path) -> None:
    (tmp_path / "weather.yaml").write_text(CONCEPT)
    recipe = asked_recipe(CompareRequest("steer", table=tmp_path / "weather.yaml"))
    assert (recipe.name, recipe.concept, recipe.table) == ("weather", str(tmp_path / "weather.yaml"), None)
    assert "towards weather" in recipe.title


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"label": "mood"}, "--label belongs to a table, and 'weather.yaml' is a concept file"),
        ({"targets": "targets.csv"}, "--targets belongs to a table"),
        ({"table": "gone.yaml"}, "no concept file 'gone.yaml'"),
        ({"table": "mine.txt"}, "give a .csv, .* file, or a concept file"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weather.yaml").write_text(CONCEPT)
    with pytest.raises(UserError, match=said):
        asked_recipe(CompareRequest("steer", **({"table": "weather.yaml"} | given)))  # type: ignore[arg-type]
