"""Interventions at the logits, on rows that were chosen before the unembedding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.positions import Positions
from theodolite.models.tokens import Tokens


@dataclass(frozen=True)
class Where:
    """The rows: targets (n, t) of tokens, which are the texts `index` (n) among the `n_texts` of their call."""

    tokens: Tokens
    targets: Tensor
    index: np.ndarray
    n_texts: int


def changed_logits(changes: Sequence[Intervention], logits_rv: Tensor, where: Where) -> Tensor:
    """Logits (rows, vocabulary) after interventions at the site `logits`."""
    for change in changes:
        width = change.basis.d_model
        if width is not None and width != logits_rv.shape[1]:
            raise UserError(f"{change} has vectors of {width} numbers, the vocabulary has {logits_rv.shape[1]}")
        context = _Rows(change, where, logits_rv.device)
        logits_rv = change.apply(logits_rv, logits_rv, context.selected, context)
    return logits_rv


@dataclass(frozen=True)
class _Rows:
    """The parts of a pass that a rule at the logits may use (core.rules.PassContext): rows alone, no other site."""

    intervention: Intervention
    where: Where
    device: Any

    @property
    def basis(self) -> Any:
        return self.intervention.basis

    @property
    def selected(self) -> Tensor:
        return self.tokens_at(self.intervention.positions)

    def tokens_at(self, positions: Positions) -> Tensor:
        mask = positions.mask(self.where.tokens.roles.numpy(), self.where.index, self.where.n_texts)
        return torch.from_numpy(mask)[self.where.targets].to(self.device)

    def encode(self, h: Tensor) -> Tensor:
        return self.basis.encode(h)

    def recall(self, name: str = "") -> Tensor | None:
        return self._refuse("remembers earlier tokens")

    def keep(self, value: Tensor, name: str = "") -> None:
        self._refuse("remembers earlier tokens")

    def at(self, site: Any) -> Tensor:
        return self._refuse(f"reads {site}")

    def aligned(self, values: Any) -> Tensor:
        return self._refuse("patches from a donor")

    def per_text(self, values: Any, z: Tensor) -> Tensor:
        return self._refuse("has numbers of each text")

    def _refuse(self, what: str) -> NoReturn:
        raise UserError(f"{self.intervention} {what}, which passes over chosen rows cannot do: use Model.run")
