"""The view that a rule of an intervention has of the forward pass under way."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theodolite.core.basis import Basis
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.positions import Positions
from theodolite.core.site import Site
from theodolite.core.tensors import like


@dataclass(slots=True, eq=False)  # one is made for each intervention in each step: to freeze it would cost more
class ModelPassContext:
    """The parts of a forward pass under way that a rule may use, as `core.rules.PassContext` promises them."""

    passing: Any
    number: int
    intervention: Intervention
    h: Tensor

    @property
    def basis(self) -> Basis:
        return self.intervention.basis

    @property
    def selected(self) -> Tensor:
        return self.tokens_at(self.intervention.positions)

    def tokens_at(self, positions: Positions) -> Tensor:
        mask = self.passing.selected(positions, self.h.device)
        return self.passing.computed(self.intervention.site, mask.unsqueeze(-1)).squeeze(-1)

    def recall(self, name: str = "") -> Tensor | None:
        kept = self.passing.memory.get((self.number, name))
        return None if kept is None else kept.to(self.h.device)

    def keep(self, value: Tensor, name: str = "") -> None:
        if value.shape[:1] != self.h.shape[:1]:
            raise UserError(
                f"{self.intervention} keeps a value of shape {tuple(value.shape)} for {len(self.h)} texts: its first "
                "axis is that of the texts"
            )
        self.passing.memory.set((self.number, name), value)

    def encode(self, h: Tensor) -> Tensor:
        if not h.ndim or h.shape[-1] != self.h.shape[-1]:
            given, wanted = tuple(h.shape), self.h.shape[-1]
            raise UserError(f"{self.intervention} holds states of shape {given}, the model's have {wanted} numbers")
        return self.intervention.basis.encode(h)

    def at(self, site: Site) -> Tensor:
        return self._wide(self.passing.state_at(site, self.intervention.site))

    def _wide(self, state: Tensor) -> Tensor:
        """A tensor on this device, at least in float32."""
        state = state.to(self.h.device)
        return state.float() if state.dtype.itemsize < 4 else state

    def aligned(self, values: np.ndarray | Tensor) -> Tensor:
        donor = torch.as_tensor(values)
        if donor.ndim == 1:
            return self._wide(donor)
        batch, columns = self.passing.batch, self.passing.columns
        start, stop = columns.start + batch.skipped, columns.stop + batch.skipped
        fits = donor.ndim in (2, 3) and donor.shape[-2] >= stop
        if not fits or (donor.ndim == 3 and len(donor) not in (1, batch.n_texts)):
            wanted = (batch.n_texts, stop, self.h.shape[-1])
            raise UserError(f"the donor of {self.intervention} has shape {tuple(donor.shape)}, the run {wanted}")
        if donor.ndim == 3 and len(donor) > 1:
            donor = donor[torch.as_tensor(batch.index, device=donor.device)]
        return self._wide(self.passing.computed(self.intervention.site, donor[..., start:stop, :]))

    def per_text(self, values: np.ndarray | Tensor, z: Tensor) -> Tensor:
        batch, columns, k = self.passing.batch, self.passing.columns, z.shape[-1]
        start, stop = columns.start + batch.skipped, columns.stop + batch.skipped
        numbers = values.reshape(-1, 1, 1) if values.ndim == 1 and k == 1 else values
        fits = numbers.ndim == 3 and len(numbers) in (1, batch.n_texts) and numbers.shape[2] in (1, k)
        if not fits or not (numbers.shape[1] == 1 or numbers.shape[1] >= stop):
            shape = tuple(values.shape)
            raise UserError(
                f"{self.intervention} has numbers of shape {shape}: this call has {batch.n_texts} texts of "
                f"up to {stop} tokens and {k} coordinates; give one number, ({k},) with one for each coordinate, or "
                f"({batch.n_texts}, 1, 1) with one for each text"
            )
        mine = numbers[batch.index] if len(numbers) > 1 else numbers
        if mine.shape[1] > 1:
            mine = self.passing.computed(self.intervention.site, mine[:, start:stop])
        return like(mine, z)
