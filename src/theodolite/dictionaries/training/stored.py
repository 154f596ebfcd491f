"""Rows that were harvested before, as a stream: units in a seeded order, mixed in blocks.

What a harvest (docs/store.md) holds of each text decides the domains: the rows its positions selected are text or a
prompt's content; a row kept beside them is the text's last token.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theodolite.core.atomic import read_json
from theodolite.core.errors import UserError
from theodolite.core.seeds import generator
from theodolite.dictionaries.training.stream import LAST, PROMPT, TEXT, Cursor, Rows, concatenate, without_outliers
from theodolite.store import Store

PART = "store"
HELD_OUT = 0.02  # of the texts, and at most as many as a card needs
MOST = {"raw": 250, "chat": 1000}


@dataclass(frozen=True)
class StoredRows:
    """Token rows of a finished harvest, and whether its texts were raw or in a chat template.

    >>> StoredRows.open("rows-of-my-texts")                                             # doctest: +SKIP
    """

    store: Store
    format: str = "raw"

    @classmethod
    def open(cls, folder: str | Path, format: str = "raw") -> "StoredRows":
        """The rows in a folder; one that is no store is refused."""
        path = Path(folder) / "manifest.json"
        if not path.is_file():
            raise UserError(f"{folder} holds no manifest.json, so it is no store of rows")
        found = cls(Store.open(folder, read_json(path).get("fields", {})), format)
        if not found.sites:
            raise UserError(f"{folder} holds no row per token: harvest with token_sites")
        return found

    @property
    def fields(self) -> dict[str, Any]:
        """Facts of the rows as the harvest wrote them down: model (hash), dtype, token_sites."""
        return dict(read_json(self.store.folder / "manifest.json")["fields"])

    @property
    def sites(self) -> list[str]:
        return list(self.fields.get("token_sites", []))

    def digest(self) -> str:
        """sha256 over the store's key and the rows of every finished unit."""
        commits = [f"{unit} {self.store.commit(unit).sha256}" for unit in self.store.units()]
        return hashlib.sha256("\n".join([self.store.key, self.format, *commits]).encode()).hexdigest()

    def read(self, unit: int, sites: Sequence[str], keep: np.ndarray) -> Rows:
        """The rows of one unit whose texts `keep` names; `document` is the text's number."""
        part = self.store.read(unit, ["token_doc", "token_selected", *map(_tensor, sites)])
        chosen = torch.from_numpy(np.isin(part["token_doc"].numpy(), keep))
        domain = torch.full((len(chosen),), LAST, dtype=torch.int8)
        domain[part["token_selected"]] = TEXT if self.format == "raw" else PROMPT
        at: dict[str, Tensor] = {site: part[_tensor(site)][chosen].float() for site in sites}
        return Rows(at, domain[chosen], part["token_doc"][chosen])

    def texts(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the texts to train on and of those held out, chosen by the seed."""
        units = self.store.units()
        if not units:
            raise UserError(f"{self.store.folder} holds no finished unit: run the harvest to its end")
        documents = [self.store.read(unit, ["token_doc"], framework="np")["token_doc"] for unit in units]
        every = np.unique(np.concatenate(documents))
        if len(every) < 2:
            raise UserError(f"{self.store.folder} holds rows of {len(every)} texts: give at least 2, one is held out")
        order = generator(seed, "held out", PART).permutation(every)
        kept_back = min(max(round(HELD_OUT * len(every)), 1), MOST[self.format])
        return np.sort(order[kept_back:]), np.sort(order[:kept_back])

    def n_rows(self) -> int:
        """Number of stored rows."""
        return sum(self.store.commit(unit).rows["token_doc"] for unit in self.store.units())

    def held_out(self, sites: Sequence[str], seed: int) -> Rows:
        """Rows of the texts that no dictionary trains on."""
        _, kept_back = self.texts(seed)
        return without_outliers(concatenate([self.read(unit, sites, kept_back) for unit in self.store.units()]))


class StoredStream:
    """Endless blocks of about `block_rows` shuffled rows of stored units; every pass takes each unit once."""

    def __init__(self, rows: StoredRows, sites: Sequence[str], seed: int, block_rows: int) -> None:
        self.rows, self.sites, self.seed, self.block_rows = rows, sites, seed, block_rows
        self.units = rows.store.units()
        self.train, _ = rows.texts(seed)
        self.cursor, self.shares = Cursor(taken={PART: 0}, rows={PART: 0}), {PART: 1.0}

    def block(self) -> Rows:
        """The next block; the cursor moves past it."""
        c, parts = self.cursor, list[Rows]()
        while sum(len(part) for part in parts) < self.block_rows:
            turn, at = divmod(c.taken[PART], len(self.units))
            order = generator(self.seed, "order", PART, turn).permutation(self.units)
            parts.append(self.rows.read(int(order[at]), self.sites, self.train))
            c.taken[PART] += 1
        rows = concatenate(parts)
        kept = without_outliers(rows)
        c.outliers += len(rows) - len(kept)
        c.rows[PART] += len(kept)
        order = generator(self.seed, "rows", c.blocks).permutation(len(kept))
        c.blocks += 1
        return kept.take(torch.from_numpy(order))

    def passes(self) -> dict[str, float]:
        """Number of times the store has been read."""
        return {PART: self.cursor.taken[PART] / len(self.units)}

    def state(self) -> dict[str, Any]:
        """The cursor as JSON."""
        return asdict(self.cursor)

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue after the blocks this cursor has seen."""
        self.cursor = Cursor(**state)

    def available(self) -> dict[str, int]:
        """Rows in one pass."""
        return {PART: self.rows.n_rows()}


def _tensor(site: str) -> str:
    return f"tokens/{site}"
