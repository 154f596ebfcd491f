"""The work of a harvest: its units, and what reads one, in this process or in a worker that loads the model itself."""

import hashlib
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theodolite.core.backoff import Backoff
from theodolite.core.code_hash import code_hash
from theodolite.core.errors import UserError
from theodolite.models.harvest_plan import RowPlan, stored
from theodolite.models.prefix import Prefix, shared_start
from theodolite.models.read import TOO_LONG
from theodolite.models.sweep import Columns, select, sweep
from theodolite.models.tokens import Tokens
from theodolite.store import Store


class OtherModel(UserError):
    """A worker loaded another model than the one it was to read with."""


@dataclass(frozen=True)
class Unit:
    """Texts that are read and committed together: all that a worker needs beside the model.

    doc: numbers of the texts in the harvest. prefix: the tokens that all its texts begin with. Arrays, not
    tensors, which some maps would put into shared memory.
    """

    number: int
    store: Store
    plan: RowPlan
    doc: np.ndarray
    tokens: tuple[np.ndarray, ...]
    selected: np.ndarray
    prefix: tuple[np.ndarray, ...]
    batch_tokens: int

    def __str__(self) -> str:
        lengths = _tokens(self.tokens).lengths
        return f"unit {self.number} ({len(self.doc)} texts of {int(lengths.min())} to {int(lengths.max())} tokens)"


class HarvestWork:
    """Texts cut into units, and what has to be computed for each."""

    def __init__(self, model: Any, tokens: Tokens, plan: RowPlan, batch_tokens: int | None = None) -> None:
        self.model, self.tokens, self.plan = model, tokens, plan
        self.selected = select(tokens, plan.positions)
        self.units = np.split(tokens.lengths.argsort(kind="stable"), range(plan.unit, len(tokens), plan.unit))
        self.prefix = shared_start(tokens, stored(Columns(np.arange(len(tokens)), tokens.roles, self.selected)))
        self._batch_tokens = batch_tokens

    def fields(self, threads: int) -> dict[str, Any]:
        """Everything the rows depend on beside the plan: the model, and what it reads (not how that was made)."""
        digest = hashlib.sha256(repr(tuple(self.tokens.ids.shape)).encode())
        digest.update(self.tokens.ids.numpy().tobytes() + self.tokens.roles.numpy().tobytes())
        return {"tokens": digest.hexdigest(), "threads": threads} | network_fields(self.model)

    def n_tokens(self, numbers: Iterable[int] | None = None) -> int:
        """Tokens in some units, or in all."""
        chosen = range(len(self.units)) if numbers is None else numbers
        return sum(int(self.tokens.lengths[self.units[number]].sum()) for number in chosen)

    def items(self, numbers: Iterable[int], store: Store) -> list[Unit]:
        """Return the units for a map, the longest texts first, so that no worker is left alone with them at the end."""
        size = self._batch_tokens or self.model.batch_tokens(self.plan.sites)
        return [
            Unit(n, store, self.plan, doc, self._of(doc), self.selected[doc].numpy(), _arrays(self.prefix), size)
            for n in sorted(numbers, reverse=True)
            for doc in [self.units[n]]
        ]

    def _of(self, doc: np.ndarray) -> tuple[np.ndarray, ...]:
        part = self.tokens[doc]
        return _arrays(part.first(int(part.lengths.max())))


