"""The text dictionaries are trained on, cleared of whatever a shipped recipe will show the methods."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from theodolite.core.atomic import file_sha256
from theodolite.core.cache import cache_root
from theodolite.core.code_hash import code_hash
from theodolite.core.recipe import COMPARE, Recipe
from theodolite.core.recipe import load as load_recipe
from theodolite.core.recipe import names as recipe_names
from theodolite.core.sealed import Note, entry, no_note, seal
from theodolite.core.slug import slug
from theodolite.data.concept import load as load_concept
from theodolite.data.near_duplicates import gram_counts, inverse_frequency, near_pairs, unit_rows
from theodolite.data.sources import rows
from theodolite.dictionaries.training import corpus

BLOCK = 2000  # texts of a corpus held as vectors at a time


@dataclass(frozen=True)
class Shown:
    """Every text a recipe may show a method, as 4-gram vectors, and the weights by which it tells what is near."""

    vectors: sparse.csr_matrix
    idf: np.ndarray


def cached(wanted: corpus.CorpusRecipe, folder: Path | None = None, note: Note = no_note) -> corpus.Corpus:
    """The corpus without texts near a row of any shipped recipe; made once, kept in the cache.

    >>> cached(corpus.recipe("text-chat")).counts["near a recipe row"]          # doctest: +SKIP
    """
    files = [source.file for part in wanted.parts for source in part.sources if source.file and not source.revision]
    content = [file_sha256(Path(name).expanduser()) for name in files if Path(name).expanduser().is_file()]
    digests = [load_recipe(name).digest() for name in recipe_names(COMPARE)]
    asked = [wanted.model_dump_json(), *content, *digests, code_hash(_cleared)]
    key = hashlib.sha256("\0".join(asked).encode()).hexdigest()
    path = (folder or cache_root() / "corpora") / f"{slug(wanted.name)}-{key[:16]}.jsonl.zst"
    record = path.with_suffix(".json")
    if entry(record, key, "corpora", note) is None:
        _cleared(wanted).save(path)
        seal(record, key, [path])
    return corpus.Corpus.open(path)


def _cleared(wanted: corpus.CorpusRecipe) -> corpus.Corpus:
    all_shown = [shown(load_recipe(name)) for name in recipe_names(COMPARE)]
    return corpus.load(wanted, near=lambda texts: near_any(texts, all_shown))


def shown(recipe: Recipe) -> Shown:
    """Training mix, every shift (sealed, wrapped and for development too) and few-shot prompts of one recipe.

    Sources are read whole, so that another sample of them would be as clean.
    """
    first_option = lambda prompts, options: np.zeros(len(prompts), int)  # noqa: E731  (texts do not depend on it)
    concept = load_concept(recipe.model_copy(update={"final": True}), answer=first_option, development=True)
    sources = [*recipe.train, *(source for shift in recipe.shifts.values() for source in shift.rows)]
    texts = [text for source in sources for text in rows(source)["text"].dropna().astype(str)]
    texts += [text for dataset in concept.shifts.values() for text in dataset.texts]
    texts += [text for text, _ in recipe.few_shot]
    idf = inverse_frequency(gram_counts(concept.train.texts))
    return Shown(unit_rows(gram_counts(list(dict.fromkeys(texts))), idf), idf)


def near_any(texts: Sequence[str], all_shown: Sequence[Shown]) -> np.ndarray:
    """Return whether each text is near one that some recipe shows, by that recipe's own measure for its shifts."""
    near = np.zeros(len(texts), dtype=bool)
    for start in range(0, len(texts), BLOCK):
        counts = gram_counts(texts[start : start + BLOCK])
        for each in all_shown:
            for _, j, _ in near_pairs(each.vectors, unit_rows(counts, each.idf)):
                near[start + j] = True
    return near
