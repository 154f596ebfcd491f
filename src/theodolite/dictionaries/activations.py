"""From pre-activations to latents: the one line in which dictionary variants differ once trained.

Every rule is called with the pre-activations (n, f) and the decoder's rows (f, d), which only matching pursuit looks
at. A latent of 0 is not active; signed rules give negative ones.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from theodolite.dictionaries import sparse


@dataclass(frozen=True, eq=False)
class Activation:
    """A rule with its numbers and tensors, and what becomes of it on another device or on rows of another scale."""

    name: ClassVar[str]
    homogeneous: ClassVar[bool] = True  # a positive factor on all pre-activations is one on all latents

    def __call__(self, pre_nf: Tensor, W_fd: Tensor) -> Tensor:
        raise NotImplementedError

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are tensors over latents."""
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}

    def numbers(self) -> dict[str, Any]:
        """The other fields."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in self.tensors()}

    def to(self, device: str | torch.device) -> Self:
        """The same rule on another device."""
        return replace(self, **{name: t.to(device) for name, t in self.tensors().items()})

    def times(self, factor: float) -> Self:
        """The rule for pre-activations `factor` times as large, whose latents are that much larger."""
        return self


@dataclass(frozen=True, eq=False)
class TopKRule(Activation):
    """Keep the k largest of a row, cut at 0 (2406.04093)."""

    k: int
    name = "topk"

    def __call__(self, pre_nf: Tensor, W_fd: Tensor) -> Tensor:
        idx, val = sparse.top_k(pre_nf, self.k)
        return torch.zeros_like(pre_nf).scatter(1, idx, val)


@dataclass(frozen=True, eq=False)
class Relu(Activation):
    """Standard L1 dictionaries."""

    name = "standard"

    def __call__(self, pre_nf: Tensor, W_fd: Tensor) -> Tensor:
        return pre_nf.relu()


@dataclass(frozen=True, eq=False)
class JumpRelu(Activation):
    """Keep what exceeds the latent's threshold (2407.14435); BatchTopK dictionaries are exported in this form."""

    threshold: Tensor
    name = "jumprelu"

    def __call__(self, pre_nf: Tensor, W_fd: Tensor) -> Tensor:
        return pre_nf.relu() * (pre_nf > self.threshold)

    def times(self, factor: float) -> "JumpRelu":
        return JumpRelu(self.threshold * factor)


@dataclass(frozen=True, eq=False)
class Gated(Activation):
    """Fire where the gate's pre-activation is positive, with magnitude relu(scale * pre + shift) (2404.16014).

    The gated encoder shares one matrix: with pre = x W + b_gate, its magnitude path exp(r_mag) (x W) + b_mag is
    exp(r_mag) pre + (b_mag - exp(r_mag) b_gate).
    """

    scale: Tensor
    shift: Tensor
    name = "gated"

    def __call__(self, pre_nf: Tensor, W_fd: Tensor) -> Tensor:
        return (pre_nf * self.scale + self.shift).relu() * (pre_nf > 0)

    def times(self, factor: float) -> "Gated":
        return Gated(self.scale, self.shift * factor)
