"""What all dictionaries share that learn batch by batch: scale, start, Adam, learning rate, idle latents, state.

A variant is one file in `variants/`. It says which parameters it has (`_parameters`), what a batch costs and how the
parameters should change (`_step`), and what dictionary they make (`_dictionary`). One that does not follow gradients
replaces `_learn`.
"""

import math
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Literal, Self

import torch
from torch import Tensor

from theodolite.core.errors import UserError, unknown
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.encoder import seeded_rows

DECAY = 0.2  # the last share of the steps, over which the learning rate falls to 0
SOFT = 0.8  # least cosine of a soft-frozen decoder row with the row it started from (2602.14111)
FROZEN = {"": (), "encoder": ("W_enc",), "decoder": ("W_dec",), "soft_decoder": ()}


@dataclass
class Step:
    """What one batch gave.

    losses: by name, with `fvu` (error energy over the batch's variance) among them. gradients: by parameter, of the
    loss that is minimised. fired: which latents were active (f). l0: active latents per row.
    """

    losses: dict[str, Tensor]
    gradients: dict[str, Tensor]
    fired: Tensor
    l0: Tensor


@dataclass(eq=False)
class Learner:
    """A dictionary of `width` latents for rows of `d_in` numbers, fitted batch by batch.

    Rows are scaled to unit mean square distance from the geometric median of the first ones; `scale_` records the
    factor and `dictionary()` folds it. Decoder rows keep norm 1 where `unit_decoder`: gradients lose their component
    along the row, and rows are renormalised after each Adam step.

    frozen: "encoder" gives the twin of the sanity check in 2602.14111: the encoder keeps its seeded random directions
    while all else trains on the same rows and steps (the paper freezes the encoder's bias too; training it makes the
    twin a harder control). "decoder" keeps the decoder's, "soft_decoder" lets every row of it stray to a cosine of .8.
    lr, steps, warm_up, decay: the learning rate rises over the first share of the steps and falls to 0 over the last;
    it is constant if `steps` is not given. clip: largest norm of all gradients together. dead_after: rows without
    firing after which a latent counts as dead.
    """

    d_in: int
    width: int = 4096
    _: KW_ONLY
    seed: int = 0
    frozen: Literal["", "encoder", "decoder", "soft_decoder"] = ""
    lr: float = 4e-4
    betas: tuple[float, float] = (0.9, 0.999)
    steps: int | None = None
    warm_up: float = 0.05
    decay: float = DECAY
    clip: float = 1.0
    dead_after: int = 200_000

    unit_decoder = True

    def __post_init__(self) -> None:
        if self.width < 1:
            raise UserError(f"width={self.width} latents: give at least 1")
        if self.frozen not in FROZEN:
            raise unknown("frozen", self.frozen, FROZEN)
        self.step_ = 0
        self.buffers_: dict[str, Tensor] = {}

    def _parameters(self, x_nd: Tensor, centre_d: Tensor, rows_fd: Tensor) -> dict[str, Tensor]:
        """Parameters by name, from the first scaled rows, their geometric median and seeded random unit rows.

        What else the variant keeps (a threshold, a controller's state) goes into `buffers_`.
        """
        raise NotImplementedError

    def _step(self, x_nd: Tensor) -> Step:
        """Losses and gradients of one batch of scaled rows; changes no parameter."""
        raise NotImplementedError

    def _dictionary(self) -> Dictionary:
        """The dictionary on scaled rows."""
        raise NotImplementedError

    def fit(self, batches: Iterable[Tensor]) -> Self:
        """Train on every batch of rows, in order."""
        for x_nd in batches:
            self.partial_fit(x_nd)
        return self

    def start(self, x_nd: Tensor) -> None:
        """Draw the parameters, take centre and scale from these rows; the first `partial_fit` does it if nobody did."""
        _refuse_non_finite(x_nd, self.step_)
        median = geometric_median(x_nd)
        spread = float((x_nd.double() - median).square().sum(1).mean())
        if not spread > 0:
            raise UserError(f"all {len(x_nd)} rows a dictionary starts from are equal: there is nothing to learn")
        self.scale_ = spread**-0.5
        rows = seeded_rows(self.width, self.d_in, self.seed).to(x_nd.device)
        centre = (median * self.scale_).float()
        self.buffers_ = {}
        self.parameters_ = self._parameters(x_nd.float() * self.scale_, centre, rows)
        self.unused_for_ = torch.zeros(self.width, dtype=torch.int64, device=x_nd.device)
        self._optimizer = self._new_optimizer()

    def partial_fit(self, x_nd: Tensor) -> dict[str, Tensor]:
        """One step on these rows; the losses by name, L0 and dead latents.

        Rows with NaN or infinity stop the training and leave it as it was.
        """
        if not hasattr(self, "parameters_"):
            self.start(x_nd)
        done = self._learn(x_nd.float() * self.scale_)
        if not math.isfinite(done.losses["fvu"]):
            _refuse_non_finite(x_nd, self.step_)
            raise UserError(
                f"dictionary training diverged at step {self.step_}: the loss is {float(done.losses['fvu'])}; "
                f"lower lr={self.lr}"
            )
        dead = self.dead_.sum()
        self._update(done.gradients)
        self.unused_for_ += len(x_nd)
        self.unused_for_[done.fired] = 0
        self.step_ += 1
        return done.losses | {"l0": done.l0, "dead": dead}

    def _learn(self, x_nd: Tensor) -> Step:
        """What this batch of scaled rows teaches."""
        return self._step(x_nd)

    @property
    def dead_(self) -> Tensor:
        """Which latents count as dead, (f) bool."""
        return self.unused_for_ >= self.dead_after

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
        """The dictionary so far, on raw rows."""
        found = self._dictionary().folded(self.scale_)
        found.info.update(
            seed=self.seed, scale=self.scale_, frozen_encoder=self.frozen == "encoder", frozen=self.frozen
        )
        return found

    def state(self) -> dict[str, Tensor]:
        """Everything that training goes on from: parameters, Adam's moments, buffers, idle counters, step and scale."""
        tensors = {name: t for name, t in self.parameters_.items() if name not in FROZEN[self.frozen]}
        for name, parameter in self._trained().items():
            moments = self._optimizer.state[parameter]
            tensors |= {f"{name}.{key}": moments[key] for key in ("exp_avg", "exp_avg_sq") if key in moments}
        tensors |= {f"buffer.{name}": t for name, t in self.buffers_.items()}
        scale = torch.tensor(self.scale_, dtype=torch.float64)
        return tensors | {"unused_for": self.unused_for_, "step": torch.tensor(self.step_), "scale": scale}

    def load_state(self, tensors: dict[str, Tensor], device: str | torch.device = "cpu") -> Self:
        """Continue from `state()`: the next step equals, bit for bit, the one that an uninterrupted run would take."""
        tensors = {name: t.clone().to(device) for name, t in tensors.items()}
        self.unused_for_, self.step_, self.scale_ = tensors["unused_for"], int(tensors["step"]), float(tensors["scale"])
        buffers = {name.removeprefix("buffer."): t for name, t in tensors.items() if name.startswith("buffer.")}
        rest = {"unused_for", "step", "scale"}
        self.parameters_ = {name: t for name, t in tensors.items() if "." not in name and name not in rest}
        for name in FROZEN[self.frozen]:
            self.parameters_[name] = seeded_rows(self.width, self.d_in, self.seed).to(device)
        self.buffers_ = buffers
        self._optimizer = self._new_optimizer()
        for name, parameter in self._trained().items():
            moments = {key: tensors[f"{name}.{key}"] for key in ("exp_avg", "exp_avg_sq") if f"{name}.{key}" in tensors}
            if moments:
                self._optimizer.state[parameter] = {"step": torch.tensor(float(self.step_), device=device)} | moments
        return self

    def learning_rate(self) -> float:
        """Linear warm-up, constant, linear decay to 0 over the last share of `steps`; constant if not given."""
        if self.steps is None:
            return self.lr
        left, warm, tail = self.steps - self.step_, self.warm_up * self.steps, self.decay * self.steps
        return self.lr * min(1.0, (self.step_ + 1) / max(warm, 1), max(left, 0) / max(tail, 1))

    def _trained(self) -> dict[str, Tensor]:
        return {name: t for name, t in self.parameters_.items() if name not in FROZEN[self.frozen]}

    def _new_optimizer(self) -> torch.optim.Optimizer:
        # eps of 2406.04093: gradients of a normalised loss over 4,096 latents are far below Adam's usual 1e-8
        return torch.optim.Adam(self._trained().values(), lr=self.lr, betas=self.betas, eps=6.25e-10, fused=True)

    def _update(self, gradients: dict[str, Tensor]) -> None:
        """One Adam step along clipped gradients, then the constraints."""
        trained = self._trained()
        if self.unit_decoder and "W_dec" in trained:
            g, w = gradients["W_dec"], trained["W_dec"]
            g -= (g * w).sum(1, keepdim=True) * w
        norm = float(sum(gradients[name].double().square().sum() for name in trained)) ** 0.5
        for name, parameter in trained.items():
            parameter.grad = gradients[name] * min(1.0, self.clip / norm) if norm > self.clip else gradients[name]
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self._optimizer.step()
        self._constrain()

    def _constrain(self) -> None:
        """Put the parameters back where they belong after an Adam step."""
        w = self._trained().get("W_dec")
        if w is None or not self.unit_decoder:
            return
        w /= w.norm(dim=1, keepdim=True)
        if self.frozen == "soft_decoder":
            w.copy_(within_cone(w, seeded_rows(self.width, self.d_in, self.seed).to(w.device), SOFT))


