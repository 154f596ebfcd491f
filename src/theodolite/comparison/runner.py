"""The main job, top to bottom: recipe -> rows -> views -> fits -> figures -> one page."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from theodolite.comparison import answers, baselines, conclusion, explained, fits, other_poolings, tables
from theodolite.comparison.arrays import compare_rows
from theodolite.comparison.jobs import absent, jobs
from theodolite.comparison.planning import ComparisonPlan, plan
from theodolite.core.cache import cache_root
from theodolite.core.errors import UserError
from theodolite.core.methods import parse
from theodolite.core.recipe import Recipe
from theodolite.core.run import Run
from theodolite.core.slug import slug
from theodolite.core.tick import Tell
from theodolite.data.audit import audit
from theodolite.data.concept import Concept
from theodolite.data.splits import require_splittable
from theodolite.models.model import Model
from theodolite.report import html
from theodolite.report.automatic import automatic
from theodolite.report.result import Result
from theodolite.selection import accuracies, fitting, protocol
from theodolite.study import own, pooling_choice, training_sets
from theodolite.study.build import build_views, code_part, cut_notes, tokens_read
from theodolite.study.compare_request import CompareRequest, by_field
from theodolite.study.datasets import at_chosen_positions, dictionary_texts, load_concept, template_notes
from theodolite.study.given_methods import in_words
from theodolite.study.hardware import Machine
from theodolite.study.option import listed
from theodolite.study.request import default_folder, local_paths, resolve
from theodolite.study.saved_readers import READERS
from theodolite.study.settle import adaptation_notes, adapted
from theodolite.study.stages import Stages
from theodolite.study.subjects import (
    SiteDictionary,
    Subjects,
    available,
    open_subjects,
    origin_notes,
    unchecked_notes,
)
from theodolite.study.views import Views

# Of rows of the caller's own there is no text and no model to say anything about
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
    """Compare readers of rows; what says something about texts or a model is refused."""
    assert isinstance(request.data, tuple)
    if len(request.data) != 2:
        raise UserError(f"a tuple is (X, y), with groups=: got {len(request.data)} values")
    if given := [name for name in request.given() if name not in ROWS_TAKE]:
        raise UserError(
            f"compare((X, y)) reads no text and no model, so {', '.join(given)} cannot apply: leave out, or give a file"
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
        _finish(recipe, run, loaded, machine, Stages(run, progress))
    html.write(run, show_text=request.show_text)  # anew each time: a page that was asked for with texts must not stay
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


def _finish(recipe: Recipe, run: Run, model: Model | None, machine: Machine, stages: Stages) -> None:
    """Carry the recipe out, alone in the run's folder; a request that is refused leaves no trace of itself there."""
    with run.alone():
        try:
            _carry_out(recipe, run, model, machine, stages)
        except UserError:
            run.withdraw()
            raise


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
        listed = "; ".join(f"{word}: {', '.join(sorted(names))}" for word, names in changes.items() if names)
        raise UserError(
            f"the run in {str(run.folder)!r} was made with other dictionaries than are found now ({listed}): "
            "--force to run it again, or choose another --out"
        )


