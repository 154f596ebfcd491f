"""`theodolite train`: a dictionary and its twin at each site, in one pass of the model over a corpus."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from theodolite.comparison import corpora
from theodolite.comparison.instruments import compute_dtype, default_sites
from theodolite.comparison.stages import Progress, quiet
from theodolite.core.site import Site
from theodolite.dictionaries import corpus
from theodolite.dictionaries import train as training
from theodolite.dictionaries.estimate import estimate
from theodolite.dictionaries.open import trained_folder
from theodolite.models.model import Model

SIZE = (4096, 32)  # width and k of the dictionaries that ship


def train(
    recipe: str = "text-chat",
    *,
    model: str = "smollm2-135m-instruct",
    revision: str | None = None,
    sites: Sequence[str] | None = None,
    seed: int = 0,
    tokens: int | None = None,
    width: int = SIZE[0],
    k: int = SIZE[1],
    out: Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    dry_run: bool = False,
    progress: Progress = quiet,
) -> list[str]:
    """Train (or go on training) and say where the dictionaries lie; `dry_run` only says what it would take.

    >>> train(dry_run=True)                                          # doctest: +SKIP
    """
    wanted = corpus.recipe(recipe)
    sighted = Model.from_pretrained(model, revision=revision, device=device, dtype=compute_dtype(dtype))
    chosen = [sighted.site(site) for site in sites or sorted(default_sites(sighted.n_blocks), key=Site.parse)]
    texts = corpora.cached(wanted)
    options: dict[str, Any] = {"width": width, "k": k, "seed": seed} | ({} if tokens is None else {"tokens": tokens})
    if dry_run:
        return [f"{name}: {value}" for name, value in estimate(sighted, chosen, texts, **options).items()]
    size = "" if (width, k) == SIZE else f"-w{width}-k{k}"
    folder = out or trained_folder(sighted) / f"{wanted.name}-{seed}{size}"
    made = training.train(
        sighted, chosen, texts, folder, progress=lambda done, total: progress("training", done, total), **options
    )
    return [f"{name}: {path}" for name, path in made.items()]
