"""A kind of recipe that another package brings: from the call and the command line to a finished Run and its page.

The toy analysis scales the state of a tiny model by several strengths and measures how far that moves it: with the
norm of the state as the unit, the answer is the strength itself.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from importlib import resources
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pytest
from case_kit import theodolite as typed
from pydantic import Field

import theodolite
from theodolite.core import recipe as recipes
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.recipe import BaseRecipe, Source
from theodolite.core.rules import Scale
from theodolite.core.run import Run
from theodolite.data.sources import rows
from theodolite.models.model import Model
from theodolite.report import export, pages
from theodolite.report.blocks import Block, Line, Section, Table, Text, Value
from theodolite.report.pages import Page
from theodolite.study import analysis
from theodolite.study.analysis import Analysis, Inputs, Stage, load_recipe
from theodolite.study.compare_request import CompareRequest
from theodolite.study.hardware import Machine
from theodolite.study.kinds import kind_of
from theodolite.study.opened import model_facts, text_notes
from theodolite.study.request import default_folder
from theodolite.study.stages import Steps
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE = "blocks.0.resid_post"
RECIPE = """
kind: stretch
name: stretch/words
title: How far a stretched state moves
texts:
  - source: words
    file: words.csv
    field: text
    label: 0
strengths: [0.5, 2.0]
"""


class Stretch(BaseRecipe):
    """A recipe of the toy kind."""

    kind: Literal["stretch"]
    texts: list[Source]
    strengths: list[float] = Field(min_length=1)
    max_tokens: int = 8
    model: str = "tiny"

    def sources(self) -> Iterator[tuple[str, Source]]:
        yield from (("texts", source) for source in self.texts)

    def beside(self, folder: Path) -> "Stretch":
        placed = [s.model_copy(update={"file": str(folder / s.file)}) for s in self.texts if s.file]
        return self.model_copy(update={"texts": placed})


class State:
    """What the two stages share: the model, the texts of the recipe, and their states as they are."""

    def __init__(self, inputs: Inputs) -> None:
        self.recipe, self.run = inputs.recipe, inputs.run
        self.model = inputs.model or Model(tiny_model("llama"), byte_tokenizer(), name="tiny")
        self.texts = [text for _, source in self.recipe.sources() for text in rows(source)["text"]]
        self.plain = np.empty(0)

    def states(self, *interventions: Intervention) -> np.ndarray:
        how: dict[str, Any] = {"format": "raw", "max_tokens": self.recipe.max_tokens, "interventions": interventions}
        return self.model.read(self.texts, SITE, pooling="last", **how)[self.model.site(SITE)].rows


def read(state: State, steps: Steps) -> None:
    state.run.begin()
    state.run.record("model", model_facts(state.model, "raw"))
    for note in text_notes("texts", state.texts, state.model, "raw", state.recipe.max_tokens):
        state.run.note(*note)
    state.plain = state.states()


def measure(state: State, steps: Steps) -> None:
    """Measure how far each strength moves a state, in units of the state's norm."""
    for strength in state.recipe.strengths:
        moved = state.states(Intervention(SITE, Scale(1 + strength))) - state.plain
        value = float(np.mean(np.linalg.norm(moved, axis=1) / np.linalg.norm(state.plain, axis=1)))
        state.run.add_rows([{"task": "stretched", "metric": "moved", "value": value, "strength": strength}])


class Lines:
    """Plan of the toy."""

    def __init__(self, recipe: Stretch) -> None:
        self.recipe = recipe

    def lines(self) -> Iterator[str]:
        yield f"{len(self.recipe.strengths)} strengths"


def plan(recipe: Stretch, model: Model | None, machine: Machine) -> Lines:
    return Lines(recipe)


STRETCH = Analysis(
    "stretch",
    Stretch,
    State,
    (Stage("reading", read), Stage("measuring", measure)),
    tasks=frozenset({"stretched"}),
    options=frozenset({"max_tokens", "model"}),
    plan=plan,
)


def table(run: Run) -> Table:
    found = run.rows[["strength", "value"]].to_numpy()
    lines = tuple(Line((Value(f"{s:g}"), Value(f"{v:.2f}"))) for s, v in found)
    return Table("How far", (Value("strength"), Value("moved")), lines)


def sections(run: Run, show_text: bool) -> list[Section]:
    words: list[Block] = [Text("Each state is moved by its strength."), table(run)]
    return [Section("How far does it move?", words)]


def summary(run: Run) -> list[Block]:
    return [table(run)]


