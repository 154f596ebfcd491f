"""An error never recommends what does not exist: options of the command, and arguments of the functions, by name."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from theodolite import cli

SOURCE = Path(__file__).parents[2] / "src" / "theodolite"
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
ARGUMENT = re.compile(r"\b([a-z_]+)=(?=['A-Z{]|$)")
COMMANDS = (
    "compare",
    "read",
    "train",
    "convert",
    "report",
    "check",
    "data audit",
    "data check",
    "data verify",
    "cache clear",
    "steer",
    "claims",
)
# Modules that one command alone reaches, by the start of their path; the options of others exist in some command.
HOME = {
    "cli.py": "read",
    "cli_cache.py": "cache clear",
    "comparison/fitted_reader.py": "read",
    "comparison/reading.py": "read",
    "study/train_request.py": "train",
    "study/training.py": "train",
    "dictionaries/names.py": "train",
    "dictionaries/training/plan.py": "train",
    "dictionaries/training/checkpoint.py": "train",
    "dictionaries/convert.py": "convert",
    "dictionaries/formats/weights.py": "convert",
    "comparison/": "compare",
    "control/steer_request.py": "steer",
    "control/steering.py": "steer",
    "control/toward.py": "steer",
    "dictionaries/opening.py": "compare",
    "models/prompting.py": "compare",
    "data/file_check.py": "data check",
    "study/file_checking.py": "data check",
}
# Reached from compare and data audit, which share these
SHARED = {"data/sources/select.py": ("compare", "data audit"), "data/clean.py": ("compare", "data audit")}


def options(command: str) -> set[str]:
    app = cli.app
    for word in command.split():
        app = app[word]
    return {name for argument in app.assemble_argument_collection() for name in argument.names} | {"--debug", "--help"}


OPTIONS = {command: options(command) for command in COMMANDS}


def messages() -> Iterator[tuple[str, int, str]]:
    """Module, line and text of everything that is raised, warned of or noted; what a value fills in is {}."""
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assigned = {
            n.targets[0].id: n.value
            for n in ast.walk(tree)
            if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)
        }
        for node in ast.walk(tree):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            said = called.endswith(("Error", "warn", "unknown", ".note")) or called in {"column", "cells.column"}
            if isinstance(node, ast.Raise) or said:
                yield path.relative_to(SOURCE).as_posix(), node.lineno, text_of(node, assigned)


def text_of(node: ast.AST, assigned: dict[str, ast.expr]) -> str:
    """The literal text of a message and of the variables that it is put together from, in order."""
    parts = []
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            parts.append(inner.value)
        elif isinstance(inner, ast.Name) and inner.id in assigned and not isinstance(assigned[inner.id], ast.Call):
            parts += [
                n.value
                for n in ast.walk(assigned[inner.id])
                if isinstance(n, ast.Constant) and isinstance(n.value, str)
            ]
    return " ".join(parts)


MESSAGES = list(messages())


def commands_of(module: str, text: str) -> tuple[str, ...]:
    """The commands that have every option a message may name: those it says, else that of its module; none: any may."""
    if said := [command for command in COMMANDS if f"theodolite {command}" in text]:
        return tuple(said)
    if module in SHARED:
        return SHARED[module]
    return next(((command,) for start, command in HOME.items() if module.startswith(start)), ())


def test_the_walk_finds_messages_and_options() -> None:
    assert len(MESSAGES) > 300
    assert sum(bool(FLAG.search(text)) for _, _, text in MESSAGES) > 30
    assert {"--format", "--max-tokens", "--question", "--positive"} <= OPTIONS["compare"]


@pytest.mark.parametrize("module", sorted({module for module, _, text in MESSAGES if FLAG.search(text)}))
def test_an_error_names_options_that_its_command_has(module: str) -> None:
    for where, line, text in MESSAGES:
        for flag in FLAG.findall(text) if where == module else ():
            commands = commands_of(module, text)
            lack = [command for command in commands if flag not in OPTIONS[command]]
            assert any(flag in known for known in OPTIONS.values()), f"{module}:{line}: no command has {flag}"
            assert not lack, (
                f"{module}:{line} recommends {flag}, which {lack} lack: name the command, as `theodolite compare`"
            )


def test_a_damaged_run_names_the_command_that_makes_it_again() -> None:
    """Reached from `read` and `report`, which have no --force."""
    again = [
        text
        for module, _, text in MESSAGES
        if module.endswith(("core/run.py", "reading.py")) and re.search("again with +--force", text)
    ]
    assert len(again) >= 3
    assert all("theodolite compare" in text for text in again)


def parameters() -> set[str]:
    """Every argument name of a function or a class of ours."""
    found: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                found |= {a.arg for a in (*node.args.args, *node.args.kwonlyargs)}
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(node.target.id)  # a field
    return found


def test_an_error_names_arguments_that_exist() -> None:
    known = parameters() | {"param"}  # in `name(param=value)`, which shows a form
    wrong = [(*m[:2], name) for m in MESSAGES for name in ARGUMENT.findall(m[2]) if name not in known]
    assert not wrong