class UnitReader:
    """Reads units through one model and commits them; the prefix that their texts share runs once."""

    def __init__(self, model: Any, threads: int) -> None:
        self._model, self._threads = model, threads
        self._most = sys.maxsize  # tokens that fit into memory at once; lowered when memory runs out
        self._last_prefix: tuple[Any, Prefix] | None = None  # with the store and site that it belongs to

    def __call__(self, unit: Unit) -> int:
        """Return the number of the unit, which is then in its store."""
        if unit.store.has(unit.number):
            return unit.number  # finished by a worker that died before it could say so
        begun = time.perf_counter()
        with torch.inference_mode(), cpu_threads(self._threads):
            rows = self._halving(unit)
        unit.store.write(unit.number, rows, seconds=time.perf_counter() - begun)
        return unit.number

    def _halving(self, unit: Unit) -> dict[str, Tensor]:
        """Rows of a unit, in smaller batches where memory runs out; later units begin with the size that fitted."""
        size = min(unit.batch_tokens, self._most)
        batches = Backoff(size, "tokens per batch", TOO_LONG, lambda kind, n, text: warnings.warn(text, stacklevel=2))
        rows = batches(lambda most: self._rows(unit, most), least=int(_tokens(unit.tokens).lengths.max()))
        self._most = batches.size if batches.size < size else self._most
        return rows

    def _rows(self, unit: Unit, batch_tokens: int) -> dict[str, Tensor]:
        plan, prefix = unit.plan, self._prefix(unit)
        tensors: dict[str, list[Tensor]] = {}
        for columns, kept in sweep(
            self._model.network,
            _tokens(unit.tokens),
            torch.tensor(unit.selected),
            plan.sites,
            plan.keep,
            prefix=prefix,
            batch_tokens=batch_tokens,
        ):
            chosen = stored(columns)
            tensors.setdefault("doc", []).append(torch.from_numpy(unit.doc[columns.index]))
            tensors.setdefault("token_doc", []).append(tensors["doc"][-1].repeat_interleave(chosen.sum(1)))
            tensors.setdefault("token_selected", []).append(columns.selected[chosen])
            for name, rows in (item for parts in kept.values() for item in parts.items()):
                tensors.setdefault(name, []).append(rows)
        return {name: torch.cat(parts) for name, parts in tensors.items()}

    def _prefix(self, unit: Unit) -> Prefix:
        """Return the shared prefix of the unit's harvest; the last one is kept."""
        of = (unit.store.key, unit.plan.sites[-1])
        if self._last_prefix is None or self._last_prefix[0] != of:
            self._last_prefix = (of, Prefix(self._model.network, _tokens(unit.prefix), unit.plan.sites[-1]))
        return self._last_prefix[1]


@dataclass(frozen=True)
class InWorker:
    """Builds a `UnitReader` in a worker: loads the model from its folder, and compares it with the one it stands for.

    memory: bytes that it takes. network: `network_fields` of that model. code: hash of the code that reads, which may
    be edited meanwhile.
    """

    folder: str
    dtype: str
    threads: int
    memory: int
    network: Mapping[str, Any]
    code: str = field(default_factory=lambda: code_hash(UnitReader))

    def __call__(self) -> UnitReader:
        """Return what reads units here; raises `OtherModel` before a row is written."""
        from theodolite.models.model import Model

        if code_hash(UnitReader) != self.code:
            raise UserError("the program's code was edited while it ran: run the same command again")
        with cpu_threads(self.threads):
            model = Model.from_pretrained(Path(self.folder), device="cpu", dtype=self.dtype)
        found = network_fields(model)
        if differs := sorted(name for name in found if found[name] != self.network.get(name)):
            raise OtherModel(
                f"a worker that loads {self.folder} again gets a different model (its {', '.join(differs)} differ): "
                "choose --engine serial, or save the model with save_pretrained and name that folder"
            )
        return UnitReader(model, self.threads)


def network_fields(model: Any) -> dict[str, Any]:
    """Everything about a model that decides the rows of given tokens, for the key of a store."""
    parts = model.fingerprint()
    network = {name: parts[name] for name in ("structure", "code", "config")}
    return {"model": parts["weights"], "dtype": f"torch.{parts['dtype']}", "device": model.device.type} | network


def _arrays(tokens: Tokens) -> tuple[np.ndarray, ...]:
    return tokens.ids.numpy(), tokens.roles.numpy(), tokens.truncated.numpy()


def _tokens(arrays: tuple[np.ndarray, ...]) -> Tokens:
    ids, roles, truncated = map(torch.tensor, arrays)  # copies: what a worker gets may be read-only
    return Tokens(ids, roles, truncated)


@contextmanager
def cpu_threads(n: int) -> Iterator[None]:
    """Multiply with n threads inside; 0 leaves their number as it is, as on an accelerator."""
    before = torch.get_num_threads()
    if n and n != before:
        torch.set_num_threads(n)
    try:
        yield
    finally:
        if n and n != before:
            torch.set_num_threads(before)
