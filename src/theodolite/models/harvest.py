"""Rows of many texts, onto disk: units of texts of like length, each committed as a whole, resumable."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from theodolite.core.errors import UserError, unknown
from theodolite.core.parallel import Map, serial
from theodolite.core.site import Site
from theodolite.core.tick import Tick
from theodolite.models.harvest_engine import Engine, chosen_engine, stored_threads
from theodolite.models.harvest_plan import HarvestPlan, RowPlan, pooled_rows, token_rows
from theodolite.models.harvest_work import HarvestWork, OtherModel
from theodolite.store import Store


@dataclass(frozen=True)
class Harvest:
    """Rows on disk. `truncated` (n) says whose text was cut, `n_tokens` counts all tokens, template included."""

    store: Store
    plan: RowPlan
    n_units: int
    truncated: np.ndarray
    n_tokens: int

    def pooled(self, site: Site | str, pooling: str) -> np.ndarray:
        """One float32 row per text, in the order of the texts."""
        name = pooled_rows(self._known(site, self.plan.pooled_sites), pooling)
        if pooling not in self.plan.poolings:
            raise unknown("pooling", pooling, self.plan.poolings)
        units = [self.store.read(unit, ["doc", name], framework="np") for unit in range(self.n_units)]
        doc = np.concatenate([unit["doc"] for unit in units])
        return np.concatenate([unit[name] for unit in units])[doc.argsort()]

    def tokens(self, site: Site | str) -> Iterator[tuple[np.ndarray, np.ndarray, Tensor]]:
        """Unit by unit: each row's text, whether the positions select it, and the rows (n, d) in the model's dtype.

        Rows of a text lie together and in order; the texts come in the order of their length.
        """
        name = token_rows(self._known(site, self.plan.token_sites))
        for unit in range(self.n_units):
            part = self.store.read(unit, ["token_doc", "token_selected", name])
            yield part["token_doc"].numpy(), part["token_selected"].numpy(), part[name]

    def _known(self, site: Site | str, sites: tuple[Site, ...]) -> Site:
        if (site := Site.parse(site)) not in sites:
            raise unknown("harvested site", str(site), map(str, sites))
        return site


def harvest(
    model: Any,
    texts: str | Sequence[str],
    folder: str | Path,
    plan: HarvestPlan,
    *,
    batch_tokens: int | None = None,
    progress: Tick | None = None,
    map: Map | None = None,  # noqa: A002 (the name of this seam)
) -> Harvest:
    """Read texts through a `Model` into a store; what an earlier, interrupted call finished is not done again.

    The forward pass ends at the deepest site. Units are slices of the texts sorted by length, so that little is
    padded; the start that all texts share runs once. `progress(done, total)` counts tokens.

    map: does the units: `core.parallel.serial` here, `Processes()` in workers that each load the model from its folder.
    None chooses: workers where the texts take minutes, and the model lies in a folder of which several copies fit into
    memory. Rows do not depend on it, but on the number of threads that multiply (1 in a worker) in their last bit: the
    store says how many these were, and a later call goes on with as many.
    """
    rows = plan.rows(model)
    work = HarvestWork(model, model.tokens(texts, format=plan.format, max_tokens=plan.max_tokens), rows, batch_tokens)
    engine = chosen_engine(work, map)
    threads = stored_threads(folder) or engine.threads
    store = Store.open(folder, rows.fields() | work.fields(threads))
    _read_missing(work, store, engine, threads, progress or (lambda done, total: None))
    return Harvest(store, rows, len(work.units), work.tokens.truncated.numpy(), work.n_tokens())


def _read_missing(work: HarvestWork, store: Store, engine: Engine, threads: int, tell: Tick) -> None:
    """Finish every unit of the store that is not finished yet."""
    missing = store.missing(len(work.units))
    total = work.n_tokens()
    done = total - work.n_tokens(missing)
    tell(done, total)
    if not missing:
        return
    try:
        for number in engine.map(engine.build(work, threads), work.items(missing, store)):
            done += work.n_tokens([number])
            tell(done, total)
    except OtherModel:
        if engine.asked:
            raise
        # this model was loaded in a way that its folder does not tell; nothing was written by a worker
        _read_missing(work, store, Engine(serial), threads, tell)
    if left := store.missing(len(work.units)):
        raise UserError(
            f"{len(left)} units are not in {store.folder}, where workers should have put them: use a folder that "
            "every machine of the cluster sees, or choose the engine processes"
        )