def within_cone(w_fd: Tensor, axis_fd: Tensor, cosine: float) -> Tensor:
    """Unit rows, each turned towards its axis until their cosine is at least `cosine`.

    >>> within_cone(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]), 0.8)
    tensor([[0.8000, 0.6000]])
    """
    along = (w_fd * axis_fd).sum(1, keepdim=True)
    across = torch.nn.functional.normalize(w_fd - along * axis_fd, dim=1)
    return torch.where(along < cosine, cosine * axis_fd + (1 - cosine**2) ** 0.5 * across, w_fd)


def geometric_median(x_nd: Tensor, rounds: int = 30) -> Tensor:
    """The point with the least summed distance to the rows, float64: a centre that outliers do not move (Weiszfeld)."""
    x = x_nd.double()
    centre = x.mean(0)
    for _ in range(rounds):
        weight = 1 / (x - centre).norm(dim=1).clamp_min(1e-12)
        centre = (weight @ x) / weight.sum()
    return centre


def _refuse_non_finite(x_nd: Tensor, at_step: int) -> None:
    bad = int((~torch.isfinite(x_nd)).any(1).sum())
    if bad:
        raise UserError(
            f"dictionary training stopped at step {at_step}: {bad} of {len(x_nd)} rows hold NaN or infinity"
        )
