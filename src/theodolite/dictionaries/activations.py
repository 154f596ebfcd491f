"""Activation rules, from pre-activations to latents: the only difference between trained variants.

Every rule is called with the pre-activations (n, f) and the decoder's rows (f, d), which only matching pursuit looks
at. A latent of 0 is not active; signed rules give negative ones.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from theodolite.dictionaries import coding
from theodolite.dictionaries.ops import sparse


@dataclass(frozen=True, eq=False)
class Activation(ABC):
    """A rule with its numbers and tensors, and what becomes of it on another device or on rows of another scale."""

    name: ClassVar[str]
    homogeneous: ClassVar[bool] = True  # a positive factor on all pre-activations is one on all latents
    signed: ClassVar[bool] = False  # latents may be negative
    reads_decoder: ClassVar[bool] = False  # latents change where the decoder does
    elementwise: ClassVar[bool] = False  # a latent depends on its own pre-activation only

    @abstractmethod
    def __call__(self, pre_nf: Tensor, W_fd: Tensor) -> Tensor:
        """Latents (n, f)."""

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are tensors over latents."""
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}

    def numbers(self) -> dict[str, Any]:
        """The other fields."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in self.tensors()}

    def to(self, device: str | torch.device) -> Self:
        """Return this rule on another device."""
        return replace(self, **{name: t.to(device) for name, t in self.tensors().items()})

    def part(self, latents: slice) -> Self:
        """The rule of some neighbouring latents, where each is by itself (`elementwise`)."""
        assert self.elementwise, f"{self.name} looks at all latents of a row"
        return replace(self, **{name: t[latents] for name, t in self.tensors().items()})

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
        return torch.zeros_like(pre_nf).scatter_add(1, idx, val)  # empty slots name a latent too, with 0


@dataclass(frozen=True, eq=False)
class AbsTopKRule(Activation):
    """Keep the k largest absolute values of a row, with their signs (2510.00404)."""

    k: int
    name = "abs_topk"
    signed = True

    def __call__(self, pre_nf: Tensor, W_fd: Tensor) -> Tensor:
        idx, val = sparse.top_k(pre_nf, self.k, signed=True)
        return torch.zeros_like(pre_nf).scatter_add(1, idx, val)


@dataclass(frozen=True, eq=False)
class ReluRule(Activation):
    """Standard L1 dictionaries."""

    name = "standard"
    elementwise = True

    def __call__(self, pre_nf: Tensor, W_fd: Tensor) -> Tensor:
        return pre_nf.relu()


@dataclass(frozen=True, eq=False)
class JumpReluRule(Activation):
    """Keep what exceeds the latent's threshold (2407.14435); BatchTopK dictionaries are exported in this form."""

    threshold: Tensor
    name = "jumprelu"
    elementwise = True

    def __call__(self, pre_nf: Tensor, W_fd: Tensor) -> Tensor:
        return pre_nf.relu() * (pre_nf > self.threshold)

    def times(self, factor: float) -> "JumpReluRule":
        return JumpReluRule(self.threshold * factor)


@dataclass(frozen=True, eq=False)
class GatedRule(Activation):
    """Fire where the gate's pre-activation is positive, with magnitude relu(scale * pre + shift) (2404.16014).

    The gated encoder shares one matrix: with pre = x W + b_gate, its magnitude path exp(r_mag) (x W) + b_mag is
    exp(r_mag) pre + (b_mag - exp(r_mag) b_gate).
    """

    scale: Tensor
    shift: Tensor
    name = "gated"
    elementwise = True

    def __call__(self, pre_nf: Tensor, W_fd: Tensor) -> Tensor:
        return (pre_nf * self.scale + self.shift).relu() * (pre_nf > 0)

    def times(self, factor: float) -> "GatedRule":
        return GatedRule(self.scale, self.shift * factor)


@dataclass(frozen=True, eq=False)
class IdentityRule(Activation):
    """Every pre-activation is a latent, with its sign: principal and independent components."""

    name = "identity"
    signed = True
    elementwise = True

    def __call__(self, pre_nf: Tensor, W_fd: Tensor) -> Tensor:
        return pre_nf


@dataclass(frozen=True, eq=False)
class NearestRule(Activation):
    """1 for the largest pre-activation, 0 for all others: k-means, with pre = 2 <x, c> - |c|²."""

    name = "nearest"
    homogeneous = False

    def __call__(self, pre_nf: Tensor, W_fd: Tensor) -> Tensor:
        return torch.zeros_like(pre_nf).scatter(1, pre_nf.argmax(1, keepdim=True), 1.0)


@dataclass(frozen=True, eq=False)
class SparsemaxRule(Activation):
    """Latents that sum to 1 (2503.01822): distances to prototypes, of which the near ones share a row among them."""

    name = "sparsemax"
    homogeneous = False

    def __call__(self, pre_nf: Tensor, W_fd: Tensor) -> Tensor:
        return coding.sparsemax(pre_nf)


@dataclass(frozen=True, eq=False)
class MatchingPursuitRule(Activation):
    """k serial steps over unit decoder rows; the encoder must be the decoder (2506.03093)."""

    k: int
    name = "matching_pursuit"
    reads_decoder = True

    def __call__(self, pre_nf: Tensor, W_fd: Tensor) -> Tensor:
        return coding.matching_pursuit(pre_nf, W_fd, self.k)


@dataclass(frozen=True, eq=False)
class FistaRule(Activation):
    """The lasso code by a fixed number of FISTA steps; the encoder must be the decoder.

    lam: weight of |z|₁ beside half the squared error.
    """

    lam: float
    steps: int = 100
    name = "fista"
    reads_decoder = True
    signed = True

    def __call__(self, pre_nf: Tensor, W_fd: Tensor) -> Tensor:
        return coding.fista(pre_nf, W_fd, self.lam, self.steps, positive=not self.signed)

    def times(self, factor: float) -> Self:
        return replace(self, lam=self.lam * factor)


@dataclass(frozen=True, eq=False)
class NonnegativeFistaRule(FistaRule):
    """FISTA over z >= 0; with lam = 0 it is the nonnegative least squares of semi-NMF."""

    name = "nonnegative_fista"
    signed = False
