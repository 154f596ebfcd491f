"""The main job, top to bottom: recipe -> rows -> views -> fits -> figures -> one page."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from theodolite.comparison import admission, conclusion, fits, own, primary, reliance, request, tables
from theodolite.comparison.build import build_views, code_part, cut_notes, tokens_read
from theodolite.comparison.given import compare_rows
from theodolite.comparison.instruments import Instruments, available, open_instruments, unchecked_notes
from theodolite.comparison.jobs import absent, jobs
from theodolite.comparison.planning import Plan, plan
from theodolite.comparison.rows import dictionary_texts, load_concept
from theodolite.comparison.settle import adaptation_notes, adapted
from theodolite.comparison.stages import Progress, Stages, quiet
from theodolite.comparison.views import Views
from theodolite.core import methods as naming
from theodolite.core.cache import cache_root
from theodolite.core.errors import UserError
from theodolite.core.recipe import Recipe
from theodolite.core.run import Run
from theodolite.data.audit import audit
from theodolite.data.clean import require_groups
from theodolite.data.concept import Concept
from theodolite.models.model import Model
from theodolite.report import html
from theodolite.report.result import Result


def compare(
    data: str | Path | pd.DataFrame | tuple[Any, Any],
    *,
    text: str | None = None,
    label: str | None = None,
    positive: Sequence[Any] | str | int | None = None,
    group: str | None = None,
    shifts: Sequence[str] | str = (),
    question: str | None = None,
    model: str | Model | None = None,
    revision: str | None = None,
    sae: Sequence[str] | str | None = None,
    sites: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    device: str = "auto",
    dtype: str | None = None,
    format: str | None = None,
    max_tokens: int | None = None,
    limit: int | None = None,
    seeds: int | None = None,
    out: str | Path | None = None,
    quick: bool = False,
    final: bool = False,
    dry_run: bool = False,
    force: bool = False,
    admit: bool = False,
    alpha: Sequence[float] = (),
    show_text: bool = False,
    progress: Progress = quiet,
    command: str = "",
) -> Result | Plan:
    """Compare methods on one labelled concept and return the finished run, or with `dry_run` what it would take.

    data: a recipe's name, a recipe file, a CSV, TSV, JSONL, JSON or Parquet file, a DataFrame, or `(X, y)` with rows of
    your own (no model is read then). model: a name or a loaded `theodolite.Model`. The other arguments are those of
    `theodolite compare --help`; command: the line typed there, for the record. A finished run of the same recipe is
    opened, an unfinished one goes on.

    >>> run = compare("mine.csv", text="prompt", label="harmful")   # doctest: +SKIP
    >>> run.table()                                                 # doctest: +SKIP
    """
    if isinstance(data, tuple):
        _refuse(
            text=text, label=label, positive=positive is not None, group=group, shifts=shifts, question=question,
            model=model, revision=revision, sae=sae, sites=sites, format=format, max_tokens=max_tokens is not None,
            device=device != "auto", dtype=dtype, limit=limit is not None, quick=quick, final=final, dry_run=dry_run,
            admit=admit, alpha=alpha, show_text=show_text,
        )  # fmt: skip
        return compare_rows(
            *data, methods=methods, seeds=seeds, out=out, force=force, progress=progress, command=command
        )
    loaded = model if isinstance(model, Model) else None
    recipe = request.resolve(
        own.as_path(data, cache_root(), text=text, label=label, group=group), text=text, label=label,
        positive=[positive] if isinstance(positive, str | int | float) else positive, group=group,
        shifts=[shifts] if isinstance(shifts, str) else shifts, question=question, format=format, max_tokens=max_tokens,
        model=loaded.name if loaded is not None else model, revision=revision, weights=loaded.hash if loaded else "",
        sae=[sae] if isinstance(sae, str) else sae, sites=sites, methods=methods, dtype=dtype, limit=limit,
        seeds=seeds, quick=quick, final=final or None, admit=admit, alpha=alpha,
    )  # fmt: skip
    if dry_run:
        instruments = open_instruments(recipe, loaded, device)
        fitting = adapted(recipe, instruments.model)
        said = [text for _, _, text in adaptation_notes(recipe, fitting, instruments.model)]
        return plan(fitting, instruments, said)
    run = Run.create(
        out or request.default_folder(recipe), recipe.model_dump(mode="json"), recipe.digest(), force=force,
        command=command,
    )  # fmt: skip
    if run.finished:
        _check_dictionaries(run)
    else:
        try:
            _carry_out(recipe, run, loaded, device, Stages(run, progress))
        except UserError:
            run.withdraw()
            raise
    html.write(run, show_text=show_text)  # anew each time: a page that was asked for with texts must not stay
    return Result(run)


def _refuse(**arguments: object) -> None:
    """Arguments that say something about texts or a model, where rows of the caller's own are compared."""
    if given := [name for name, value in arguments.items() if value]:
        raise UserError(
            f"compare((X, y)) reads no text and no model, so {', '.join(given)} cannot apply: leave out, or give a file"
        )


