"""TopK dictionaries (Gao et al., 2406.04093) and their frozen-encoder twins, trained on rows that arrive in batches."""

from collections.abc import Iterable
from dataclasses import fields
from typing import NamedTuple

import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.dictionaries.activations import TopKRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.encoder import seeded_rows
from theodolite.dictionaries.objective import Weights, step

DECAY = 0.2  # the last share of the steps, over which the learning rate falls to 0


class Losses(NamedTuple):
    """What one batch cost: share of its variance left by the reconstruction, and of that error by AuxK; L0; dead."""

    fvu: Tensor
    aux: Tensor
    l0: Tensor
    dead: Tensor


class TopK:
    """A k-sparse dictionary, fitted batch by batch.

    `frozen_encoder=True` gives the twin of the sanity check in 2602.14111: the encoder keeps its seeded random
    directions, while biases and decoder train on the same rows and steps (the paper freezes the encoder's bias too;
    training it makes the twin a harder control). Inputs are scaled to unit variance about b_dec, the geometric median
    of the first rows; `scale_` records the factor and `dictionary()` folds it. Decoder rows stay at norm 1: gradients
    lose their component along the row, rows are renormalised after each Adam step. A latent is dead when it has not
    fired for `dead_after` rows.

    >>> rows = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    >>> fitted = TopK(8, width=16, k=4, lr=1e-2).fit([rows] * 50)
    >>> fitted.encode(rows).shape, fitted.fvu(rows) < TopK(8, width=16, k=4).fit([rows]).fvu(rows)
    (torch.Size([512, 16]), True)
    """

    def __init__(
        self,
        d_in: int,
        width: int = 4096,
        k: int = 32,
        seed: int = 0,
        frozen_encoder: bool = False,
        *,
        lr: float = 4e-4,
        steps: int | None = None,
        warm_up: float = 0.05,
        decay: float = DECAY,
        aux: float = 1 / 32,
        dead_after: int = 200_000,
    ):
        self.d_in, self.width, self.k, self.seed, self.frozen_encoder = d_in, width, k, seed, frozen_encoder
        self.lr, self.steps, self.warm_up, self.decay, self.aux, self.dead_after = (
            lr,
            steps,
            warm_up,
            decay,
            aux,
            dead_after,
        )
        self.step_ = 0

    def fit(self, batches: Iterable[Tensor]) -> "TopK":
        """Train on every batch of rows, in order."""
        for x_nd in batches:
            self.partial_fit(x_nd)
        return self

    def start(self, x_nd: Tensor) -> None:
        """Draw the weights, take b_dec and scale from these rows; the first `partial_fit` does it if nobody did."""
        _refuse_non_finite(x_nd, self.step_)
        median = geometric_median(x_nd)
        self.scale_ = float((x_nd.double() - median).square().sum(1).mean().rsqrt())
        rows = seeded_rows(self.width, self.d_in, self.seed).to(x_nd.device)
        zeros = torch.zeros(self.width, device=x_nd.device)
        self.weights_ = Weights(rows.clone(), zeros, rows.clone(), (median * self.scale_).float())
        self.unused_for_ = torch.zeros(self.width, dtype=torch.int64, device=x_nd.device)
        self._optimizer = self._new_optimizer()

    def partial_fit(self, x_nd: Tensor) -> Losses:
        """One optimiser step on these rows. Rows with NaN or infinity stop the training and leave it as it was."""
        if not hasattr(self, "weights_"):
            self.start(x_nd)
        x = x_nd.float() * self.scale_
        dead = self.unused_for_ >= self.dead_after
        done = step(
            self.weights_,
            x,
            self.k,
            dead=dead,
            k_aux=self.d_in // 2,
            alpha=self.aux,
            train_encoder=not self.frozen_encoder,
        )
        if not torch.isfinite(done.fvu):
            _refuse_non_finite(x_nd, self.step_)
            raise UserError(
                f"dictionary training diverged at step {self.step_}: the loss is {float(done.fvu)}; lower lr={self.lr}"
            )
        self._update(done.gradients)
        self.unused_for_ += len(x)
        self.unused_for_[done.fired] = 0
        self.step_ += 1
        return Losses(done.fvu, done.aux, done.l0, dead.sum())

    def encode(self, x_nd: Tensor) -> Tensor:
        """(n, width) latents of raw rows."""
        return self.dictionary().encode(x_nd)

    def decode(self, z_nf: Tensor) -> Tensor:
        """Rows from latents."""
        return self.dictionary().decode(z_nf)

    def fvu(self, x_nd: Tensor) -> float:
        """Fraction of variance unexplained on these rows."""
        return self.dictionary().fvu(x_nd)

    def dictionary(self) -> Dictionary:
        """The dictionary so far, on raw rows: TopK commutes with a positive factor, so `scale_` divides only biases."""
        w = self.weights_
        b_enc, b_dec = w.b_enc / self.scale_, w.b_dec / self.scale_
        info = {"seed": self.seed, "scale": self.scale_, "frozen_encoder": self.frozen_encoder}
        return Dictionary(w.W_enc.clone(), b_enc, w.W_dec.clone(), b_dec, TopKRule(self.k), info=info)

    def state(self) -> dict[str, Tensor]:
        """Everything that training goes on from: weights, Adam's moments, idle counters, step and scale."""
        tensors = {
            name: t for name, t in _shallow(self.weights_).items() if not (self.frozen_encoder and name == "W_enc")
        }
        for name, parameter in self._trained().items():
            moments = self._optimizer.state[parameter]
            tensors |= {f"{name}.{key}": moments[key] for key in ("exp_avg", "exp_avg_sq") if key in moments}
        scale = torch.tensor(self.scale_, dtype=torch.float64)
        return tensors | {"unused_for": self.unused_for_, "step": torch.tensor(self.step_), "scale": scale}

    def load_state(self, tensors: dict[str, Tensor], device: str | torch.device = "cpu") -> "TopK":
        """Continue from `state()`: the next step equals, bit for bit, the one that an uninterrupted run would take."""
        tensors = {name: t.clone().to(device) for name, t in tensors.items()}
        if self.frozen_encoder:
            tensors["W_enc"] = seeded_rows(self.width, self.d_in, self.seed).to(device)
        self.weights_ = Weights(*(tensors[f.name] for f in fields(Weights)))
        self.unused_for_, self.step_, self.scale_ = tensors["unused_for"], int(tensors["step"]), float(tensors["scale"])
        self._optimizer = self._new_optimizer()
        for name, parameter in self._trained().items():
            if self.step_:
                moments = {key: tensors[f"{name}.{key}"] for key in ("exp_avg", "exp_avg_sq")}
                self._optimizer.state[parameter] = {"step": torch.tensor(float(self.step_), device=device)} | moments
        return self

    def learning_rate(self) -> float:
        """Linear warm-up, constant, linear decay to 0 over the last share of `steps`; constant if not given."""
        if self.steps is None:
            return self.lr
        left, warm, tail = self.steps - self.step_, self.warm_up * self.steps, self.decay * self.steps
        return self.lr * min(1.0, (self.step_ + 1) / max(warm, 1), max(left, 0) / max(tail, 1))

    def _trained(self) -> dict[str, Tensor]:
        return {name: t for name, t in _shallow(self.weights_).items() if not (self.frozen_encoder and name == "W_enc")}

    def _new_optimizer(self) -> torch.optim.Adam:
        # eps of 2406.04093: gradients of a normalised loss over 4,096 latents are far below Adam's usual 1e-8
        return torch.optim.Adam(self._trained().values(), lr=self.lr, eps=6.25e-10, fused=True)

    def _update(self, gradients: Weights) -> None:
        w, g = self.weights_, gradients
        g.W_dec -= (g.W_dec * w.W_dec).sum(1, keepdim=True) * w.W_dec
        for name, parameter in self._trained().items():
            parameter.grad = getattr(g, name)
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self._optimizer.step()
        w.W_dec /= w.W_dec.norm(dim=1, keepdim=True)


def geometric_median(x_nd: Tensor, rounds: int = 30) -> Tensor:
    """The point with the least summed distance to the rows, float64: a centre that outliers do not move (Weiszfeld)."""
    x = x_nd.double()
    centre = x.mean(0)
    for _ in range(rounds):
        weight = 1 / (x - centre).norm(dim=1).clamp_min(1e-12)
        centre = (weight @ x) / weight.sum()
    return centre


def _shallow(weights: Weights) -> dict[str, Tensor]:
    return {f.name: getattr(weights, f.name) for f in fields(weights)}


def _refuse_non_finite(x_nd: Tensor, at_step: int) -> None:
    bad = int((~torch.isfinite(x_nd)).any(1).sum())
    if bad:
        raise UserError(
            f"dictionary training stopped at step {at_step}: {bad} of {len(x_nd)} rows hold NaN or infinity"
        )
