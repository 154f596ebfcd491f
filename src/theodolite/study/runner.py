"""A request of any kind becomes a plan, a new Run or the finished one, and the Run's page is written."""

from dataclasses import replace
from pathlib import Path

from theodolite.core.cache import cache_root
from theodolite.core.errors import UserError
from theodolite.core.run import Run
from theodolite.core.tick import Tell
from theodolite.models.model import Model
from theodolite.report import html
from theodolite.report.result import Result
from theodolite.study import own
from theodolite.study.analysis import Analyses, Inputs, Plan
from theodolite.study.compare_request import CompareRequest
from theodolite.study.kinds import kind_of, resolved
from theodolite.study.request import default_folder
from theodolite.study.stages import Stages


def carry_out(request: CompareRequest, progress: Tell) -> Result | Plan:
    """Return the finished Run of a recipe or table, made now or found, or with `dry_run` the plan of it.

    The kind of the recipe decides which analysis resolves, plans and runs it, and which page is written. An unfinished
    Run of the same recipe goes on; the Run of another recipe, of this kind or another, is refused without `force`.
    """
    loaded = request.model if isinstance(request.model, Model) else None
    named = replace(own.on_disk(request, cache_root()), model=_name(request.model))
    analysis, machine = Analyses()[kind_of(named.data)], request.machine
    recipe = resolved(analysis, named, loaded.identity if loaded else "")
    if request.dry_run:
        if analysis.plan is None:
            raise UserError(f"recipes of kind {analysis.kind!r} have no plan to show: leave out --dry-run")
        return analysis.plan(recipe, loaded, machine)
    folder = request.out or default_folder(recipe, lambda plain: resolved(analysis, plain))
    asked, paths = recipe.model_dump(mode="json"), analysis.paths(recipe)
    run = Run.create(folder, asked, recipe.digest(), force=request.force, command=request.command, paths=paths)
    if run.finished:
        analysis.reopen(run)
    else:
        analysis.carry_out(Inputs(recipe, run, machine, loaded), Stages(run, progress))
    # written at every call: a page with texts must not stay when the next call asks for none
    html.write(run, show_text=request.show_text)
    return Result(run)


def _name(model: object) -> str | None:
    """Return the name of a model that may be loaded already."""
    if isinstance(model, Model):
        return model.name
    if model is None or isinstance(model, str | Path):
        return None if model is None else str(model)
    raise UserError(f"model is a {type(model).__name__}: give a name, or wrap it: theodolite.Model(model, tokenizer)")
