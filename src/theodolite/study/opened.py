"""Steps that open every analysis: facts of the model, notes on texts that are not read whole, rows into views."""

from collections.abc import Iterator, Sequence
from typing import Any

from theodolite.core.cache import cache_root
from theodolite.core.errors import UserError
from theodolite.core.recipe import Recipe
from theodolite.core.run import Run
from theodolite.data.concept import Concept
from theodolite.models.model import Model
from theodolite.models.tokens import Format
from theodolite.study.build import build_views, cut_notes
from theodolite.study.datasets import dictionary_texts
from theodolite.study.hardware import Machine
from theodolite.study.stages import Steps
from theodolite.study.subjects import Subjects
from theodolite.study.views import Views

Counted = tuple[str, int, str]  # kind, count and text of a Run's note


def model_facts(model: Model, format: Format) -> dict[str, Any]:
    """Return the fact `model` of a Run: what the model is, and what it computes of a text (docs/run.md)."""
    return {
        "name": model.name,
        "hash": model.hash,
        "quantisation": model.quantisation,
        "parameters": model.parameters,
        "n_blocks": model.n_blocks,
        "d_model": model.d_model,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "fingerprint": model.fingerprint(),
        "template": list(model.template_around(format)),
        "clock": model.clock.isoformat(),
    }


def text_notes(name: str, texts: Sequence[str], model: Model, format: Format, max_tokens: int) -> Iterator[Counted]:
    """Yield notes on the texts of a data set that are cut, or that hold the string of a control token.

    >>> list(text_notes("train", ["a", "b"], model, "raw", 1))           # doctest: +SKIP
    [('truncated', 2, 'texts of train cut at 1 tokens')]
    """
    most = model.most_tokens(format, max_tokens)
    limit = f"{most} tokens" + (", where the model's context ends" if most < max_tokens else "")
    cut = int(model.tokens(texts, format=format, max_tokens=max_tokens).truncated.sum())
    if cut:
        yield "truncated", cut, f"texts of {name} cut at {limit}"
    held = model.control_tokens_in(texts)
    if tokens := sorted({token for found in held for token in found}):
        words = f"texts of {name} hold {', '.join(tokens)}, read as text and not as these control tokens"
        yield "control tokens", sum(map(bool, held)), words


def texts_of_dictionaries(recipe: Recipe, subjects: Subjects, run: Run) -> list[str]:
    """Return the texts that our dictionaries were trained on, or none with a note where they cannot be fetched."""
    try:
        return dictionary_texts(recipe, subjects, run.note)
    except UserError as error:
        run.note(
            "unchecked", 1, f"shift rows were not compared with the text the dictionaries were trained on: {error}"
        )
        return []


def read_views(recipe: Recipe, concept: Concept, subjects: Subjects, run: Run, tick: Steps, machine: Machine) -> Views:
    """Read the model at the recipe's sites on every data set, once; what is cut is noted in the run."""
    views = build_views(recipe, concept, subjects, cache_root(), tick, run.note, machine)
    for note in cut_notes(views):
        run.note(*note)
    return views
