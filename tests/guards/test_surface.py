"""The public surface: names, verbs, and what importing costs."""

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import theodolite

VERBS = {"cache", "claims", "compare", "read", "steer", "train", "report", "data", "check", "convert"}
HEAVY = "{'torch', 'transformers', 'sklearn', 'pandas', 'numpy', 'scipy', 'matplotlib', 'pydantic'}"


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_public_names_all_resolve() -> None:
    assert sorted(theodolite.__all__) == theodolite.__all__
    for name in theodolite.__all__:
        assert getattr(theodolite, name) is not None


def test_names_for_type_checkers_for_dir_and_for_use_agree() -> None:
    """Each is spelled in three places: as an import for type checkers, in `__all__`, and where it is loaded from."""
    assert dir(theodolite) == theodolite.__all__
    (block,) = (node for node in ast.parse(Path(theodolite.__file__).read_text()).body if isinstance(node, ast.If))
    typed = {(alias.name, node.module) for node in block.body for alias in node.names}  # type: ignore[attr-defined]
    assert typed == {(name, f"theodolite.{home}") for name, home in theodolite._HOMES.items()}
    assert set(theodolite.__all__) == set(theodolite._HOMES)


def test_importing_loads_no_heavy_library() -> None:
    assert run(f"import sys, theodolite, theodolite.cli; print(*sorted({HEAVY} & sys.modules.keys()))") == ""


@pytest.mark.parametrize("words", [["--help"], ["compare", "--help"], ["cache", "--help"], ["steer", "--help"]])
def test_help_loads_no_heavy_library(words: list[str]) -> None:
    code = f"""
import sys
from theodolite.cli import app
try:
    app({words!r})
except SystemExit:
    pass
print(*sorted({HEAVY} & sys.modules.keys()), file=sys.stderr)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("Usage: theodolite")
    assert ended.stderr.strip() == ""


def test_verbs_are_frozen() -> None:
    from theodolite.cli import app

    assert {name for name in app if not name.startswith("-")} == VERBS


@pytest.mark.parametrize(
    ("words", "most"),
    [
        (["-m", "theodolite", "--help"], 0.5),
        (["-m", "theodolite", "compare", "--help"], 0.5),
        (["-c", "import theodolite"], 0.3),
    ],
)
def test_help_and_import_are_quick(words: list[str], most: float) -> None:
    """Processor seconds, because the clock also counts what else the machine does."""
    best = min(_processor_seconds([sys.executable, *words]) for _ in range(3))
    assert best < most, f"{words} took {best:.2f} s"


def _processor_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
