"""YAML that would fill memory, exhaust the stack or mean something else than it says is one clear error."""

import time

import pytest

from theodolite.core import recipe, safe_yaml
from theodolite.core.errors import UserError

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
LONG = "a: &a " + "x" * 1_000_000 + "\nb: &b [" + ", ".join(["*a"] * 400) + "]\nc: [" + ", ".join(["*b"] * 400) + "]"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "stands for more than 100,000 values"),
        (LONG, "stands for more than 100,000 values"),
        ("[" * 200_000, "nested deeper than 64"),
        ("[" * 100 + "]" * 100, "nested deeper than 64"),
        ("a: {" * 5000, "nested deeper than 64"),
        ("".join("  " * n + "a:\n" for n in range(100)), "nested deeper than 64"),
        ("a: &a [*a]", "stands inside its own anchor"),
        ("name: a\nname: b", "line 2 gives 'name' again"),
        ("a: {b: 1, b: 2}", "line 1 gives 'b' again"),
        ("a: [{b: 1, b: 2}]", "gives 'b' again"),
        ("seeds: 9223372036854775808", "64 bits is too large"),
        ("seeds: " + "9" * 5000, "cannot be read|too large"),
        ("seeds: 0x" + "f" * 5000, "too large"),
        ("x: 2024-01-01", "read as a date: put it in quotes"),
        ("x: 2024-01-01 10:00:00", "read as a datetime"),
        ("x: 2024-13-45", "cannot be read"),
        ("x: !!binary aGk=", "read as a bytes"),
        ("x: !!set {a, b}", "read as a set"),
        ("x: .nan", "no number of JSON"),
        ("x: .inf", "no number of JSON"),
        ("1: x", "the key 1 is no text"),
        ("true: x", "the key True is no text"),
        ("x: 1:30", "reads 1:30 as another number"),
        ("positive: [yes]", "reads yes as true or false: put it in quotes"),
        ("label: Off", "reads Off as true or false"),
        ("x: 010", "reads 010 as another number"),
        ("x: !!python/object/apply:os.system [id]", "not YAML"),
        ("x: *nothing", "not YAML"),
        ("\tx: 1", "not YAML"),
    ],
)
def test_traps_are_one_clear_error_at_once(text: str, words: str) -> None:
    start = time.process_time()
    with pytest.raises(UserError, match=words) as found:
        safe_yaml.load(text, "recipe 'r.yaml'")
    assert "r.yaml" in str(found.value)
    assert time.process_time() - start < 5
    with pytest.raises(UserError, match=words):
        recipe.parse(text, "r.yaml")


def test_plain_yaml_means_what_it_meant() -> None:
    text = "a: &a {x: 1, y: [1, 2.5, null, true, 'text']}\nb: {<<: *a, x: 2}\nc: *a\nd: 0.5\ne: -3\nf: 0\ng: 1e-3\n"
    assert safe_yaml.load(text, "r") == {
        "a": {"x": 1, "y": [1, 2.5, None, True, "text"]},
        "b": {"x": 2, "y": [1, 2.5, None, True, "text"]},
        "c": {"x": 1, "y": [1, 2.5, None, True, "text"]},
        "d": 0.5,
        "e": -3,
        "f": 0,
        "g": "1e-3",
    }
    assert safe_yaml.load("", "r") is None


def test_a_text_in_quotes_may_look_like_anything() -> None:
    assert safe_yaml.load("x: '1:30'\ny: '2024-01-01'\nz: '010'", "r") == {"x": "1:30", "y": "2024-01-01", "z": "010"}