PAGE = Page(
    sections, lambda run: str(run.recipe["title"]), lambda run: f"{len(run.rows)} strengths.", summary, {"far": table}
)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The toy as an installed package with one recipe, in a folder beside ours, and a private working folder."""
    home = ModuleType("stretching")
    home.STRETCH, home.PAGE = STRETCH, PAGE  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, home.__name__, home)
    places = {analysis.GROUP: "STRETCH", pages.GROUP: "PAGE"}

    def named(group: str) -> list[EntryPoint]:
        return [EntryPoint("stretch", f"stretching:{places[group]}", group)] if group in places else []

    for module in (analysis, pages):
        monkeypatch.setattr(module, "entry_points", named)
    shipped = tmp_path / "recipes"
    (shipped / "stretch").mkdir(parents=True)
    truth = resources.files("theodolite") / "recipes" / "truth.yaml"
    (shipped / "truth.yaml").write_text(truth.read_text(encoding="utf-8"), encoding="utf-8")
    (shipped / "stretch" / "words.yaml").write_text(RECIPE)
    (tmp_path / "words.csv").write_text("text\na stone\na river that is long\n")
    monkeypatch.setattr(recipes, "_folder", lambda: shipped)
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def compare(*args: Any, **fields: Any) -> Any:
    return theodolite.compare(*args, **fields)


def test_a_call_runs_the_analysis_of_the_recipes_kind_to_a_run_and_its_page(tmp_path: Path) -> None:
    result = compare("stretch/words")
    assert result.folder == Path("runs/stretch-words")
    assert result.rows["value"].tolist() == pytest.approx([0.5, 2.0], rel=1e-5)
    assert result.rows["strength"].tolist() == [0.5, 2.0]
    assert set(result.rows["task"]) == {"stretched"}
    page = (result.folder / "report.html").read_text(encoding="utf-8")
    assert "How far a stretched state moves" in page
    assert "How far does it move?" in page
    assert "AUROC" not in page
    assert result.run.facts["model"]["n_blocks"] == 3
    assert [note["kind"] for note in result.notes] == ["truncated"]
    assert repr(result).endswith("2 strengths.")
    assert result.table().to_dict("list") == {"strength": ["0.5", "2"], "moved": ["0.50", "2.00"]}
    assert result.answers() == []
    with pytest.raises(UserError, match=r"runs of kind 'stretch' have no plot; .*rows.csv"):
        result.plot()
    with pytest.raises(UserError, match="LaTeX exists for runs of kind 'compare' only"):
        result.to_latex()
    with pytest.raises(UserError, match="an overlay of several runs exists for"):
        export.write([result.folder, result.folder])
    assert compare("stretch/words").run.manifest["finished"] == result.run.manifest["finished"]


def test_the_command_line_lists_plans_runs_and_reports_it() -> None:
    listed = typed("data", "list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["stretch/words", "truth"]
    assert listed[0].endswith("How far a stretched state moves (stretch)")
    assert "strengths:\n- 0.5\n- 2.0" in typed("data", "show", "stretch/words").stdout
    verified = typed("data", "verify", "stretch/words").stdout.split()
    assert verified == ["texts", "words", "2", "rows", "label", "0:", "2"]
    assert typed("compare", "stretch/words", "--dry-run").stdout == "2 strengths\n"
    assert not Path("runs").exists()
    ran = typed("compare", "stretch/words", "--max-tokens", "30")
    assert ran.code == 0, ran.stderr
    assert ran.stdout.startswith("2 strengths.")
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("stretch-words-")  # a variant of the shipped recipe
    assert typed("report", str(folder)).stdout.startswith("2 strengths.")


def test_an_option_that_does_not_apply_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--methods, --seeds do not apply to recipes of kind 'stretch', which take "):
        compare("stretch/words", seeds=3, methods="lat", out=tmp_path / "run")
    ended = typed("compare", "stretch/words", "--margin", ".1")
    assert ended.code == 2
    assert "--margin does not apply to recipes of kind 'stretch', which take --max-tokens, --model" in ended.stderr
    assert not (tmp_path / "run").exists()


def test_a_field_of_another_kind_is_refused_with_one_message(tmp_path: Path) -> None:
    Path("mine.yaml").write_text(RECIPE + "shifts: {}\n")
    with pytest.raises(UserError, match=r"^recipe 'mine.yaml': shifts: Extra inputs are not permitted$"):
        compare("mine.yaml")
    Path("mine.yaml").write_text(RECIPE.replace("stretch\nname", "strech\nname"))
    with pytest.raises(UserError, match="unknown kind of recipe 'strech': did you mean 'stretch'"):
        compare("mine.yaml")
    Path("mine.yaml").write_text(RECIPE.replace("kind: stretch", "kind: 3"))
    with pytest.raises(UserError, match=r"kind: Input should be 'compare'"):
        compare("mine.yaml")
    with pytest.raises(UserError, match="'stretch/words' is of kind 'stretch', and one of kind 'compare' is needed"):
        recipes.load("stretch/words")


def test_a_run_of_another_kind_in_the_folder_is_refused() -> None:
    compare("stretch/words", out="run")
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match="'run' holds a run of another recipe"):
        compare((rng.normal(size=(120, 3)), np.arange(120) % 2), methods="majority", out="run")


def test_a_name_is_suggested_across_folders() -> None:
    with pytest.raises(UserError, match="unknown recipe 'wrods': did you mean 'stretch/words'"):
        compare("wrods")
    with pytest.raises(UserError, match="did you mean 'truth'"):
        compare("stretch/trhut")
    assert recipes.names("stretch") == ["stretch/words"]
    assert recipes.names("compare") == ["truth"]


def test_the_kind_is_part_of_a_digest_but_of_a_comparison() -> None:
    class Other(Stretch):
        kind: Literal["other"]  # type: ignore[assignment]

    mine, truth = load_recipe("stretch/words"), recipes.load("truth")
    other = Other.model_validate(mine.model_dump() | {"kind": "other"})
    assert mine.digest() != other.digest()
    # the digest of every comparison ever made: Runs of before there were kinds are found by it
    fields = json.dumps(truth.model_dump(mode="json", exclude={"kind"}), sort_keys=True)
    assert truth.digest() == hashlib.sha256(fields.encode()).hexdigest()


def test_recipes_run_in_folders_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()  # the recipes that ship
    flat = [name.replace("/", "-") for name in recipes.names()]
    assert len(set(flat)) == len(flat)
    assert default_folder(recipes.load("truth").model_copy(update={"seeds": 3})).name.startswith("truth-")


def test_data_without_a_recipe_are_compared() -> None:
    assert [kind_of(data) for data in ("truth", "stretch/words", "mine.csv", (1, 2))] == [
        "compare",
        "stretch",
        "compare",
        "compare",
    ]
    assert CompareRequest("stretch/words").given() == []
