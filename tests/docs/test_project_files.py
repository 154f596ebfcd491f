"""What a stranger reads first agrees with itself: README, list of pages, citation, issue forms, hosted workflow."""

import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import PreTrainedModel

import theodolite

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (DOCS / "results.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOW = ROOT / ".github" / "workflows" / "other-versions.yml"
HOSTED = sorted((ROOT / ".github").rglob("*.yml"))
MACHINE = r"(?<![\w.~])/(?:work|root|home|mnt|tmp)/|\bpy(?:pi|thonhosted)\.org|index-url"


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def table(text: str) -> dict[str, list[str]]:
    """The rows of a text's tables: first cell -> the other cells."""
    rows = re.findall(r"^\| ([^|]+) \|(.+)\|$", text, re.M)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 600


def test_the_readme_has_five_methods_and_three_columns_of_the_full_table() -> None:
    findings = README[README.index("## Findings") :]
    rows, full = table(findings), table(RESULTS)
    assert len(rows.pop("method")) == 3
    assert len(rows) == 5
    for name, cells in rows.items():
        assert [full[name][0], full[name][2], full[name][3]] == cells, name


def test_every_figure_of_the_findings_stands_in_the_results() -> None:
    findings = README[README.index("## Findings") : README.index("| method |")]
    figures = re.findall(r"[-+]?(?<![\w.])\.\d+", findings)
    assert len(figures) > 5
    assert not [figure for figure in figures if figure not in RESULTS]


def test_the_index_lists_every_page_once() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    links = re.findall(r"^- \[[^\]]+\]\(([\w.-]+)\)", index, re.M)
    pages = {path.name for path in DOCS.iterdir() if path.suffix in {".md", ".ipynb"}} - {"index.md"}
    assert sorted(links) == sorted(pages)
    assert re.findall(r"^## (.+)$", index, re.M) == ["Tutorial", "How-to", "Reference", "Explanation"]


def test_the_citation_agrees_with_the_package() -> None:
    citation = load(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == PROJECT["version"] == theodolite.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["abstract"] == PROJECT["description"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]


@pytest.mark.parametrize("path", [ROOT / "CITATION.cff", ROOT / "pyproject.toml", *HOSTED], ids=lambda p: p.name)
def test_no_machine_is_named(path: Path) -> None:
    assert not re.findall(MACHINE, path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [p for p in HOSTED if p.parent.name == "ISSUE_TEMPLATE"], ids=lambda p: p.name)
def test_an_issue_template_is_a_form(path: Path) -> None:
    form = load(path)
    assert {"name", "description", "body"} <= form.keys()
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) > 1
    assert all(field["attributes"]["label"] for field in fields)
    for named in re.findall(r"`(docs/[\w.-]+)`", path.read_text(encoding="utf-8")):
        assert (ROOT / named).exists(), named


def test_the_hosted_workflow_says_that_it_is_untested_and_starts_by_hand_only() -> None:
    text, workflow = WORKFLOW.read_text(encoding="utf-8"), load(WORKFLOW)
    assert text.startswith("# UNTESTED")
    assert "untested" in workflow["name"]
    assert list(workflow[True]) == ["workflow_dispatch"]  # YAML 1.1 reads the key `on` as true
    floor = PROJECT["requires-python"].removeprefix(">=")
    assert floor in workflow["jobs"]["pythons"]["strategy"]["matrix"]["python"]
    assert {"run": "make floors"} in workflow["jobs"]["floors"]["steps"]


def test_what_transformers_asks_for_before_it_loads_a_gguf_file_is_a_dependency() -> None:
    """The default model is a GGUF file: an extra would leave a fresh install without any model."""
    loading = inspect.getsource(PreTrainedModel.from_pretrained)
    asked = re.findall(r"if gguf_file is not None and not is_(\w+)_available", loading)
    assert set(asked) <= {line.split(">=")[0] for line in PROJECT["dependencies"]}
    assert "accelerate" in asked


def test_every_range_is_a_floor_that_make_floors_installs() -> None:
    lines = (ROOT / "constraints-floors.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    extras = PROJECT["optional-dependencies"]
    wanted = PROJECT["dependencies"] + extras["fast"]
    floors = dict(re.fullmatch(r"([\w-]+)>=([\d.]+(?:post\d)?)", line).groups() for line in wanted)  # type: ignore[union-attr]
    assert floors.keys() == tested.keys()
    for name, floor in floors.items():
        assert re.fullmatch(rf"{re.escape(floor)}(\.0)*", tested[name]), name
    page = table((DOCS / "dependencies.md").read_text(encoding="utf-8").split("## Floors")[1].split("\n## ")[0])
    assert {name: page[name][0] for name in tested} == tested


def test_classifiers_claim_only_the_python_of_the_tests() -> None:
    claimed = [c for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert claimed == [f"Programming Language :: Python :: {PROJECT['requires-python'].removeprefix('>=')}"]
