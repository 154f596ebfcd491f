"""What the pages promise: examples run, links lead somewhere, commands parse, and nothing names a private machine."""

import doctest
import importlib
import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App

from theodolite.cli import app
from theodolite.core import recipe
from theodolite.data import concept

ROOT = Path(__file__).parents[2]
# docs/api is generated from docstrings and not committed; test_api_pages.py checks it
FOUND = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PAGES = [path for path in FOUND if path.parent != ROOT / "docs" / "api"]
FENCE = re.compile(r"(?P<slow><!-- slow -->\s*\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")
PYTHON = ("python", "py", "pycon")
README = ROOT / "README.md"  # its slow example reads files that a test of its own writes
NUMBER = re.compile(r"\d*\.\d+")
PRIVATE = r"(?<![\w.~])/(?:work|root|home|mnt|tmp)/|\bpy(?:pi|thonhosted)\.org|index-url"


def page(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, *languages: str, slow: bool | None = None) -> Iterator[tuple[int, str]]:
    """(line, code) of a page's fenced blocks in these languages."""
    text = path.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        if found["language"] in languages and slow in {None, found["slow"] is not None}:
            yield text.count("\n", 0, found.start("code")) + 1, found["code"]


def run(path: Path, *, slow: bool) -> None:
    """A page's Python blocks from top to bottom, in one namespace; a block of `>>>` lines must print what it shows."""
    namespace: dict[str, Any] = {"__name__": "page"}
    for line, code in blocks(path, *PYTHON, slow=slow):
        if code.startswith(">>> "):
            session = doctest.DocTestParser().get_doctest(code, namespace, page(path), str(path), line - 1)
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
            assert not runner.run(session, clear_globs=False).failed, f"{page(path)}:{line}"
            namespace = session.globs
        else:
            exec(compile("\n" * (line - 1) + code, str(path), "exec"), namespace)


@pytest.mark.parametrize("path", [p for p in PAGES if any(blocks(p, *PYTHON, slow=False))], ids=page)
def test_examples_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(path, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in PAGES if p != README and any(blocks(p, *PYTHON, slow=True))], ids=page)
def test_examples_on_the_real_model_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(path, slow=True)


@pytest.mark.slow
def test_the_first_example_prints_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The README's table has one row per method, with a figure for the films and one for the products."""
    monkeypatch.chdir(tmp_path)
    found = concept.load(recipe.load("sentiment"))
    for name, frame in (("films", found.train.frame), ("products", found.shifts["amazon"].frame)):
        frame.sample(240, random_state=0)[["text", "label"]].to_csv(f"{name}.csv", index=False)
    run(README, slow=True)
    lines = [line for line in capsys.readouterr().out.splitlines() if NUMBER.search(line)]
    assert len(lines) == 5
    assert all(len(NUMBER.findall(line)) >= 2 for line in lines)


@pytest.mark.parametrize("path", [p for p in PAGES if any(blocks(p, *PYTHON))], ids=page)
def test_imports_of_examples_exist(path: Path) -> None:
    """Of slow examples too, which a move of modules would break unseen."""
    for line, code in blocks(path, *PYTHON):
        for home, names in re.findall(r"^(?:>>> )?from (theodolite[\w.]*) import ([\w, ]+)$", code, re.M):
            module = importlib.import_module(home)
            for name in re.split(r",\s*", names):
                below = hasattr(module, "__path__") and importlib.util.find_spec(f"{home}.{name}")
                assert hasattr(module, name) or below, f"{page(path)}:{line}: {home} has no {name}"


@pytest.mark.parametrize("path", PAGES, ids=page)
def test_links_lead_somewhere(path: Path) -> None:
    for link in LINK.findall(path.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def headings(path: Path) -> set[str]:
    """Anchors of a page's headings, by GitHub's rule."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


COMMANDS = [
    pytest.param(command, id=f"{page(path)}: {command[:60]}")
    for path in PAGES
    for _, code in blocks(path, "sh", "bash", "console", "shell")
    for command in code.replace("\\\n", " ").splitlines()
    if command.removeprefix("$ ").startswith(("theodolite ", "make "))
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    program, *arguments = shlex.split(command.removeprefix("$ "), comments=True)
    if program == "make":
        assert set(arguments) <= targets()
    else:
        app.parse_args(arguments, exit_on_error=False, print_error=False)


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


@pytest.mark.parametrize("path", [p for p in PAGES if p.name != "renames.md"], ids=page)  # it lists what is gone
def test_flags_in_the_text_exist(path: Path) -> None:
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for flag in re.findall(r"`(--[a-z-]+)", text):
        assert flag in flags(app), flag
    for command in re.findall(r"`theodolite ([^`]+)`", text):
        words = command.split()
        group = app[words[0]]
        if words[0] == "data" and words[1:]:
            group = group[words[1]]
        assert {w for w in words if w.startswith("--")} <= flags(group), command


def flags(group: App) -> set[str]:
    """Every long flag of a command and of the commands below it."""
    arguments = group.assemble_argument_collection() if group.default_command else ()
    own = {name for argument in arguments for name in argument.names}
    below = [flags(group[name]) for name in group if not name.startswith("-")]
    return {name for name in own.union(*below) if name.startswith("--")} | {
        "--help",
        "--version",
        "--debug",
        "--install-completion",
    }


@pytest.mark.parametrize("path", PAGES, ids=page)
def test_no_private_machine_is_named(path: Path) -> None:
    assert not re.findall(PRIVATE, path.read_text(encoding="utf-8"))


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    runtime, extras = re.findall(r"\|---\|.*?\n((?:\|.*\n)+)", text)[:2]
    wanted = {bare(name) for name in project["dependencies"]}
    assert set(re.findall(r"^\| ([\w-]+) \|", runtime, re.M)) == wanted
    for extra, names in project["optional-dependencies"].items():
        row = next(line for line in extras.splitlines() if line.startswith(f"| `{extra}` |"))
        assert {name.strip() for name in row.split("|")[2].split(",")} == {bare(name) for name in names}


def bare(requirement: str) -> str:
    """The distribution's name without its range."""
    return re.split(r"[<>=!~\[; ]", requirement, maxsplit=1)[0]


PEERS = (ROOT / "docs" / "peers.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip(" *") for cell in line.strip("|\n").split("|")] for line in PEERS.splitlines() if line.count("|") == 9
]


@pytest.mark.parametrize("row", ROWS[3:], ids=lambda row: row[0])
def test_every_cell_that_grants_something_has_its_evidence(row: list[str]) -> None:
    sections = re.split(r"^#{2,3} ", PEERS, flags=re.M)
    own = next(s for s in sections if row[0].split(",")[0] in s.splitlines()[0])
    assert "github.com" in own
    for number, mark in enumerate(row[2:], 1):
        assert mark in {"yes", "part", "no", "?"}
        if mark in {"yes", "part", "?"}:
            assert re.search(rf"\b{number} {re.escape(mark)}", own), f"{row[0]}, {number}: {mark}"
