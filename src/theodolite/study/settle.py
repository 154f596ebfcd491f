"""Settings that a recipe leaves to the model: format of texts, how many tokens fit, and whether it can be asked."""

from collections.abc import Sequence
from typing import Any

from theodolite.core.errors import UserError
from theodolite.core.language_model import LanguageModel
from theodolite.core.methods import parse
from theodolite.core.recipe import Recipe
from theodolite.models.prompting import unaskable
from theodolite.models.run import context
from theodolite.models.tokens import Format, settled_format
from theodolite.study.subjects import settled


def adapted(recipe: Recipe, model: LanguageModel) -> Recipe:
    """The recipe as this model can carry it out: sites and `format` decided, `max_tokens` within its context, and
    without the methods that would ask it what it cannot be asked.

    Whatever differs from what was asked is said by `adaptation_notes`.
    """
    format = _format(recipe, model)
    changes: dict[str, Any] = {"format": format, "max_tokens": model.most_tokens(format, recipe.max_tokens)}
    if out := _unasked(recipe, model):
        methods = [method for method in recipe.methods if method not in out]
        if not methods:
            raise UserError(f"nothing to fit: {'; '.join(f'{method}: {why}' for method, why in out.items())}")
        contrasts = [c for c in recipe.contrasts if not {c.method, c.than} & out.keys()]
        changes |= {"methods": methods, "contrasts": contrasts}
    return settled(recipe.model_copy(update=changes), model)


def adaptation_notes(asked: Recipe, found: Recipe, model: LanguageModel) -> list[tuple[str, int, str]]:
    """Counted warnings of a run: where the model made something else of the recipe than it asks for."""
    notes: list[tuple[str, int, str]] = []
    if asked.format == "auto" and found.format == "raw":
        notes.append(("format", 1, "the model has no chat template: texts are read raw, not as a user's turn"))
    if found.max_tokens < asked.max_tokens:
        why = f"the model's context of {context(model.network.module)} tokens leaves no more than {found.max_tokens}"
        given = asked.max_tokens != Recipe.model_fields["max_tokens"].default
        of = f"and {asked.max_tokens} were asked for" if given else f"instead of the default {asked.max_tokens}"
        notes.append(("context", 1, f"{why} for a text, {of}"))
    return notes + [("absent", 1, f"{method}: {why}") for method, why in _unasked(asked, model).items()]


def _format(recipe: Recipe, model: LanguageModel) -> Format:
    if recipe.format == "chat" and not model.has_template:
        raise UserError(f"{model.name!r} has no chat template: use --format raw")
    return settled_format(model.tokenizer, recipe.format)


def _unasked(recipe: Recipe, model: LanguageModel) -> dict[str, str]:
    """Reasons why this model cannot be asked outright, by method; empty where it can."""
    found = {}
    for method in recipe.methods:
        parsed = parse(method)
        if parsed.view == "answer":
            shots: Sequence[tuple[str, int]] = recipe.few_shot if parsed.params.get("column") == "few_shot" else ()
            if why := unaskable(model, recipe.question, shots):
                found[method] = why
    return found
