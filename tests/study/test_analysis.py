"""Analyses: a kind of recipe is found by its name, and its stages run in order, timed, in a folder of their own."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from theodolite.core.errors import UserError
from theodolite.core.run import Run
from theodolite.core.strict import Strict
from theodolite.core.tick import silent
from theodolite.study import analysis as module
from theodolite.study.analysis import Analyses, Analysis, Inputs, Stage
from theodolite.study.hardware import DEFAULT
from theodolite.study.stages import Stages, Steps


class Word(Strict):
    """A recipe whose analysis writes one word."""

    kind: str = "word"
    name: str = "one word"
    word: str
    loud: bool = False


class Written:
    """State of that analysis."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs, self.words = inputs, [inputs.recipe.word]


def double(state: Written, steps: Steps) -> None:
    state.words *= 2


def shout(state: Written, steps: Steps) -> None:
    state.words = [word.upper() for word in state.words]


def write(state: Written, steps: Steps) -> None:
    if "REFUSED" in state.words:
        raise UserError("a word that cannot be written")
    state.inputs.run.write_json("words", state.words)


WORDS = Analysis(
    "word",
    Word,
    Written,
    (
        Stage("doubling", double),
        Stage("shouting", shout, lambda state: state.inputs.recipe.loud),
        Stage("writing", write),
    ),
)


@pytest.fixture
def analyses(monkeypatch: pytest.MonkeyPatch) -> Analyses:
    home = ModuleType("words_of_another_package")
    home.WORDS = WORDS  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, home.__name__, home)
    named = [
        EntryPoint("word", f"{home.__name__}:WORDS", module.GROUP),
        EntryPoint("compare", f"{home.__name__}:WORDS", module.GROUP),
    ]
    monkeypatch.setattr(module, "entry_points", lambda group: named if group == module.GROUP else [])
    return Analyses()


def carried_out(recipe: Word, folder: Path, analyses: Analyses) -> Run:
    run = Run.create(folder, recipe.model_dump(), "digest")
    analyses[recipe.kind].carry_out(Inputs(recipe, run, DEFAULT), Stages(run, silent))
    return Run.open(folder)


def test_stages_run_in_order_where_the_recipe_asks_for_them(analyses: Analyses, tmp_path: Path) -> None:
    quiet = carried_out(Word(word="a"), tmp_path / "quiet", analyses)
    loud = carried_out(Word(word="a", loud=True), tmp_path / "loud", analyses)
    assert [quiet.read_json("words"), loud.read_json("words")] == [["a", "a"], ["A", "A"]]
    assert [stage["stage"] for stage in quiet.manifest["stages"]] == ["doubling", "writing"]
    assert [stage["stage"] for stage in loud.manifest["stages"]] == ["doubling", "shouting", "writing"]
    assert quiet.finished
    assert loud.finished


def test_a_request_that_is_refused_leaves_no_folder(analyses: Analyses, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        carried_out(Word(word="refused", loud=True), tmp_path / "run", analyses)
    assert not (tmp_path / "run").exists()


def test_rows_have_the_tasks_that_their_analysis_declares(tmp_path: Path) -> None:
    def add(state: Written, steps: Steps) -> None:
        state.inputs.run.add_rows([{"task": state.inputs.recipe.word}])

    counting = Analysis("word", Word, Written, (Stage("adding", add),), tasks=frozenset({"count"}))
    for word in ("count", "matched"):
        recipe = Word(word=word)
        inputs = Inputs(recipe, Run.create(tmp_path / word, recipe.model_dump(), "digest"), DEFAULT)
        if word == "matched":
            with pytest.raises(AssertionError, match="tasks are"):
                counting.carry_out(inputs, Stages(inputs.run, silent))
        else:
            counting.carry_out(inputs, Stages(inputs.run, silent))
    assert Run.open(tmp_path / "count").finished
    assert not Run.open(tmp_path / "matched").finished


def test_kinds_are_ours_and_those_of_packages_which_cannot_replace_ours(analyses: Analyses) -> None:
    assert sorted(analyses) == ["compare", "debate", "steer", "word"]
    assert analyses["word"] is WORDS
    assert analyses["compare"] is not WORDS
    with pytest.raises(UserError, match="unknown kind of recipe 'wrod': did you mean 'word'"):
        analyses["wrod"]