def _carry_out(recipe: Recipe, run: Run, model: Model | None, machine: Machine, stages: Stages) -> None:
    with stages("model and data") as tick:
        subjects = open_subjects(recipe, model, machine, tick.tell)
        asked, recipe = recipe, adapted(recipe, subjects.model)
        tick.tell("fetching the text that dictionaries were trained on")
        read = _dictionary_texts(recipe, subjects, run)
        concept = load_concept(recipe, subjects, dictionary_texts=read, tell=tick.tell, note=run.note)
        changed_texts = template_notes(concept, recipe, subjects.model)
        require_splittable(concept.train.frame, recipe.seeds)
        if pooling_choice.is_open(recipe):
            recipe, tried = pooling_choice.choose(recipe, concept.train, subjects, tick.tell)
            run.record("pooling", pooling_choice.facts(recipe, tried))
            concept = at_chosen_positions(concept, recipe, subjects.model)
        run.settle(recipe.model_dump(mode="json"))
        if recipe.admit:
            protocol.require_enough(recipe, concept.train.frame, bool(subjects.at(recipe.site)))
        run.begin()
        tick.tell("counting tokens")
        _record(recipe, concept, subjects, run)
        for note in changed_texts + adaptation_notes(asked, recipe, subjects.model):
            run.note(*note)
    with stages("reading the model") as tick:
        views = build_views(recipe, concept, subjects, cache_root(), tick, run.note, machine)
    for note in cut_notes(views):
        run.note(*note)
    with stages("audit"):
        run.write_json("audit", _audit(recipe, concept, views).to_json())
    with stages("fitting") as tick:
        wanted = jobs(recipe, views, [] if recipe.quick else subjects.blocks)
        fitted = list(fits.run(wanted, views, recipe.seeds, cache_root() / "fits", tick, run.note))
    training = training_sets.measured(concept.train.frame, recipe.seeds, recipe.leave_out)
    training_sets.record(training, run)
    with stages("other poolings") as tick:
        repooled = other_poolings.evaluated(
            recipe, concept, subjects, views, fitted, cache_root() / "fits", tick, run.note, training
        )
    with stages("intervals"):
        _conclude(recipe, fitted, repooled, subjects, views, training, run)
    if recipe.admit:
        with stages("selective prediction") as tick:
            cases = protocol.cases(recipe, views, subjects.blocks)
            shared = fits.fit_entries(cache_root() / "fits", wanted, views, recipe.seeds)
            selected = list(fitting.run(cases, shared, views, cache_root() / fitting.CACHE, tick, run.note))
        with stages("coverage and accuracy") as tick:
            accuracies.conclude(selected, views, run, tick, training)
    with stages("keeping the readers"):
        _keep_readers(recipe, fitted, views, run)
    run.finish()


def _dictionary_texts(recipe: Recipe, subjects: Subjects, run: Run) -> list[str]:
    try:
        return dictionary_texts(recipe, subjects, run.note)
    except UserError as error:
        run.note(
            "unchecked", 1, f"shift rows were not compared with the text the dictionaries were trained on: {error}"
        )
        return []


def _record(recipe: Recipe, concept: Concept, subjects: Subjects, run: Run) -> None:
    """Facts for the manifest and a note for everything that is missing or was cut."""
    model = subjects.model
    run.record(
        "model",
        {"name": model.name, "hash": model.hash, "quantisation": model.quantisation, "parameters": model.parameters,
         "n_blocks": model.n_blocks, "d_model": model.d_model, "dtype": str(model.dtype).removeprefix("torch."),
         "device": str(model.device), "fingerprint": model.fingerprint(),
         "template": list(model.template_around(recipe.format)), "clock": model.clock.isoformat()},
    )  # fmt: skip
    run.record("protocol", tables.PROTOCOL | {"margin": recipe.margin})
    run.record("available", available(recipe, model.hash))
    most = model.most_tokens(recipe.format, recipe.max_tokens)
    limit = f"{most} tokens" + (", where the model's context ends" if most < recipe.max_tokens else "")
    for dataset in (concept.train, *concept.shifts.values()):
        cut = int(model.tokens(dataset.texts, format=recipe.format, max_tokens=recipe.max_tokens).truncated.sum())
        if cut:
            run.note("truncated", cut, f"texts of {dataset.name} cut at {limit}")
        held = model.control_tokens_in(dataset.texts)
        if names := sorted({name for found in held for name in found}):
            words = f"texts of {dataset.name} hold {', '.join(names)}, read as text and not as these control tokens"
            run.note("control tokens", sum(map(bool, held)), words)
        for remark in dataset.remarks:
            run.note(*remark)
        for kept in dataset.kept:
            run.note("near-copies kept", kept.n, f"rows of {dataset.name} {kept.cause} stay (leaks: {recipe.leaks})")
    for note in unchecked_notes(subjects) + origin_notes(subjects, recipe.max_tokens):
        run.note(*note)
    if recipe.quick:
        run.note("quick", 1, "fewer rows, seeds and methods than a run to report: a first look")
    beside = [s.name for s in subjects.dictionaries if s.family and s.site == recipe.site]
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


