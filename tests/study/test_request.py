"""From what was typed to a recipe: what pins it, what is refused, and what a name means."""

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from theodolite.core import recipe as recipes
from theodolite.core.errors import UserError
from theodolite.core.recipe import Recipe
from theodolite.study import own, request
from theodolite.study.compare_request import CompareRequest
from theodolite.toys.tiny_models import tiny_model


def resolved(what: str, weights: str = "", **fields: Any) -> Recipe:
    """The recipe of a request with these fields."""
    return request.resolve(CompareRequest(what, **fields), weights)


METHOD = "from theodolite.readers.ridge import Ridge\nclass Mine(Ridge):\n    'Mine.'\n"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"text": ["a", "b"], "label": [0, 1]}).to_csv("mine.csv", index=False)
    return "mine.csv"


def test_other_weights_in_the_same_folder_are_another_recipe(mine: str) -> None:
    digests = []
    for seed in (0, 0, 1):
        tiny_model(seed=seed).save_pretrained("tiny")
        digests.append(resolved(mine, model="tiny").digest())
    assert digests[0] == digests[1] != digests[2]


def test_another_gguf_file_of_the_same_name_is_another_recipe(mine: str) -> None:
    digests = []
    for content in (b"one", b"one", b"two"):
        Path("m.gguf").write_bytes(content)
        digests.append(resolved(mine, model="m.gguf").digest())
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("several", [False, True])
def test_a_path_is_a_dictionary_as_its_name_is(mine: str, several: bool) -> None:
    Path("sae").mkdir()
    given = [Path("sae")] if several else Path("sae")
    assert resolved(mine, sae=given) == resolved(mine, sae=["sae"])
    assert resolved(mine, sae=given).dictionaries == [str(Path("sae").resolve())]


def test_a_loaded_model_is_known_by_its_hash(mine: str) -> None:
    one, other = (resolved(mine, model="tiny", weights=h).digest() for h in ("a", "b"))
    assert one != other


def test_another_dictionary_in_the_same_folder_is_another_recipe(mine: str) -> None:
    (Path("sae") / "deep").mkdir(parents=True)
    digests = []
    for content in (b"one", b"one", b"two"):
        (Path("sae") / "deep" / "w.safetensors").write_bytes(content)
        digests.append(resolved(mine, sae=["./sae"]).digest())
    assert digests[0] == digests[1] != digests[2]


def test_names_that_pin_their_content_add_nothing(mine: str) -> None:
    Path("shipped").mkdir()
    Path("smollm2-135m-instruct").mkdir()
    assert resolved(mine).files == {}
    assert resolved("truth").digest() == resolved("truth", model="smollm2-135m-instruct").digest()


@pytest.mark.parametrize("spec", ["own.py", "own.py:Mine"])
def test_a_method_file_joins_the_others_and_is_hashed(mine: str, spec: str) -> None:
    Path("own.py").write_text(METHOD)
    recipe = resolved(mine, methods=[spec])
    assert recipe.methods[-1] == spec
    assert len(recipe.methods) > 10
    assert recipe.files == {spec: hashlib.sha256(METHOD.encode()).hexdigest()}
    with pytest.raises(UserError, match=r"no file 'none.py' for method 'none.py'"):
        resolved(mine, methods=["none.py"])


def test_a_folder_does_not_hide_a_recipe_of_its_name(mine: str) -> None:
    Path("truth").mkdir()
    assert resolved("truth").name == "truth"


def test_a_shift_called_like_the_training_set_is_refused(mine: str) -> None:
    pd.DataFrame({"text": ["a", "b"], "label": [0, 1]}).to_csv("train.csv", index=False)
    with pytest.raises(UserError, match="cannot be called 'train'"):
        resolved(mine, shifts=["train.csv"])


RECIPE = """
name: n
title: t
positive: p
negative: q
question: x
methods: [logistic, ridge]
contrasts: [{method: %s, than: logistic}]
train: [{source: mine, file: mine.csv, field: text, label: label}]
"""


