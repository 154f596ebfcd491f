"""Plan of a harvest: the tokens it reads of each text, and the rows it keeps."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.core.positions import Positions, check_pooling, pooled_over
from theodolite.core.several import several
from theodolite.core.site import Site
from theodolite.models.sweep import Columns, pooled
from theodolite.models.tokens import Format

FORM = 3  # of a unit's tensors and fields; another one is another store


@dataclass(frozen=True)
class HarvestPlan:
    """Options of a harvest: rows per token at some sites, one row per text and pooling at others.

    Token rows are those of `positions` and the last token. Pooling `mean` and `max` go over `positions`, `last` is the
    last token of the text (in a chat: of the template). `unit` texts are finished, and lost, together.

    >>> HarvestPlan(pooled_sites="blocks.17.resid_post", poolings="mean").unit
    64
    """

    token_sites: Site | str | Iterable[Site | str] = ()
    pooled_sites: Site | str | Iterable[Site | str] = ()
    poolings: str | Sequence[str] = ("mean", "last")
    positions: Positions | str = "content"
    format: Format = "chat"
    max_tokens: int = 256
    unit: int = 64

    def rows(self, model: Any) -> "RowPlan":
        """Return the rows that are kept of this model's states; a site that it lacks is an error."""
        sites = (tuple(map(model.site, several(self.token_sites))), tuple(map(model.site, several(self.pooled_sites))))
        if not any(sites):
            raise UserError("nothing to harvest: give token_sites or pooled_sites")
        poolings = tuple(map(check_pooling, several(self.poolings)))
        return RowPlan(*sites, poolings, Positions.parse(self.positions), self.unit)


@dataclass(frozen=True)
class RowPlan:
    """The rows kept of each text, at sites of one model."""

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
            kept[token_rows(site)] = h[stored(columns).to(h.device)].cpu()
        if site in self.pooled_sites:
            for how in self.poolings:
                chosen = last(columns) if how == "last" else columns.selected
                kept[pooled_rows(site, how)] = pooled(h, chosen, how).cpu()
        return kept

    def fields(self) -> dict[str, Any]:
        """Everything that the rows depend on, for the key of the store."""
        lists = {"token_sites": self.token_sites, "pooled_sites": self.pooled_sites, "poolings": self.poolings}
        named = {name: sorted(map(str, values)) for name, values in lists.items()}
        return named | {"positions": str(self.positions), "unit": self.unit, "form": FORM}


def stored(columns: Columns) -> Tensor:
    """Tokens whose rows are stored: the selected ones and the last of each text; (n, t)."""
    return columns.selected | last(columns)


def last(columns: Columns) -> Tensor:
    """The last token of each text; (n, t)."""
    return torch.from_numpy(pooled_over(Positions("all"), "last").mask(columns.roles.numpy()))


def token_rows(site: Site) -> str:
    """Name of the tensor with a site's rows per token."""
    return f"tokens/{site}"


def pooled_rows(site: Site, pooling: str) -> str:
    """Name of the tensor with a site's rows per text."""
    return f"pooled/{site}/{pooling}"