def _check_dictionaries(run: Run) -> None:
    """Refuse to pass off a finished run as the answer to a request that would now see other dictionaries."""
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
        said = "; ".join(f"{word}: {', '.join(sorted(names))}" for word, names in changes.items() if names)
        raise UserError(
            f"the run in {str(run.folder)!r} was made with other dictionaries than are found now ({said}): "
            "--force to run it again, or choose another --out"
        )


def _carry_out(recipe: Recipe, run: Run, model: Model | None, device: str, stages: Stages) -> None:
    with stages("model and data") as tick:
        instruments = open_instruments(recipe, model, device)
        asked, recipe = recipe, adapted(recipe, instruments.model)
        run.settle(recipe.model_dump(mode="json"))
        read = _dictionary_texts(recipe, instruments, run)
        concept = load_concept(recipe, instruments, dictionary_texts=read, tick=tick)
        require_groups(concept.train)
        if recipe.admit:
            primary.require_enough(recipe, concept.train.frame, bool(instruments.at(recipe.site)))
        run.begin()
        _record(recipe, concept, instruments, run)
        for note in adaptation_notes(asked, recipe, instruments.model):
            run.note(*note)
    with stages("reading the model") as tick:
        views = build_views(recipe, concept, instruments, cache_root(), tick)
    for note in cut_notes(views):
        run.note(*note)
    with stages("audit"):
        run.write_json("audit", _audit(recipe, concept, views).to_json())
    with stages("fitting") as tick:
        wanted = jobs(recipe, views, [] if recipe.quick else instruments.blocks)
        fitted = list(fits.run(wanted, views, recipe.seeds, cache_root() / "fits", tick))
    with stages("intervals"):
        _conclude(recipe, fitted, instruments, views, run)
    if recipe.admit:
        with stages("judging predictions") as tick:
            cases = primary.cases(recipe, views, instruments.blocks)
            judged = list(admission.run(cases, views, cache_root() / "judges", tick))
        with stages("what to rely on") as tick:
            reliance.conclude(judged, views, run, tick)
    with stages("keeping the readers"):
        _keep_readers(recipe, fitted, views, run)
    run.finish()


def _dictionary_texts(recipe: Recipe, instruments: Instruments, run: Run) -> list[str]:
    try:
        return dictionary_texts(recipe, instruments)
    except UserError as error:
        run.note(
            "unchecked", 1, f"shift rows were not compared with the text the dictionaries were trained on: {error}"
        )
        return []


