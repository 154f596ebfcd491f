"""A request is declared once: the same names in Python and on the command line, and an identity without the machine."""

import inspect
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest

import theodolite
from theodolite.core import recipe as recipes
from theodolite.core.errors import UserError
from theodolite.study import request
from theodolite.study.compare_request import SINGULAR, CompareRequest, Leaks, SteeringOptions, by_field, named_fields
from theodolite.study.hardware import Machine
from theodolite.study.option import OPTION, listed


@by_field(CompareRequest)
def taken(request: CompareRequest) -> CompareRequest:
    """Return the request."""
    return request


def test_compare_shows_every_field_with_its_default_in_its_signature_and_its_help() -> None:
    shown = inspect.signature(theodolite.compare).parameters
    assert set(shown) == {each.name for each in fields(CompareRequest)}
    for each in fields(CompareRequest):
        assert shown[each.name].default == (inspect.Parameter.empty if each.default is MISSING else each.default)
        assert f"\n{each.name}: {each.metadata[OPTION].help}" in (theodolite.compare.__doc__ or "")
    assert shown["data"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert {p.kind for name, p in shown.items() if name != "data"} == {inspect.Parameter.KEYWORD_ONLY}


def test_a_function_of_a_request_takes_its_fields_or_a_request_and_changes_to_it() -> None:
    by_name, whole = taken("truth", seeds=3, method="lat"), CompareRequest("truth", seeds=3, methods=["lat"])
    assert by_name == taken(whole) == whole
    changed: Any = taken
    assert changed(whole, seeds=5, shift="new.csv") == replace(whole, seeds=5, shifts=("new.csv",))


@pytest.mark.parametrize(("singular", "plural"), SINGULAR.items())
def test_a_singular_stands_for_its_plural_and_both_are_refused(singular: str, plural: str) -> None:
    assert named_fields({singular: "x"}) == named_fields({plural: "x"}) == {plural: "x"}
    with pytest.raises(UserError, match=f"{plural} is given twice"):
        named_fields({singular: "x", plural: "x"})


def test_a_mistyped_argument_is_named_with_the_one_that_was_meant() -> None:
    compare: Any = theodolite.compare
    with pytest.raises(UserError, match=r"unknown argument of compare 'modle': did you mean 'model'\?"):
        compare("truth", modle="tiny")


def test_one_value_is_a_list_of_one_wherever_several_are_expected() -> None:
    table = pd.DataFrame({"text": ["a"], "label": [0]})
    several = {each.name for each in fields(CompareRequest) if each.metadata[OPTION].many}
    assert several == {"positive", "shifts", "sae", "sites", "methods", "alpha"}
    found = CompareRequest("truth", positive="rude", shifts=table, sae="none", sites="blocks.1.mlp_out", alpha=0.9)
    assert (found.positive, found.sae, found.sites, found.alpha) == (
        ("rude",),
        ("none",),
        ("blocks.1.mlp_out",),
        (0.9,),
    )
    assert len(found.shifts) == 1
    assert found.shifts[0] is table
    assert CompareRequest("truth", positive=0).positive == (0,)
    assert listed(Path("a.csv")) == (Path("a.csv"),)
    assert listed(pd.Series([1, 2])) == (1, 2)


CHANGED: dict[str, Any] = {
    "device": "cpu",
    "batch_tokens": 64,
    "engine": "serial",
    "out": "elsewhere",
    "force": True,
    "dry_run": True,
    "show_text": True,
    "progress": print,
    "command": "theodolite compare truth",
}


@pytest.mark.parametrize(("name", "value"), [*CHANGED.items(), ("device_map", "balanced")])
def test_neither_the_machine_nor_the_output_is_part_of_what_is_asked_for(name: str, value: Any) -> None:
    plain = request.resolve(CompareRequest("truth"))
    found = request.resolve(CompareRequest("truth", **{name: value}))
    assert found.digest() == plain.digest()
    assert request.default_folder(found) == Path("runs/truth")


def test_every_other_field_is_part_of_what_is_asked_for() -> None:
    """A field that is declared and never read would be an option that does nothing."""
    asked: dict[str, Any] = {
        "limit": 100,
        "leaks": "keep-all",
        "model": "other/model",
        "revision": "abc",
        "dtype": "bfloat16",
        "format": "chat",
        "max_tokens": 64,
        "sae": "none",
        "sites": "blocks.3.resid_post",
        "positions": "all",
        "pooling": "max",
        "question": "Is it?",
        "methods": ["lat", "ridge"],
        "seeds": 3,
        "margin": 0.03,
        "admit": True,
        "quick": True,
        "final": True,
    }
    of_a_file = {"text", "label", "positive", "group", "groups", "shifts"}
    # what only a comparison of control methods takes: tests/control/test_analysis.py
    of_steering = {each.name for each in fields(SteeringOptions)}
    known = {each.name for each in fields(CompareRequest)} - of_steering
    assert known == {*asked, *CHANGED, *of_a_file, "data", "device_map", "alpha"}
    asked["alpha"] = 0.8
    plain = request.resolve(CompareRequest("truth"))
    for name, value in asked.items():
        admit = {"admit": True} if name == "alpha" else {}
        assert request.resolve(CompareRequest("truth", **{name: value}, **admit)).digest() != plain.digest(), name


def test_a_request_becomes_the_recipe_that_one_would_write_by_hand() -> None:
    found = request.resolve(
        CompareRequest("truth", methods=["logistic", "ridge"], seeds=3, sites="blocks.3.resid_post", sae="none")
    )
    assert found == recipes.load("truth").model_copy(
        update={
            "methods": ["logistic", "ridge"],
            "seeds": 3,
            "site": "blocks.3.resid_post",
            "sites": ["blocks.3.resid_post"],
            "dictionaries": [],
            "contrasts": [],
        }
    )


def test_the_part_that_is_the_machine_is_refused_where_it_contradicts_itself() -> None:
    assert CompareRequest("truth", device="cpu", batch_tokens=8).machine == Machine(device="cpu", batch_tokens=8)
    with pytest.raises(UserError, match="--batch-tokens 0"):
        CompareRequest("truth", batch_tokens=0)
    with pytest.raises(UserError, match="exclude each other"):
        CompareRequest("truth", device="cpu", device_map="auto")


def test_the_words_of_leaks_are_those_of_a_recipe() -> None:
    assert get_args(Leaks) == get_args(recipes.LeakRule)
    assert recipes.Recipe.model_fields["model"].default in fields_help("model")


def fields_help(name: str) -> str:
    (help_of,) = (each.metadata[OPTION].help for each in fields(CompareRequest) if each.name == name)
    return str(help_of)
