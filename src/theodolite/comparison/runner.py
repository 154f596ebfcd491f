"""`theodolite.compare`: a request becomes a plan, a new Run or the finished one, and the Run's page is written."""

from dataclasses import replace
from pathlib import Path

from theodolite.comparison.arrays import compare_rows
from theodolite.comparison.planning import ComparisonPlan, plan
from theodolite.core.cache import cache_root
from theodolite.core.errors import UserError
from theodolite.core.recipe import Recipe
from theodolite.core.run import Run
from theodolite.core.tick import Tell
from theodolite.models.model import Model
from theodolite.report import html
from theodolite.report.automatic import automatic
from theodolite.report.result import Result
from theodolite.study import own
from theodolite.study.analysis import Analyses, Inputs
from theodolite.study.compare_request import CompareRequest, by_field
from theodolite.study.given_methods import in_words
from theodolite.study.hardware import Machine
from theodolite.study.option import listed
from theodolite.study.request import default_folder, local_paths, resolve
from theodolite.study.settle import adaptation_notes, adapted
from theodolite.study.stages import Stages
from theodolite.study.subjects import available, open_subjects

# Arguments that apply to (X, y): there is no text and no model, so nothing about them can be asked for
ROWS_TAKE = ("methods", "groups", "seeds", "margin", "out", "force", "progress", "command")


@by_field(CompareRequest)
def compare(request: CompareRequest) -> Result | ComparisonPlan:
    """Compare methods on one labelled concept and return the finished run, or with `dry_run` what it would take.

    data: a recipe's name, a recipe file, a CSV, TSV, JSONL, JSON or Parquet file, a DataFrame, or `(X, y)` with rows of
    your own (no model is read then; `groups`, one value per row, says which belong together). model: a name or a loaded
    `theodolite.Model`. shifts: files or DataFrames. methods: names, files, or classes and instances of readers. One
    value alone is a list of one; `shift`, `method` and `site` are accepted for their plurals. A finished run of the
    same recipe is opened, an unfinished one goes on. `compare(CompareRequest(...), seeds=3)` takes a request, changed.

    >>> run = compare("mine.csv", text="prompt", label="harmful")   # doctest: +SKIP
    >>> run.table()                                                 # doctest: +SKIP
    """
    if request.methods is not None:
        request = replace(request, methods=in_words(listed(request.methods) or ()))
    with automatic(request.progress) as progress:
        if isinstance(request.data, tuple):
            return _of_rows(request, progress)
        if request.groups is not None:
            raise UserError("groups belongs to compare((X, y)): for a file or a recipe, group names a column")
        return _of_texts(request, progress)


def _of_rows(request: CompareRequest, progress: Tell) -> Result:
    """Compare readers of rows; arguments about texts or a model are refused."""
    assert isinstance(request.data, tuple)
    if len(request.data) != 2:
        raise UserError(f"a tuple is (X, y), with groups=: got {len(request.data)} values")
    if given := [name for name in request.given() if name not in ROWS_TAKE]:
        raise UserError(
            f"compare((X, y)) reads no text and no model, so {', '.join(given)} cannot apply: "
            "leave them out, or give a file"
        )
    return compare_rows(request, progress)


def _of_texts(request: CompareRequest, progress: Tell) -> Result | ComparisonPlan:
    """Plan the run of a recipe or table, or make it, or open the one that is there."""
    loaded = request.model if isinstance(request.model, Model) else None
    named = replace(own.on_disk(request, cache_root()), model=_name(request.model))
    recipe, machine = resolve(named, loaded.identity if loaded else ""), request.machine
    if request.dry_run:
        return _planned(recipe, loaded, machine)
    folder, asked = request.out or default_folder(recipe), recipe.model_dump(mode="json")
    run = Run.create(
        folder, asked, recipe.digest(), force=request.force, command=request.command, paths=local_paths(recipe)
    )
    if run.finished:
        _check_dictionaries(run)
    else:
        Analyses()[recipe.kind].carry_out(Inputs(recipe, run, machine, loaded), Stages(run, progress))
    html.write(
        run, show_text=request.show_text
    )  # at every call: a page with texts must not stay when the next call asks for none
    return Result(run)


def _name(model: object) -> str | None:
    """The name of a model that may be loaded already."""
    if isinstance(model, Model):
        return model.name
    if model is None or isinstance(model, str | Path):
        return None if model is None else str(model)
    raise UserError(f"model is a {type(model).__name__}: give a name, or wrap it: theodolite.Model(model, tokenizer)")


def _planned(recipe: Recipe, model: Model | None, machine: Machine) -> ComparisonPlan:
    """Plan of the recipe as this model can carry it out."""
    subjects = open_subjects(recipe, model, machine)
    fitting = adapted(recipe, subjects.model)
    adapted_notes = [text for _, _, text in adaptation_notes(recipe, fitting, subjects.model)]
    return plan(fitting, subjects, adapted_notes, machine.batch_tokens)


def _check_dictionaries(run: Run) -> None:
    """Raise UserError if a finished run read other dictionaries than the same request would find now."""
    used = run.facts.get("available")
    if used is None:  # written before this was recorded
        return
    now = available(Recipe.model_validate(run.recipe), run.facts["model"]["hash"])
    changes = {
        "new": now.keys() - used.keys(),
        "gone": used.keys() - now.keys(),
        "changed": {name for name in now.keys() & used.keys() if now[name] != used[name]},
    }
    if any(changes.values()):
        listed = "; ".join(f"{word}: {', '.join(sorted(names))}" for word, names in changes.items() if names)
        raise UserError(
            f"the run in {str(run.folder)!r} was made with other dictionaries than are found now ({listed}): "
            "--force to run it again, or choose another --out"
        )