def _record(recipe: Recipe, concept: Concept, instruments: Instruments, run: Run) -> None:
    """Facts for the manifest and a note for everything that is missing or was cut."""
    model = instruments.model
    run.record(
        "model",
        {"name": model.name, "hash": model.hash, "quantisation": model.quantisation, "parameters": model.parameters,
         "n_blocks": model.n_blocks, "d_model": model.d_model, "dtype": str(model.dtype).removeprefix("torch."),
         "device": str(model.device)},
    )  # fmt: skip
    run.record("protocol", tables.PROTOCOL)
    run.record("available", available(recipe, model.hash))
    for dataset in (concept.train, *concept.shifts.values()):
        cut = int(model.tokens(dataset.texts, format=recipe.format, max_tokens=recipe.max_tokens).truncated.sum())
        if cut:
            run.note("truncated", cut, f"texts of {dataset.name} cut at {recipe.max_tokens} tokens")
    for note in unchecked_notes(instruments):
        run.note(*note)
    if recipe.quick:
        run.note("quick", 1, "fewer rows, seeds and methods than a run to report: a first look")
    beside = [s.name for s in instruments.stations if s.family and s.site == recipe.site]
    if beside:
        run.note(
            "beside",
            len(beside),
            f"dictionaries of another corpus, size or origin, in rows of their own: {', '.join(beside)}",
        )
    for name in concept.held:
        run.note("sealed", 1, f"{name} was not opened" + (" (--final opens it)" if name == recipe.sealed else ""))


def _audit(recipe: Recipe, concept: Concept, views: Views) -> Any:
    latents = views.get("train", "latents", recipe.site) if views.has("latents", recipe.site) else None
    names = None if latents is None else [f"latent {i}" for i in range(latents.shape[1])]
    return audit(concept.train, concept.shifts, latents=latents, latent_names=names)


def _conclude(recipe: Recipe, fitted: list[fits.Fitted], instruments: Instruments, views: Views, run: Run) -> None:
    """All numbers into the run: scores, rows of the three tables, verdict and card."""
    matched, free = tables.matched(fitted, recipe), tables.free(fitted, recipe)
    rows = [*matched.rows, *(free.rows if free else []), *tables.blocks(fitted)]
    shared = tables.common(recipe, instruments.model.name, instruments.model.hash)
    names = ("train", *views.shifts)
    costs = tables.with_costs(rows, fitted, _dictionary_names(instruments), tokens_read(views, names))
    run.add_rows(shared | row for row in costs)
    run.add_scores(pd.concat([f.scores for f in fitted if f.job.tuned], ignore_index=True))
    run.record("views", {f.job.label: naming.parse(f.job.method).view for f in fitted})
    run.record("labels", fitted[0].fits[0]["n_labels"])
    for method in absent(recipe, views):
        run.note(
            "absent",
            1,
            f"{method}: nothing gives it its view (no dictionary for {recipe.site}, or one without a twin)",
        )
    stations = instruments.at(recipe.site)
    run.record("dictionaries", len(stations))
    fvu = {
        s.name: {name: views.facts(name, code_part(s))["fvu"] for name in ("train", *views.shifts)} for s in stations
    }
    run.record("fvu", fvu)
    conclusion.write(matched, recipe, conclusion.phrase(recipe, instruments.model, stations), stations, fvu, run)


def _dictionary_names(instruments: Instruments) -> dict[tuple[str, str], str]:
    """By family and site, and by family alone for a method that chose its site: what its latents come from."""
    found: dict[tuple[str, str], list[str]] = {}
    for station in instruments.stations:
        for site in (station.site, tables.FREE):
            names = found.setdefault((station.family, site), [])
            names += [station.name] if station.name not in names else []
    return {place: ", ".join(names) for place, names in found.items()}


def _keep_readers(recipe: Recipe, fitted: list[fits.Fitted], views: Views, run: Run) -> None:
    """Copy the readers of the first training set at the matched site into the run, for `theodolite read`."""
    for f in fitted:
        if f.job.tuned and not f.job.leave_out and f.job.site in ("", recipe.site):
            source = fits.reader_folder(cache_root() / "fits", f.job, views, recipe.seeds)
            name = f.job.label.replace("/", "-").replace(" ", "-")
            shutil.copytree(source, run.folder / "artefacts" / "readers" / name, dirs_exist_ok=True)
