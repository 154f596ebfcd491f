"""Base of the classical baselines, which sum statistics of batches and solve, where others follow gradients."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.dictionaries.training.learner import Learner, Step

GRADIENT_OPTIONS = ("frozen", "lr", "betas", "warm_up", "decay", "clip", "weight_decay")


@dataclass(eq=False)
class Classical(Learner):
    """A dictionary without optimizer, learning rate or frozen parts.

    `_step` gives the losses of a batch and, in the place of gradients, its statistics; `_absorb` takes these in, after
    the losses were found finite: a batch with NaN leaves everything as it was.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in GRADIENT_OPTIONS:
            if (given := getattr(self, name)) != getattr(Learner, name):
                raise UserError(f"{name}={given!r}: {type(self).__name__} follows no gradient, leave this option out")

    def options(self) -> dict[str, Any]:
        """Options that the baseline has: none of a gradient's."""
        return {name: value for name, value in super().options().items() if name not in GRADIENT_OPTIONS}

    @abstractmethod
    def _absorb(self, statistics: dict[str, Tensor]) -> None:
        """Take in the statistics of one batch."""

    def _update(self, gradients: dict[str, Tensor]) -> None:
        self._absorb(gradients)

    def _trained(self) -> dict[str, Tensor]:
        return {}

    def _new_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([torch.zeros(0)])  # torch refuses one of no parameters; it never steps

    def _solve_due(self) -> bool:
        """After 1, 2, 4, 8, ... batches: for those that solve rarely, since a solution costs d³."""
        return self.step_ & (self.step_ + 1) == 0

    def _refuse_more_than_d_in(self) -> None:
        if self.width > self.d_in:
            raise UserError(
                f"width={self.width}: there are only {self.d_in} components of rows with {self.d_in} numbers; "
                f"give width={self.d_in} or less"
            )


def outcome(x_nd: Tensor, x_hat_nd: Tensor, z_nf: Tensor, statistics: dict[str, Tensor]) -> Step:
    """Losses of a batch, with its statistics."""
    variance = (x_nd - x_nd.mean(0)).square().sum()
    active = z_nf != 0
    losses = {"fvu": (x_nd - x_hat_nd).square().sum() / variance}
    return Step(losses, statistics, active.any(0), active.sum() / len(x_nd))


def remembered(step: int, batch: int) -> float:
    """The share of past statistics kept when batch `step` (from 0) comes in (Mairal et al. 2009, section 3.4).

    Codes of early batches came from a poor dictionary: batch s of t weighs about s/t, while t is below the batch size.

    >>> round(remembered(1, 100), 2), round(remembered(9, 100), 2)
    (0.5, 0.9)
    """
    t = step + 1
    theta = t * batch if t < batch else batch**2 + t - batch
    return (theta + 1 - batch) / (theta + 1)


def principal(scatter_dd: Tensor, width: int) -> Tensor:
    """The directions of largest variance, as rows, float64; the largest entry of each is positive."""
    rows_fd = torch.linalg.eigh(scatter_dd).eigenvectors.T.flip(0)[:width]
    largest = rows_fd.gather(1, rows_fd.abs().argmax(1, keepdim=True))
    return rows_fd * largest.sign()