def _conclude(
    recipe: Recipe,
    fitted: list[fits.Fitted],
    repooled: dict[str, other_poolings.Repooled],
    subjects: Subjects,
    views: Views,
    training: training_sets.Measured,
    run: Run,
) -> None:
    """All numbers into the run: scores, rows of the three tables, verdict and card."""
    matched, free = tables.matched(fitted, recipe, training), tables.free(fitted, recipe, training)
    rows = [*matched.rows, *(free.rows if free else []), *tables.blocks(fitted, training)]
    shared = tables.common(recipe, subjects.model.name, subjects.model.hash)
    names, dictionary_names = ("train", *views.shifts), _dictionary_names(subjects)
    costs = tables.with_costs(rows, fitted, dictionary_names, tokens_read(views, names))
    run.add_rows(shared | row for row in costs)
    if repooled:
        again = [f for other in repooled.values() for f in other.fitted]
        found = tables.with_costs(other_poolings.rows(repooled), again, dictionary_names, {})
        run.add_rows(shared | row for row in found)
        run.write_json("poolings", other_poolings.facts(repooled, matched, recipe))
    run.add_scores(pd.concat([f.scores for f in fitted if f.job.tuned], ignore_index=True))
    run.record("views", {f.job.label: parse(f.job.method).view for f in fitted})
    run.record("labels", fitted[0].fits[0]["n_labels"])
    for method in absent(recipe, views):
        run.note(
            "absent",
            1,
            f"{method}: its view is missing (no dictionary for {recipe.site}, or one without a frozen-encoder control)",
        )
    dictionaries = subjects.at(recipe.site)
    run.record("dictionaries", len(dictionaries))
    others = [s for s in subjects.dictionaries if s.family and s.site == recipe.site]
    fvu, beside = (
        {s.name: {name: views.facts(name, code_part(views, s))["fvu"] for name in names} for s in of}
        for of in (dictionaries, others)
    )
    run.record("fvu", fvu)
    if dictionaries:
        run.write_json("dictionary", explained.facts(matched, dictionaries, fvu, _by_family(others, beside)))
    run.write_json("baselines", baselines.facts(matched, fitted, recipe))
    picked = baselines.chosen(fitted, recipe)
    run.write_json("answers", answers.facts(tables.matched_scores(fitted, recipe), recipe, picked, training))
    read = conclusion.subject(recipe, subjects.model, dictionaries)
    conclusion.write(matched, recipe, read, dictionaries, fvu, run)


def _by_family(others: Sequence[SiteDictionary], fvu: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """FVU by the name that rows of other dictionaries bear: the mean over a family's dictionaries."""
    families: dict[str, list[dict[str, float]]] = {}
    for site_dictionary in others:
        families.setdefault(site_dictionary.family, []).append(fvu[site_dictionary.name])
    return {family: {name: sum(by[name] for by in of) / len(of) for name in of[0]} for family, of in families.items()}


def _dictionary_names(subjects: Subjects) -> dict[tuple[str, str], str]:
    """Names of the dictionaries behind latents, by family and site; by family alone where a method chose its site."""
    found: dict[tuple[str, str], list[str]] = {}
    for site_dictionary in subjects.dictionaries:
        for site in (site_dictionary.site, tables.FREE):
            names = found.setdefault((site_dictionary.family, site), [])
            names += [site_dictionary.name] if site_dictionary.name not in names else []
    return {place: ", ".join(names) for place, names in found.items()}


def _keep_readers(recipe: Recipe, fitted: list[fits.Fitted], views: Views, run: Run) -> None:
    """Copy the readers of the first training set at the matched site into the run, for `theodolite read`."""
    for f in fitted:
        if f.job.tuned and not f.job.leave_out and f.job.site in ("", recipe.site):
            entry = fits.fit_entry(cache_root() / "fits", f.job, views, recipe.seeds)
            run.copy_in(entry.reader_files(), f"{READERS}/{slug(run.shared(f.job.label))}")
