"""The table of renames is true: new names of code exist, old ones are gone."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "renames.md"
CODE = ("class", "function", "table of rules")


def section(title: str) -> str:
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    return found


def names(cell: str) -> Iterator[tuple[str, str]]:
    """(module, name) of what a cell names outside parentheses; a name without a module is of the module before it."""
    module = ""
    for word in re.findall(r"`([\w.]+)`", re.sub(r"\([^)]*\)", "", cell)):
        home, _, name = word.rpartition(".")
        module = home or module
        yield module, name


def renamed() -> Iterator[tuple[str, str, bool]]:
    for kind, old, new in re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", section("Selective prediction"), re.M):
        if kind.strip() in CODE:
            yield from ((*name, False) for name in names(old))
            yield from ((*name, True) for name in names(new))


@pytest.mark.parametrize(("module", "name", "exists"), [*renamed()])
def test_new_names_exist_and_old_ones_are_gone(module: str, name: str, exists: bool) -> None:
    assert hasattr(importlib.import_module(f"theodolite.{module}"), name) == exists


def test_the_table_is_read() -> None:
    assert len(list(renamed())) > 40