def test_an_edited_data_file_is_another_recipe(mine: str) -> None:
    Path("r.yaml").write_text(RECIPE % "ridge")
    digests = []
    for text in ("a", "a", "b"):
        pd.DataFrame({"text": [text, "c"], "label": [0, 1]}).to_csv("mine.csv", index=False)
        digests.append(resolved("r.yaml").digest())
    assert digests[0] == digests[1] != digests[2]


def test_a_contrast_of_a_method_that_is_not_there_is_an_error(mine: str) -> None:
    Path("r.yaml").write_text(RECIPE % "lda")
    with pytest.raises(UserError, match="contrast names 'lda', which is not among the recipe's methods"):
        resolved("r.yaml")
    Path("r.yaml").write_text(RECIPE % "rigde")
    with pytest.raises(UserError, match="did you mean 'ridge'"):
        resolved("r.yaml")
    Path("r.yaml").write_text(RECIPE % "ridge")
    assert len(resolved("r.yaml").contrasts) == 1
    assert resolved("r.yaml", methods=["logistic"]).contrasts == []  # asked for: fewer methods, fewer contrasts


def test_few_shot_prompting_needs_examples(mine: str) -> None:
    with pytest.raises(UserError, match="has no few_shot"):
        resolved(mine, methods=["prompting(column=few_shot)"])


def test_two_shifts_of_one_name_are_refused(mine: str) -> None:
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Path(folder, "s.csv").write_text(Path(mine).read_text())
    with pytest.raises(UserError, match="two --shift files are called s"):
        resolved(mine, shifts=["a/s.csv", "b/s.csv"])


@pytest.mark.parametrize(("name", "value"), [("seeds", 0), ("limit", 3)])
def test_numbers_out_of_bounds_are_said(mine: str, name: str, value: int) -> None:
    with pytest.raises(UserError, match=f"recipe 'mine': {name}: .*got {value}"):
        resolved(mine, **{name: value})


def test_a_recipe_keeps_its_dtype_unless_another_is_asked_for(mine: str) -> None:
    text = recipes.to_yaml(recipes.load("truth").model_copy(update={"dtype": "float32"}))
    Path("t.yaml").write_text(text)
    assert resolved("t.yaml", dtype=None).dtype == "float32"
    assert resolved("t.yaml", dtype="auto").dtype == "auto"


def test_a_control_that_appears_beside_a_dictionary_makes_another_request(tmp_path: Path) -> None:
    asked = {"sae": [str(tmp_path / "mine")]}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "w").write_text("1")
    alone = resolved("truth", **asked).digest()
    (tmp_path / "mine.control").mkdir()
    (tmp_path / "mine.control" / "w").write_text("2")
    assert resolved("truth", **asked).digest() != alone


def test_half_a_character_in_a_table_is_refused_by_its_row(tmp_path: Path) -> None:
    table = pd.DataFrame({"text": pd.Series(["whole", "half \ud83d"], dtype=object), "label": [0, 1]})
    with pytest.raises(UserError, match="row 1 of column 'text'"):
        own.as_path(table, tmp_path)


def test_a_helper_of_a_users_own_method_is_part_of_the_recipe(tmp_path: Path) -> None:
    mine, helper = tmp_path / "mine.py", tmp_path / "helper_of_request.py"
    mine.write_text("def f():\n    import helper_of_request\n")
    helper.write_text("value = 1")
    first = request.file_hashes([str(mine)])
    helper.write_text("value = 2")
    second = request.file_hashes([str(mine)])
    assert first[str(mine)] == second[str(mine)]
    assert first != second


def test_a_damaged_copy_of_a_table_is_written_again(tmp_path: Path) -> None:
    table = pd.DataFrame({"text": ["a", "b"], "label": [0, 1]})
    path = Path(own.as_path(table, tmp_path))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert Path(own.as_path(table, tmp_path)).read_bytes() == whole
