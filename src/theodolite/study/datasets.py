"""Data sets of a recipe, with tokens counted and questions answered by the model under study."""

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from theodolite.core.cache import cache_root
from theodolite.core.code_hash import code_hash
from theodolite.core.errors import UserError
from theodolite.core.positions import Positions
from theodolite.core.recipe import AUTO, COMPARE, Recipe
from theodolite.core.recipe import load as load_recipe
from theodolite.core.recipe import names as recipe_names
from theodolite.core.sealed import Note, entry, no_note, seal
from theodolite.core.tick import Tell, silent
from theodolite.data.concept import Concept, readable
from theodolite.data.concept import load as load_rows
from theodolite.dictionaries.training import corpus
from theodolite.models.model import Model
from theodolite.models.tokenise import changed_by_template, encode_texts
from theodolite.study import corpora
from theodolite.study.subjects import Subjects

QUESTIONS = 64  # answered at a time; a run that stops goes on behind the last of them


def load_concept(
    recipe: Recipe,
    subjects: Subjects,
    *,
    dictionary_texts: Sequence[str] = (),
    tell: Tell = silent,
    note: Note = no_note,
) -> Concept:
    """The rows of a recipe; the model counts tokens, and answers where the labels are its own answers."""
    model = subjects.model
    if recipe.format == "chat":
        model.template_around()  # refuses a template that has no place for the text, before rows are blamed

    def answer(prompts: list[str], options: list[list[str]]) -> np.ndarray:
        chosen: list[int] = []
        for start in range(0, len(prompts), QUESTIONS):
            asked = slice(start, start + QUESTIONS)
            chosen += _answers(model, recipe, prompts[asked], options[asked], note)
            tell("answers of the model", len(chosen), len(prompts))
        return np.array(chosen)

    return load_rows(
        recipe,
        count_tokens=partial(count_tokens, model),
        answer=answer,
        unreadable=partial(unreadable, model, recipe),
        dictionary_texts=dictionary_texts,
        tell=tell,
    )


def count_tokens(model: Model, texts: Sequence[str]) -> np.ndarray:
    """Number of tokens of each text as the model reads it, (n,): a control token's string is text there too."""
    return np.array([len(row) for row in encode_texts(model.tokenizer, texts, add_special_tokens=False)])


def unreadable(model: Model, recipe: Recipe, texts: Sequence[str]) -> list[str]:
    """Reason why the model cannot be read on each text, "" where it can: no content token, or none at the positions.

    Positions that are yet to be chosen (`auto`) are asked about after the choice: see `at_chosen_positions`.

    >>> unreadable(model, recipe, ["happy", "<|im_end|>"])            # doctest: +SKIP
    ['', 'no content token']
    """
    roles = model.tokens(texts, format=recipe.format, max_tokens=recipe.max_tokens).roles.numpy()
    found = [""] * len(texts)
    for positions in dict.fromkeys(("content" if recipe.positions == AUTO else recipe.positions, "content")):
        for row in np.flatnonzero(~Positions.parse(positions).mask(roles).any(1)):
            found[row] = "no content token" if positions == "content" else f"no token at {positions!r}"
    return found


def at_chosen_positions(concept: Concept, recipe: Recipe, model: Model) -> Concept:
    """The concept less the rows that have no token at positions which were chosen after it was read."""
    return readable(concept, recipe, partial(unreadable, model, recipe))


def template_notes(concept: Concept, recipe: Recipe, model: Model) -> list[tuple[str, int, str]]:
    """A counted warning where the chat template changes some texts beyond the spaces around them.

    Where it changes most of them it is refused: what is read would be the template's text, not the user's.
    """
    if recipe.format != "chat":
        return []
    changed, rows, first = 0, 0, ""
    for dataset in (concept.train, *concept.shifts.values()):
        found = changed_by_template(model.tokenizer, dataset.texts)
        if found.any() and not first:
            first = f"{dataset.frame['id'].iloc[int(found.argmax())]} of {dataset.name}"
        changed, rows = changed + int(found.sum()), rows + len(dataset)
    if 2 * changed > rows:
        raise UserError(
            f"the chat template of {model.name!r} changes {changed} of {rows} texts (the first is row {first}), so the "
            "model would not read what was labelled: mend the template, or use --format raw"
        )
    text = f"texts that the chat template changes or adds to, by what they hold (the first is row {first})"
    return [("template", changed, text)] if changed else []


def _answers(model: Model, recipe: Recipe, prompts: list[str], options: list[list[str]], note: Note) -> list[int]:
    """`_chosen`, kept in the cache."""
    code = code_hash(_chosen, type(model))
    facts = [
        model.identity,
        model.device.type,
        model.quantisation,
        list(model.template_around(recipe.format)),
        code,
        recipe.format,
        recipe.max_tokens,
        prompts,
        options,
    ]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    record = cache_root() / "answers" / f"{key[:32]}.json"
    found: list[int] | None = entry(record, key, "answers of the model", note)
    if found is None:
        found = _chosen(model, recipe, prompts, options)
        seal(record, key, facts=found)
    return found


def _chosen(model: Model, recipe: Recipe, prompts: list[str], options: list[list[str]]) -> list[int]:
    """Number of the option with the highest mean log-probability for each prompt, -1 without any."""
    repeated = [p for p, mine in zip(prompts, options, strict=True) for _ in mine]
    flat = [" " + option for mine in options for option in mine]
    how: dict[str, Any] = {"format": recipe.format, "max_tokens": recipe.max_tokens}
    loss = model.logprobs(repeated, flat, **how).loss if flat else np.empty(0)
    ends = np.cumsum([len(mine) for mine in options])
    return [int(part.argmin()) if len(part) else -1 for part in np.split(loss, ends[:-1])]


def dictionary_texts(recipe: Recipe, subjects: Subjects, note: Note = no_note) -> list[str]:
    """Texts that our dictionaries were trained on, where a shift of the recipe may resemble them.

    The corpora were cleared of the shipped recipes' rows when they were made (`corpora.cached`); rows of a user's own
    are cleared of the corpora instead, which then have to be fetched.
    """
    if not recipe.shifts or (recipe.name in recipe_names(COMPARE) and recipe.shifts == load_recipe(recipe.name).shifts):
        return []
    trained_on = {s.dictionary.info.get("training", {}).get("corpus") for s in subjects.dictionaries}
    read = [corpora.cached(corpus.recipe(name), note=note) for name in corpus.names() if name in trained_on]
    return list(dict.fromkeys(document.text for each in read for document in each.documents))
