"""Rows of many texts, onto disk: units of texts of like length, each committed as a whole, resumable."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theodolite.core.errors import UserError, unknown
from theodolite.core.positions import Positions, check_pooling, pooled_over
from theodolite.core.several import several
from theodolite.core.site import Site
from theodolite.core.tick import Tick
from theodolite.models.prefix import Prefix, shared_start
from theodolite.models.sweep import Columns, pooled, select, sweep
from theodolite.models.tokens import Format, Tokens
from theodolite.store import Store

FORM = 3  # of a unit's tensors and fields; another one is another store


@dataclass(frozen=True)
class HarvestPlan:
    """The rows kept of each text: rows per token at some sites, one row per text and pooling at others.

    Token rows are those of `positions` and the last token. Pooling `mean` and `max` go over `positions`, `last` is the
    last token of the text (in a chat: of the template).
    """

    token_sites: tuple[Site, ...]
    pooled_sites: tuple[Site, ...]
    poolings: tuple[str, ...]
    positions: Positions
    unit: int

    @property
    def sites(self) -> list[Site]:
        return sorted({*self.token_sites, *self.pooled_sites})

    def keep(self, site: Site, h: Tensor, columns: Columns) -> dict[str, Tensor]:
        """The tensors that go to disk for one site of one batch."""
        kept = {}
        if site in self.token_sites:
            kept[_token_rows(site)] = h[_kept(columns).to(h.device)].cpu()
        if site in self.pooled_sites:
            for how in self.poolings:
                chosen = _last(columns) if how == "last" else columns.selected
                kept[_pooled_rows(site, how)] = pooled(h, chosen, how).cpu()
        return kept

    def fields(self) -> dict[str, Any]:
        """Everything that the rows depend on, for the key of the store."""
        lists = {"token_sites": self.token_sites, "pooled_sites": self.pooled_sites, "poolings": self.poolings}
        named = {name: sorted(map(str, values)) for name, values in lists.items()}
        return named | {"positions": str(self.positions), "unit": self.unit, "form": FORM}


@dataclass(frozen=True)
class Harvest:
    """Rows on disk. `truncated` (n) says whose text was cut, `n_tokens` counts all tokens, template included."""

    store: Store
    plan: HarvestPlan
    n_units: int
    truncated: np.ndarray
    n_tokens: int

    def pooled(self, site: Site | str, pooling: str) -> np.ndarray:
        """One float32 row per text, in the order of the texts."""
        name = _pooled_rows(self._known(site, self.plan.pooled_sites), pooling)
        if pooling not in self.plan.poolings:
            raise unknown("pooling", pooling, self.plan.poolings)
        units = [self.store.read(unit, ["doc", name], framework="np") for unit in range(self.n_units)]
        doc = np.concatenate([unit["doc"] for unit in units])
        return np.concatenate([unit[name] for unit in units])[doc.argsort()]

    def tokens(self, site: Site | str) -> Iterator[tuple[np.ndarray, np.ndarray, Tensor]]:
        """Unit by unit: each row's text, whether the positions select it, and the rows (n, d) in the model's dtype.

        Rows of a text lie together and in order; the texts come in the order of their length.
        """
        name = _token_rows(self._known(site, self.plan.token_sites))
        for unit in range(self.n_units):
            part = self.store.read(unit, ["token_doc", "token_selected", name])
            yield part["token_doc"].numpy(), part["token_selected"].numpy(), part[name]

    def _known(self, site: Site | str, sites: tuple[Site, ...]) -> Site:
        if (site := Site.parse(site)) not in sites:
            raise unknown("harvested site", str(site), map(str, sites))
        return site


@torch.inference_mode()
def harvest(
    model: Any,
    texts: str | Sequence[str],
    folder: str | Path,
    *,
    token_sites: Site | str | Iterable[Site | str] = (),
    pooled_sites: Site | str | Iterable[Site | str] = (),
    poolings: str | Sequence[str] = ("mean", "last"),
    positions: Positions | str = "content",
    format: Format = "chat",
    max_tokens: int = 256,
    unit: int = 64,
    batch_tokens: int | None = None,
    progress: Tick | None = None,
) -> Harvest:
    """Read texts through a `Model` into a store; what an earlier, interrupted call finished is not done again.

    The forward pass ends at the deepest site. Units are slices of the texts sorted by length, so that little is
    padded; the start that all texts share runs once. `progress(done, total)` counts tokens.
    """
    sites = (tuple(map(model.site, several(token_sites))), tuple(map(model.site, several(pooled_sites))))
    plan = HarvestPlan(*sites, tuple(map(check_pooling, several(poolings))), Positions.parse(positions), unit)
    if not plan.sites:
        raise UserError("nothing to harvest: give token_sites or pooled_sites")
    work = _Work(model, model.tokens(texts, format=format, max_tokens=max_tokens), plan)
    store = Store.open(folder, plan.fields() | work.fields())
    missing = store.missing(len(work.units))
    done, total = work.n_tokens() - work.n_tokens(missing), work.n_tokens()
    tell = progress or (lambda done, total: None)
    tell(done, total)
    rows = work.rows(batch_tokens) if missing else None
    for number in missing:
        begun = time.perf_counter()
        assert rows is not None
        store.write(number, rows(number), seconds=time.perf_counter() - begun)
        done += work.n_tokens([number])
        tell(done, total)
    return Harvest(store, plan, len(work.units), work.tokens.truncated.numpy(), total)


class _Work:
    """Texts cut into units, and what has to be computed for each."""

    def __init__(self, model: Any, tokens: Tokens, plan: HarvestPlan) -> None:
        self.model, self.tokens, self.plan = model, tokens, plan
        self.selected = select(tokens, plan.positions)
        self.units = np.split(tokens.lengths.argsort(kind="stable"), range(plan.unit, len(tokens), plan.unit))

    def fields(self) -> dict[str, Any]:
        """Everything the rows depend on beside the plan: the model, and what it reads (not how that was made)."""
        digest = hashlib.sha256(repr(tuple(self.tokens.ids.shape)).encode())
        digest.update(self.tokens.ids.numpy().tobytes() + self.tokens.roles.numpy().tobytes())
        parts = self.model.fingerprint()
        network = {name: parts[name] for name in ("structure", "code", "config")}
        machine = {"dtype": f"torch.{parts['dtype']}", "device": self.model.device.type}
        return {"model": parts["weights"], "tokens": digest.hexdigest()} | network | machine

    def n_tokens(self, numbers: Iterable[int] | None = None) -> int:
        """Tokens in some units, or in all."""
        chosen = range(len(self.units)) if numbers is None else numbers
        return sum(int(self.tokens.lengths[self.units[number]].sum()) for number in chosen)

    def rows(self, batch_tokens: int | None) -> Callable[[int], dict[str, Tensor]]:
        """The function from a unit's number to its tensors."""
        columns = Columns(np.arange(len(self.tokens)), self.tokens.roles, self.selected)
        prefix = Prefix(self.model.network, shared_start(self.tokens, _kept(columns)), self.plan.sites[-1])
        return partial(self._unit, prefix, batch_tokens or self.model.batch_tokens(self.plan.sites))

    def _unit(self, prefix: Prefix, batch_tokens: int, number: int) -> dict[str, Tensor]:
        doc = self.units[number]
        network, tokens, selected = self.model.network, self.tokens[doc], self.selected[doc]
        tensors: dict[str, list[Tensor]] = {}
        for columns, kept in sweep(
            network, tokens, selected, self.plan.sites, self.plan.keep, prefix=prefix, batch_tokens=batch_tokens
        ):
            chosen = _kept(columns)
            tensors.setdefault("doc", []).append(torch.from_numpy(doc[columns.index]))
            tensors.setdefault("token_doc", []).append(tensors["doc"][-1].repeat_interleave(chosen.sum(1)))
            tensors.setdefault("token_selected", []).append(columns.selected[chosen])
            for name, rows in (item for parts in kept.values() for item in parts.items()):
                tensors.setdefault(name, []).append(rows)
        return {name: torch.cat(parts) for name, parts in tensors.items()}


def _kept(columns: Columns) -> Tensor:
    """Tokens whose rows are stored: the selected ones and the last of each text; (n, t)."""
    return columns.selected | _last(columns)


def _last(columns: Columns) -> Tensor:
    return torch.from_numpy(pooled_over(Positions("all"), "last").mask(columns.roles.numpy()))


def _token_rows(site: Site) -> str:
    return f"tokens/{site}"


def _pooled_rows(site: Site, pooling: str) -> str:
    return f"pooled/{site}/{pooling}"
