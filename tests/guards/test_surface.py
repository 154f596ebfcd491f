"""The public surface: names, verbs, and what importing costs."""

import resource
import subprocess
import sys

import theodolite

VERBS = {"compare", "read", "train", "report", "data", "check", "convert"}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_public_names_all_resolve() -> None:
    assert sorted(theodolite.__all__) == theodolite.__all__
    for name in theodolite.__all__:
        assert getattr(theodolite, name) is not None


def test_importing_loads_no_heavy_library() -> None:
    heavy = "{'torch', 'transformers', 'sklearn', 'pandas', 'matplotlib'}"
    assert run(f"import sys, theodolite, theodolite.cli; print(*sorted({heavy} & sys.modules.keys()))") == ""


def test_verbs_are_frozen() -> None:
    from theodolite.cli import app

    assert {name for name in app if not name.startswith("-")} == VERBS


def test_help_is_quick() -> None:
    """Processor seconds, because the clock also counts what else the machine does."""
    best = min(_processor_seconds([sys.executable, "-m", "theodolite", "--help"]) for _ in range(3))
    assert best < 0.5, f"--help took {best:.2f} s"


def _processor_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
