"""The stages of a comparison, top to bottom: recipe -> rows -> views -> fits -> figures."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd

from theodolite.comparison import answers, baselines, conclusion, explained, fits, other_poolings, tables
from theodolite.comparison.jobs import Job, absent, jobs
from theodolite.comparison.planning import planned
from theodolite.core.cache import cache_root
from theodolite.core.errors import UserError
from theodolite.core.methods import parse
from theodolite.core.recipe import COMPARE, Recipe
from theodolite.core.run import Run
from theodolite.core.slug import slug
from theodolite.data.audit import audit
from theodolite.data.concept import Concept
from theodolite.data.splits import require_splittable
from theodolite.selection import accuracies, fitting, protocol
from theodolite.study import pooling_choice, training_sets
from theodolite.study.analysis import Analysis, Inputs, Stage
from theodolite.study.build import code_part, tokens_read
from theodolite.study.compare_request import AnalysisOptions, DataOptions, ModelOptions
from theodolite.study.datasets import at_chosen_positions, load_concept, template_notes
from theodolite.study.opened import model_facts, read_views, text_notes, texts_of_dictionaries
from theodolite.study.request import local_paths, resolve
from theodolite.study.saved_readers import READERS
from theodolite.study.settle import adaptation_notes, adapted
from theodolite.study.stages import Steps
from theodolite.study.subjects import (
    SiteDictionary,
    Subjects,
    available,
    open_subjects,
    origin_notes,
    unchecked_notes,
)
from theodolite.study.untrained import with_untrained
from theodolite.study.views import Views

OPTIONS = (DataOptions, ModelOptions, AnalysisOptions)  # parts of a request whose every field applies


@dataclass
class Comparison:
    """State that the stages of one comparison share; each stage sets what later ones read.

    recipe: that of the request, and from the first stage on the one that this model and these rows allow.
    """

    inputs: Inputs
    recipe: Recipe
    run: Run
    subjects: Subjects = field(init=False)
    concept: Concept = field(init=False)
    views: Views = field(init=False)
    jobs: list[Job] = field(init=False)
    fitted: list[fits.Fitted] = field(init=False)
    training: training_sets.Measured = field(init=False)
    repooled: dict[str, other_poolings.Repooled] = field(init=False)
    selected: list[Any] = field(init=False)


def begin(inputs: Inputs) -> Comparison:
    """Return the state of a comparison before its first stage."""
    return Comparison(inputs, inputs.recipe, inputs.run)


def _open(state: Comparison, tick: Steps) -> None:
    run, asked = state.run, state.recipe
    subjects = open_subjects(asked, state.inputs.model, state.inputs.machine, tick.tell)
    recipe = adapted(asked, subjects.model)
    tick.tell("fetching the text that dictionaries were trained on")
    read = texts_of_dictionaries(recipe, subjects, run)
    concept = load_concept(recipe, subjects, dictionary_texts=read, tell=tick.tell, note=run.note)
    changed_texts = template_notes(concept, recipe, subjects.model)
    require_splittable(concept.train.frame, recipe.seeds)
    if pooling_choice.is_open(recipe):
        recipe, tried = pooling_choice.choose(recipe, concept.train, subjects, tick.tell, state.inputs.machine)
        run.record("pooling", pooling_choice.facts(recipe, tried))
        concept = at_chosen_positions(concept, recipe, subjects.model)
    subjects = with_untrained(subjects, recipe, concept.train.texts)
    run.settle(recipe.model_dump(mode="json"))
    if recipe.admit:
        protocol.require_enough(recipe, concept.train.frame, bool(subjects.at(recipe.site)))
    run.begin()
    tick.tell("counting tokens")
    _record(recipe, concept, subjects, run)
    for note in changed_texts + adaptation_notes(asked, recipe, subjects.model):
        run.note(*note)
    state.recipe, state.concept, state.subjects = recipe, concept, subjects


def _read(state: Comparison, tick: Steps) -> None:
    state.views = read_views(state.recipe, state.concept, state.subjects, state.run, tick, state.inputs.machine)


def _audit(state: Comparison, tick: Steps) -> None:
    views, site = state.views, state.recipe.site
    latents = views.get("train", "latents", site) if views.has("latents", site) else None
    names = None if latents is None else [f"latent {i}" for i in range(latents.shape[1])]
    found = audit(state.concept.train, state.concept.shifts, latents=latents, latent_names=names)
    state.run.write_json("audit", found.to_json())


def _fit(state: Comparison, tick: Steps) -> None:
    recipe = state.recipe
    state.jobs = jobs(recipe, state.views, [] if recipe.quick else state.subjects.blocks)
    engine = state.inputs.machine.map()
    state.fitted = list(fits.run(state.jobs, state.views, recipe.seeds, _fits(), tick, state.run.note, engine))
    state.training = training_sets.measured(state.concept.train.frame, recipe.seeds, recipe.leave_out)
    training_sets.record(state.training, state.run)


def _repool(state: Comparison, tick: Steps) -> None:
    compared = other_poolings.Compared(state.recipe, state.concept, state.subjects, state.views, state.fitted)
    state.repooled = other_poolings.evaluated(compared, _fits(), tick, state.run.note, state.training)


def _select(state: Comparison, tick: Steps) -> None:
    cases = protocol.cases(state.recipe, state.views, state.subjects.blocks)
    shared = fits.fit_entries(_fits(), state.jobs, state.views, state.recipe.seeds)
    place = cache_root() / fitting.CACHE
    engine = state.inputs.machine.map()
    state.selected = list(fitting.run(cases, shared, state.views, place, tick, state.run.note, engine))


def _measure_selection(state: Comparison, tick: Steps) -> None:
    accuracies.conclude(state.selected, state.views, state.run, tick, state.training)


def _keep_readers(state: Comparison, tick: Steps) -> None:
    """Copy the readers of the first training set at the matched site into the run, for `theodolite read`."""
    for f in state.fitted:
        if f.job.tuned and not f.job.leave_out and f.job.site in ("", state.recipe.site):
            entry = fits.fit_entry(_fits(), f.job, state.views, state.recipe.seeds)
            state.run.copy_in(entry.reader_files(), f"{READERS}/{slug(state.run.shared(f.job.label))}")


def _admits(state: Comparison) -> bool:
    return bool(state.recipe.admit)


def _fits() -> Path:
    return cache_root() / "fits"


def _record(recipe: Recipe, concept: Concept, subjects: Subjects, run: Run) -> None:
    """Facts for the manifest and a note for everything that is missing or was cut."""
    model = subjects.model
    run.record("model", model_facts(model, recipe.format))
    run.record("protocol", tables.PROTOCOL | {"margin": recipe.margin})
    run.record("available", available(recipe, model.hash))
    for dataset in (concept.train, *concept.shifts.values()):
        for found in text_notes(dataset.name, dataset.texts, model, recipe.format, recipe.max_tokens):
            run.note(*found)
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


def _conclude(state: Comparison, tick: Steps) -> None:
    """All numbers into the run: scores, rows of the three tables, verdict and card."""
    recipe, fitted, repooled, training = state.recipe, state.fitted, state.repooled, state.training
    subjects, views, run = state.subjects, state.views, state.run
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


def _require_same_dictionaries(run: Run) -> None:
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


ANALYSIS = Analysis(
    COMPARE,
    Recipe,
    begin,
    (
        Stage("model and data", _open),
        Stage("reading the model", _read),
        Stage("audit", _audit),
        Stage("fitting", _fit),
        Stage("other poolings", _repool),
        Stage("intervals", _conclude),
        Stage("selective prediction", _select, _admits),
        Stage("coverage and accuracy", _measure_selection, _admits),
        Stage("keeping the readers", _keep_readers),
    ),
    tasks=tables.TASKS,
    options=frozenset(each.name for part in OPTIONS for each in fields(part)) - {"groups"},  # which belong to (X, y)
    resolve=resolve,
    plan=planned,
    paths=local_paths,
    reopen=_require_same_dictionaries,
)
