"""The command line parses to the library's arguments."""

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from case_kit import theodolite

from theodolite.cli import app
from theodolite.cli_compare import parameters
from theodolite.control.method import ADAPTER, control_methods
from theodolite.core.discover import discover
from theodolite.study.compare_request import CompareRequest, flag
from theodolite.study.option import OPTION


def parsed(*words: str) -> dict[str, Any]:
    command, bound, _ = app.parse_args(["compare", *words], exit_on_error=False, print_error=False)
    assert command.__name__ == "compare"
    return dict(bound.arguments)


@pytest.mark.parametrize("flag", ["--admit", "--selective"])
def test_selective_prediction_has_two_names_on_the_command_line(flag: str) -> None:
    assert parsed("truth", flag)["admit"] is True


@pytest.mark.parametrize(
    ("flag", "name"),
    [
        ("--shift", "shifts"),
        ("--shifts", "shifts"),
        ("--method", "methods"),
        ("--methods", "methods"),
        ("--site", "sites"),
        ("--sites", "sites"),
    ],
)
def test_a_flag_is_called_as_the_argument_in_python_and_by_its_singular(flag: str, name: str) -> None:
    assert parsed("mine.csv", flag, "a", "b", "--seeds", "3") == {"data": "mine.csv", name: ["a", "b"], "seeds": 3}


def test_every_field_that_can_be_written_is_an_option_of_its_name_with_its_help() -> None:
    written = [each for each in fields(CompareRequest) if each.metadata[OPTION].cli is not None]
    assert {each.name for each in parameters()} == {each.name for each in written}
    flags = {flag for argument in app["compare"].assemble_argument_collection() for flag in argument.names}
    assert {flag(each.name) for each in written} <= flags
    page = " ".join(theodolite("compare", "--help").stdout.replace("│", " ").split())
    for each in written:
        assert each.metadata[OPTION].help.replace("`", "") in page


def test_the_help_of_compare_lists_the_methods_and_the_default_model() -> None:
    page = " ".join(theodolite("compare", "--help").stdout.replace("│", " ").split())
    assert f"Known: {', '.join(discover())}." in page
    controls = set(control_methods()) - {ADAPTER}
    assert f"Recipes of kind steer take linear readers, and: {', '.join(sorted(controls))}." in page
    assert "smollm2-135m-instruct (default)" in page


def test_what_is_typed_is_what_python_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    from theodolite.comparison import runner
    from theodolite.report import terminal

    seen: list[CompareRequest] = []
    monkeypatch.setattr(runner, "compare", seen.append)
    monkeypatch.setattr(terminal, "show", lambda result: None)
    line = "truth --device-map auto --batch-tokens 64 --alpha .8 .9 --admit --methods lat --sae none --quick"
    assert theodolite("compare", *line.split()).code == 0
    (found,) = seen
    asked = {name: getattr(found, name) for name in found.given() if name not in ("progress", "command")}
    assert asked == {
        "device_map": "auto",
        "batch_tokens": 64,
        "alpha": (0.8, 0.9),
        "admit": True,
        "methods": ("lat",),
        "sae": ("none",),
        "quick": True,
    }
    assert found.data == "truth"
    assert found.command == f"theodolite compare {line}"


def test_a_mistyped_option_is_answered_with_the_one_that_was_meant() -> None:
    ended = theodolite("compare", "truth", "--modle", "m")
    assert ended.code != 0
    said = (ended.stdout + ended.stderr).replace('"', "")  # cyclopts 4 puts names in quotes
    assert "Did you mean --model?" in said


def test_the_cache_is_listed_and_cleared_after_a_yes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path))
    assert "nothing in" in theodolite("cache", "list").stdout
    (tmp_path / "fits").mkdir()
    (tmp_path / "fits" / "a").write_bytes(b"x" * 2000)
    listed = theodolite("cache", "list").stdout
    assert "fits" in listed
    assert "2.0 kB" in listed
    refused = theodolite("cache", "clear", "fits")
    assert refused.code == 2
    assert "give --yes" in refused.stderr
    for answer, left in (("n", True), ("y", False)):
        monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
        monkeypatch.setattr("builtins.input", lambda question, answer=answer: answer)
        assert theodolite("cache", "clear", "all").code == (2 if left else 0)
        assert (tmp_path / "fits" / "a").exists() is left


def test_yes_asks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path))
    (tmp_path / "fits").mkdir()
    (tmp_path / "fits" / "a").write_bytes(b"x" * 2000)
    assert "removed 2.0 kB" in theodolite("cache", "clear", "all", "--yes").stdout
    assert list(tmp_path.iterdir()) == []


def test_a_shell_completes_the_options() -> None:
    script = app.generate_completion(shell="bash")
    for word in ("compare", "--batch-tokens", "--shifts", "cache", "drop-same"):
        assert word in script
