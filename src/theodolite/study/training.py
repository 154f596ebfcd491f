"""`theodolite train`: any number of dictionaries and their controls, in one pass over texts or stored rows."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from theodolite.core.atomic import sweep
from theodolite.core.cache import cache_root
from theodolite.core.errors import UserError
from theodolite.core.recipe import Source
from theodolite.core.several import several
from theodolite.core.site import Site
from theodolite.core.slug import slug
from theodolite.core.tick import Tell, silent
from theodolite.data import sources
from theodolite.dictionaries import native
from theodolite.dictionaries.names import Spec
from theodolite.dictionaries.opening import trained_folder
from theodolite.dictionaries.training import card, corpus
from theodolite.dictionaries.training.estimate import estimate
from theodolite.dictionaries.training.plan import parts, site_of
from theodolite.dictionaries.training.stored import StoredRows
from theodolite.dictionaries.training.tracking import Listeners, Tracker, Watch
from theodolite.dictionaries.training.train import train as train_dictionaries
from theodolite.models.model import Model
from theodolite.study import corpora
from theodolite.study.subjects import compute_dtype, default_sites
from theodolite.study.train_request import SIZE, TrainRequest

CORPUS = "text-chat"
ENOUGH = 50  # documents held out of a file of the user's own, as far as a fifth of it goes


def train(
    request: TrainRequest, *, progress: Tell = silent, watch: Watch | None = None, tracker: Tracker | None = None
) -> list[str]:
    """Train (or go on training) and say how good the dictionaries are and where they lie; `dry_run` says what it needs.

    >>> train(TrainRequest(dry_run=True))                            # doctest: +SKIP
    """
    request.check()
    specs = request.specs()
    loaded = _model(request)
    wanted = several(request.sites or sorted(default_sites(loaded.n_blocks), key=Site.parse))
    chosen = [_site(loaded, site) for site in wanted]
    name, rows = _rows(request.recipe or CORPUS, request.data, request.text, request.format)
    options: dict[str, Any] = {"saes": tuple(map(str, specs)), "seeds": request.seeds}
    options |= {"controls": tuple(request.controls), "batch_tokens": request.batch_tokens}
    options |= {} if request.tokens is None else {"tokens": request.tokens}
    if request.dry_run:
        needs = estimate(loaded, chosen, rows, **options)
        return [
            f"{name}: {value:.3g}" if isinstance(value, float) else f"{name}: {value}" for name, value in needs.items()
        ]
    sweep(cache_root())
    folder = request.out or trained_folder(loaded) / folder_name(slug(name), specs, request.seeds)
    made = train_dictionaries(
        loaded,
        chosen,
        rows,
        folder,
        listeners=Listeners(
            progress=lambda done, total: progress("training", done, total),
            measuring=lambda done, total: progress("measuring", done, total),
            watch=watch,
            tracker=tracker,
        ),
        prefetch=request.prefetch,
        **options,
    )
    cards = card.summary({name: native.read_config(path)["info"] for name, path in made.items()})
    return [*cards, f"in {folder}"]


def _model(request: TrainRequest) -> Model:
    """The model that reads the text."""
    how: dict[str, Any] = {"device": request.device, "device_map": request.device_map}
    return Model.from_pretrained(request.model, revision=request.revision, dtype=compute_dtype(request.dtype), **how)


def folder_name(rows: str, specs: Sequence[Spec], seeds: Sequence[int]) -> str:
    """Folder of a training run in the cache, named by its one dictionary or by a hash of several.

    >>> from theodolite.dictionaries.names import parse
    >>> folder_name("text-chat", [parse("topk(k=32, width=4096)")], [0])
    'text-chat-0'
    >>> folder_name("text-chat", [parse("topk(k=16, width=4096)")], [1])
    'text-chat-1-w4096-k16'
    """
    seed = "+".join(map(str, seeds))
    if len(specs) > 1:
        digest = hashlib.sha256("\n".join(spec.identity for spec in specs).encode()).hexdigest()
        return f"{rows}-{seed}-{len(specs)}-dictionaries-{digest[:8]}"
    (spec,) = specs
    variant = "" if spec.label == "topk" else f"-{spec.label}"
    width, k = (spec.params.get(name) for name in ("width", "k"))
    size = "" if (width, k or SIZE[1]) == SIZE else f"-w{width}" + (f"-k{k}" if k else "")
    return f"{rows}-{seed}{variant}{size}"


def own_corpus(file: Path, text: str = "text", format: str = "raw") -> corpus.Corpus:
    """The texts of a user's own file, raw or as prompts in the model's chat template; named after file and content.

    Nothing is taken out that is near a recipe's rows: a comparison on shipped recipes counts such a dictionary as
    trained on unknown text.
    """
    source = Source(source=file.name, file=str(file), field=text)
    n = len(sources.rows(source))
    wanted = {
        "name": file.name,
        "title": f"texts of {file.name}",
        "parts": [{"name": "own", "format": format, "share": 1.0, "sources": [source]}],
        "held_out": min(0.2, max(0.02, ENOUGH / n)),
    }
    found = corpus.load(corpus.CorpusRecipe.model_validate(wanted))
    if not found.documents:
        raise UserError(f"{file} holds no text of {found.recipe.min_chars} characters in column {text!r}")
    named = f"{file.name}-{found.digest()[:8]}"  # two files of one name must not pass for the same text
    return corpus.Corpus(found.recipe.model_copy(update={"name": named}), found.documents, found.counts)


def _rows(recipe: str, data: Path | None, text: str, format: str) -> tuple[str, corpus.Corpus | StoredRows]:
    """Training rows and their name: a corpus by recipe, a file of texts, or a folder of harvested rows."""
    if data is None:
        wanted = corpus.recipe(recipe)
        return wanted.name, corpora.cached(wanted)
    if data.is_dir():
        stored = StoredRows.open(data, format)
        return f"store-{stored.store.key[:12]}", stored
    own = own_corpus(data, text, format)
    return own.recipe.name, own


def _site(model: Model, text: str) -> str:
    """One site, or two that are read together, of this model."""
    found = site_of(text)
    for part in parts(found):
        model.site(part)
    return found
