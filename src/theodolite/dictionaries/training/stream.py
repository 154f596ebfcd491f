"""Rows for dictionary training: documents in a seeded order, through the model, mixed in blocks.

The order of everything follows from the seed and a small cursor, and a block is taken whole, so a run that stops after
a block goes on exactly as if it had not. Left out are special tokens, the constant template prefix and a raw text's
first token (an attention sink with a norm 50 to 150 times the usual), then, counted, any other row whose norm exceeds
10 times the block's median at one of the sites.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.core.language_model import Format, LanguageModel
from theodolite.core.positions import Positions, Role
from theodolite.core.seeds import generator
from theodolite.dictionaries.training.corpus import Corpus, Document

# domain of a row: raw text; a prompt's content; template after it; the last token
TEXT, PROMPT, TEMPLATE, LAST = range(4)
OUTLIER = 10.0
READ: dict[Format, Positions] = {"raw": Positions("content"), "chat": Positions("content+suffix")}


@dataclass
class Cursor:
    """Position of the stream, per part; plain numbers, stored in every checkpoint."""

    blocks: int = 0
    taken: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    chars: dict[str, int] = field(default_factory=dict)
    outliers: int = 0


@dataclass
class Rows:
    """Rows of several sites, aligned: row i of every site is the same token, of a known domain and document."""

    at: dict[str, Tensor]
    domain: Tensor
    document: Tensor

    def __len__(self) -> int:
        return len(self.domain)

    def take(self, index: Tensor) -> "Rows":
        """The rows at these positions, in this order."""
        return Rows({s: x[index.to(x.device)] for s, x in self.at.items()}, self.domain[index], self.document[index])

    def to(self, device: str) -> "Rows":
        """Return these rows with their activations on another device."""
        return Rows({s: x.to(device) for s, x in self.at.items()}, self.domain, self.document)


def concatenate(blocks: Sequence[Rows]) -> Rows:
    """Blocks one after the other."""
    at = {site: torch.cat([b.at[site] for b in blocks]) for site in blocks[0].at}
    return Rows(at, torch.cat([b.domain for b in blocks]), torch.cat([b.document for b in blocks]))


def parts_of(corpus: Corpus) -> tuple[dict[str, list[Document]], dict[str, float]]:
    """The training documents of every part and the shares above 0; a corpus that cannot fill them is refused."""
    parts = {p.name: corpus.of(p.name, held_out=False) for p in corpus.recipe.parts}
    shares = {p.name: p.share for p in corpus.recipe.parts if p.share > 0}
    if not shares:
        raise UserError(f"corpus {corpus.recipe.name!r} gives no part a share above 0: nothing can be trained on it")
    for name in shares:
        if not parts[name]:
            raise UserError(
                f"part {name!r} of corpus {corpus.recipe.name!r} has no document to train on: check its sources, "
                "lower held_out or min_chars, or give it share 0"
            )
    return parts, shares


class Stream:
    """Endless blocks of about `block_rows` shuffled rows, each part at its share.

    A part that runs out starts over in a new order.
    """

    def __init__(
        self, model: LanguageModel, sites: Sequence[Any], corpus: Corpus, seed: int, block_rows: int, how: Any = None
    ):
        self.model, self.sites, self.corpus, self.seed = model, sites, corpus, seed
        self.block_rows, self.how = block_rows, how or {}
        self.parts, self.shares = parts_of(corpus)
        self.cursor = Cursor()
        self._orders: dict[str, tuple[int, np.ndarray]] = {}

    def block(self) -> Rows:
        """The next block; the cursor moves past it."""
        documents = self._choose()
        rows = harvest_rows(self.model, self.sites, documents, self.corpus.recipe.max_tokens, **self.how)
        kept = without_outliers(rows)
        self.cursor.outliers += len(rows) - len(kept)
        self._account(documents, kept)
        order = generator(self.seed, "rows", self.cursor.blocks).permutation(len(kept))
        self.cursor.blocks += 1
        return kept.take(torch.from_numpy(order))

    def passes(self) -> dict[str, float]:
        """Number of times each part has been read."""
        return {p: self.cursor.taken.get(p, 0) / len(self.parts[p]) for p in self.shares}

    def available(self) -> dict[str, int]:
        """Tokens in one pass over each part, as far as the documents read so far tell."""
        c, chars = self.cursor, {part: sum(len(d.text) for d in documents) for part, documents in self.parts.items()}
        return {part: round(chars[part] * c.rows[part] / c.chars[part]) for part in c.rows}

    def _choose(self) -> list[Document]:
        """Documents for one block: always from the part furthest behind its share of rows, as can be foreseen."""
        c, chosen, expected = self.cursor, [], {p: float(self.cursor.rows.get(p, 0)) for p in self.shares}
        target = sum(expected.values()) + self.block_rows
        while sum(expected.values()) < target:
            part = min(self.shares, key=lambda p: expected[p] / self.shares[p])
            document = self._document(part, c.taken.get(part, 0))
            c.taken[part] = c.taken.get(part, 0) + 1
            rate = c.rows[part] / c.chars[part] if c.chars.get(part) else 0.25  # a token is about four characters
            expected[part] += max(len(document.text) * rate, 1)
            chosen.append(document)
        return chosen

    def _document(self, part: str, position: int) -> Document:
        """The document at this position of the part's endless order: one seeded permutation after another."""
        documents = self.parts[part]
        turn, at = divmod(position, len(documents))
        if part not in self._orders or self._orders[part][0] != turn:
            self._orders[part] = turn, generator(self.seed, "order", part, turn).permutation(len(documents))
        return documents[self._orders[part][1][at]]

    def _account(self, documents: Sequence[Document], kept: Rows) -> None:
        per_document = np.bincount(kept.document.numpy(), minlength=len(documents))
        for document, n in zip(documents, per_document, strict=True):
            self.cursor.rows[document.part] = self.cursor.rows.get(document.part, 0) + int(n)
            self.cursor.chars[document.part] = self.cursor.chars.get(document.part, 0) + len(document.text)

    def state(self) -> dict[str, Any]:
        """The cursor as JSON."""
        return asdict(self.cursor)

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue after the blocks this cursor has seen."""
        self.cursor = Cursor(**state)


def harvest_rows(
    model: LanguageModel, sites: Sequence[Any], documents: Sequence[Document], max_tokens: int, **how: Any
) -> Rows:
    """Rows of all sites, documents in order, raw ones first; `document` counts from 0 in the order given.

    how: further options of `model.read`, such as batch_tokens.

    `model.read` sorts by length and runs the constant chat template once, which halves the cost of short prompts.
    """
    parts = []
    for form, positions in READ.items():
        numbers = [i for i, d in enumerate(documents) if d.format == form]
        if not numbers:
            continue
        texts = [documents[i].text for i in numbers]
        tokens = model.tokens(texts, format=form, max_tokens=max_tokens)
        read = torch.from_numpy(positions.mask(tokens.roles.cpu().numpy()))
        domain = _domains(tokens, form, model.tokenizer.all_special_ids)[read]
        kept = domain >= 0
        # a raw text of one token has no row: its only token is the sink
        some = [text for text, any_row in zip(texts, read.any(1).tolist(), strict=True) if any_row]
        rows = model.read(some, sites, positions=positions, pooling=None, format=form, max_tokens=max_tokens, **how)
        document = torch.tensor(numbers)[:, None].expand_as(read)[read]
        at = {str(site): torch.from_numpy(read_at.rows)[kept] for site, read_at in rows.items()}
        parts.append(Rows(at, domain[kept], document[kept]))
    return concatenate(parts)


def without_outliers(rows: Rows) -> Rows:
    """Rows whose norm is at most 10 times the median at every site; NaN or infinity is no outlier but an error."""
    kept = torch.ones(len(rows), dtype=torch.bool)
    for site, x in rows.at.items():
        norm = x.float().norm(dim=1)
        if bad := int((~norm.isfinite()).sum()):
            raise UserError(f"{bad} of {len(x)} rows at {site} hold NaN or infinity: try dtype float32")
        kept &= (norm <= OUTLIER * norm.median()).cpu()
    return rows.take(kept.nonzero().squeeze(1))


def _domains(tokens: Any, form: str, special_ids: Sequence[int]) -> Tensor:
    """(n, t): the domain of each token, -1 where it is left out."""
    roles, ids, mask = tokens.roles.cpu(), tokens.ids.cpu(), tokens.mask.cpu()
    domain = torch.full(roles.shape, -1, dtype=torch.int8)
    domain[roles == Role.CONTENT] = TEXT if form == "raw" else PROMPT
    domain[roles == Role.SUFFIX] = TEMPLATE
    domain[torch.isin(ids, torch.tensor(list(special_ids))) | ~mask] = -1
    if form == "chat":
        last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
        domain[torch.arange(len(last)), last] = LAST  # also where a template ends in a special token: it is read most
    return domain
