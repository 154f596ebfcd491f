"""Documents that no dictionary trains on, and their rows: what curves and cards are measured on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from theodolite.core.errors import UserError
from theodolite.core.language_model import LanguageModel
from theodolite.core.seeds import generator
from theodolite.dictionaries.training.corpus import Corpus, Document
from theodolite.dictionaries.training.stream import LAST, PROMPT, TEXT, Rows, harvest_rows, without_outliers


def held_out_documents(corpus: Corpus, seed: int, raw: int = 250, chat: int = 1000) -> list[Document]:
    """Documents for the curve and the card: at most so many of each part, chosen by the seed."""
    chosen: list[Document] = []
    for part in corpus.recipe.parts:
        documents = corpus.of(part.name, held_out=True)
        if not documents:
            raise UserError(
                f"corpus {corpus.recipe.name!r} holds out no document of part {part.name!r}: raise held_out"
            )
        order = generator(seed, "held out", part.name).permutation(len(documents))
        chosen += [documents[i] for i in order[: raw if part.format == "raw" else chat]]
    return chosen


def held_out_rows(
    model: LanguageModel, sites: Sequence[Any], documents: list[Document], max_tokens: int, **how: Any
) -> Rows:
    """Rows of the three domains of a card; `document` is the document's number in the corpus."""
    rows = without_outliers(harvest_rows(model, sites, documents, max_tokens, **how))
    numbers = torch.tensor([d.document for d in documents])
    kept = rows.take(torch.isin(rows.domain, torch.tensor([TEXT, PROMPT, LAST], dtype=torch.int8)).nonzero().squeeze(1))
    return replace(kept, document=numbers[kept.document])
