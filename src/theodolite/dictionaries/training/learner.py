"""Base of all dictionaries that learn batch by batch: scale, start, Adam, learning rate, idle latents, state.

A variant is one file in `variants/`. It says which parameters it has (`_parameters`), what a batch costs and how the
parameters should change (`_step`), and what dictionary they make (`_dictionary`). One that does not follow gradients
replaces `_update` (`classical.py`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from theodolite.core.errors import UserError, unknown
from theodolite.dictionaries.activations import Activation
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.seeded import seeded_rows
from theodolite.dictionaries.training import adam

WIDE = 4096  # latents beyond which the learning rate falls: at 4e-3, 15 % of 16,384 fell out of use, 2 % of 4,096
DECAY = 0.2  # the last share of the steps, over which the learning rate falls to 0
SOFT = 0.8  # least cosine of a soft-frozen decoder row with the row it started from (2602.14111)
FROZEN = {"": (), "encoder": ("W_enc",), "decoder": ("W_dec",), "soft_decoder": ()}


def frozen_part(info: dict[str, Any]) -> str:
    """The part that was frozen while a dictionary with this `info` trained; version 0.1 froze encoders alone.

    >>> frozen_part({"frozen": "decoder", "frozen_encoder": False}), frozen_part({"frozen_encoder": True})
    ('decoder', 'encoder')
    """
    return str(info.get("frozen", "encoder" if info.get("frozen_encoder") else ""))


@dataclass
class Step:
    """Results of one batch.

    losses: by name, with `fvu` (error energy over the batch's variance) among them. gradients: by parameter, of the
    loss that is minimised. fired: which latents were active (f). l0: active latents per row.
    """

    losses: dict[str, Tensor]
    gradients: dict[str, Tensor]
    fired: Tensor
    l0: Tensor


@dataclass(eq=False)
class Learner(ABC):
    """A dictionary of `width` latents for rows of `d_in` numbers, fitted batch by batch.

    Rows are scaled to unit mean square distance from the geometric median of the first ones; `scale_` records the
    factor and `dictionary()` folds it. Decoder rows keep norm 1 where `unit_decoder`: gradients lose their component
    along the row, and rows are renormalised after each Adam step.

    frozen: "encoder" gives the control of the sanity check in 2602.14111: the encoder keeps its seeded random
    directions while all else trains on the same rows and steps (the paper freezes the encoder's bias too; training it
    makes the control harder to beat). "decoder" keeps the decoder's, "soft_decoder" lets every row of it stray to a
    cosine of .8.
    lr, steps, warm_up, decay: the learning rate rises to `lr` over the first share of the steps and falls to 0 over the
    last; it is constant if `steps` is not given. Without `lr` it is the variant's own. clip: largest norm of all
    gradients together. dead_after: rows without firing after which a latent counts as dead. weight_decay: the loss
    gains half of it times |W_enc|² + |W_dec|² (2603.04198), which draws seeds together and lets latents collapse.
    """

    d_in: int
    width: int = 4096
    _: KW_ONLY
    seed: int = 0
    frozen: Literal["", "encoder", "decoder", "soft_decoder"] = ""
    lr: float | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    steps: int | None = None
    warm_up: float = 0.05
    decay: float = DECAY
    clip: float = 1.0
    dead_after: int = 200_000
    weight_decay: float = 0.0

    unit_decoder = True
    rate: ClassVar[float] = 4e-3  # the learning rate of at most WIDE latents; docs/dictionaries.md says what was tried
    sites: ClassVar[Literal["one", "pair", "joined"]] = "one"  # rows of one site, x and y of two, or both in one row

    def __post_init__(self) -> None:
        if self.width < 1:
            raise UserError(f"width={self.width} latents: give at least 1")
        if self.frozen not in FROZEN:
            raise unknown("frozen", self.frozen, FROZEN)
        self.step_ = 0
        self.buffers_: dict[str, Tensor] = {}

    def _widths(self) -> tuple[int, ...]:
        """Numbers of a row that belong to each site; every site has its own centre and scale."""
        return (self.d_in,)

    def _seeded(self, name: str) -> Tensor:
        """The random unit rows that parameter `name` starts from, and keeps where it is frozen."""
        return seeded_rows(self.width, self.d_in, self.seed)

    @abstractmethod
    def _parameters(self, x_nd: Tensor, centre_d: Tensor, rows_fd: Tensor) -> dict[str, Tensor]:
        """Parameters by name, from the first scaled rows, their geometric median and seeded random unit rows.

        What else the variant keeps (a threshold, a controller's state) goes into `buffers_`. With targets, rows and
        centre hold the targets' numbers behind the others, here and in `_step`.
        """

    @abstractmethod
    def _step(self, x_nd: Tensor) -> Step:
        """Losses and gradients of one batch of scaled rows; changes no parameter."""

    @abstractmethod
    def _dictionary(self) -> Dictionary:
        """The dictionary on scaled rows."""

    def fit(self, batches: Iterable[Tensor | tuple[Tensor, Tensor]]) -> Self:
        """Train on every batch of rows, or of rows and targets, in order."""
        for batch in batches:
            self.partial_fit(*batch if isinstance(batch, tuple) else (batch,))
        return self

    def start(self, x_nd: Tensor, y_nd: Tensor | None = None) -> None:
        """Draw the parameters, take centre and scale from these rows; the first `partial_fit` does it if nobody did."""
        x_nd = self._rows(x_nd, y_nd)
        _refuse_non_finite(x_nd, self.step_)
        centres, scales = zip(*(_centre_and_scale(part) for part in x_nd.split(self._widths(), dim=1)), strict=True)
        self.scales_ = scales
        rows = self._seeded("W_enc").to(x_nd.device)
        self.buffers_ = {}
        self.parameters_ = self._parameters(self._scaled(x_nd), torch.cat(centres), rows)
        self.unused_for_ = torch.zeros(self.width, dtype=torch.int64, device=x_nd.device)
        self._optimizer = self._new_optimizer()

    def partial_fit(self, x_nd: Tensor, y_nd: Tensor | None = None) -> dict[str, Tensor]:
        """One step on these rows (and targets, for a variant with `sites = "pair"`); losses by name, L0, dead latents.

        Rows with NaN or infinity stop the training and leave it as it was.
        """
        if not hasattr(self, "parameters_"):
            self.start(x_nd, y_nd)
        x_nd = self._rows(x_nd, y_nd)
        done = self._step(self._scaled(x_nd))
        if not math.isfinite(done.losses["fvu"]):
            _refuse_non_finite(x_nd, self.step_)
            raise self._diverged(f"the loss is {float(done.losses['fvu'])}")
        dead = self.dead_.sum()
        self._update(done.gradients)
        self.unused_for_ += len(x_nd)
        self.unused_for_[done.fired] = 0
        self.step_ += 1
        return done.losses | {"l0": done.l0, "dead": dead}

    def _diverged(self, why: str) -> UserError:
        return UserError(f"dictionary training diverged at step {self.step_}: {why}; lower lr={self.peak}")

    def _rows(self, x_nd: Tensor, y_nd: Tensor | None) -> Tensor:
        """Rows with their targets behind them; targets where none are wanted are refused, and the other way round."""
        if (y_nd is not None) != (self.sites == "pair"):
            takes = "rows and targets, partial_fit(x, y)" if self.sites == "pair" else "rows only, partial_fit(x)"
            raise UserError(f"{type(self).__name__} is fitted to {takes}")
        joined = x_nd if y_nd is None else torch.cat([x_nd, y_nd], dim=1)
        if joined.shape[1] != sum(self._widths()):
            raise UserError(f"{type(self).__name__} expects rows of {self._widths()} numbers, not {joined.shape[1]}")
        return joined

    def _scaled(self, x_nd: Tensor) -> Tensor:
        if len(self.scales_) == 1:
            return x_nd.float() * self.scale_
        parts = zip(x_nd.split(self._widths(), dim=1), self.scales_, strict=True)
        return torch.cat([part.float() * scale for part, scale in parts], dim=1)

    @property
    def scale_(self) -> float:
        """The factor of the rows (of the first site)."""
        return self.scales_[0]

    @property
    def scale_out_(self) -> float:
        """The factor of the targets (of the last site)."""
        return self.scales_[-1]

    @property
    def dead_(self) -> Tensor:
        """Mask (f) of the latents that count as dead."""
        return self.unused_for_ >= self.dead_after

    def encode(self, x_nd: Tensor) -> Tensor:
        """(n, width) latents of raw rows."""
        return self.dictionary().encode(x_nd)

    def decode(self, z_nf: Tensor) -> Tensor:
        """Rows from latents."""
        return self.dictionary().decode(z_nf)

    def fvu(self, x_nd: Tensor, y_nd: Tensor | None = None) -> float:
        """Fraction of variance unexplained on these rows, or of the targets."""
        return self.dictionary().fvu(x_nd, y_nd)

    def dictionary(self) -> Dictionary:
        """The dictionary so far, on raw rows."""
        scaled = self._dictionary()
        found = self._folded(scaled)
        seeded = self.frozen == "encoder" and found.W_enc is scaled.W_enc  # a folded factor makes it another matrix
        found.info.update(seed=self.seed, scale=self.scale_, frozen_encoder=seeded, frozen=self.frozen)
        return found

    def _with_rule(self, rule: Activation) -> Dictionary:
        """The dictionary of W_enc, b_enc, W_dec and b_dec as they are now: later steps do not change it."""
        W_enc, b_enc, W_dec, b_dec = (self.parameters_[name].clone() for name in ("W_enc", "b_enc", "W_dec", "b_dec"))
        return Dictionary(W_enc, b_enc, W_dec, b_dec, rule)

    def _folded(self, scaled: Dictionary) -> Dictionary:
        return scaled.folded(self.scale_)

    def state(self) -> dict[str, Tensor]:
        """Everything that training goes on from: parameters, Adam's moments, buffers, idle counters, step and scale."""
        tensors = {name: t for name, t in self.parameters_.items() if name not in FROZEN[self.frozen]}
        for name, parameter in self._trained().items():
            moments = self._optimizer.state[parameter]
            tensors |= {f"{name}.{key}": moments[key] for key in ("exp_avg", "exp_avg_sq") if key in moments}
        tensors |= {f"buffer.{name}": t for name, t in self.buffers_.items()}
        scale = torch.tensor(self.scales_, dtype=torch.float64)
        return tensors | {"unused_for": self.unused_for_, "step": torch.tensor(self.step_), "scale": scale}

    def load_state(self, tensors: dict[str, Tensor], device: str | torch.device = "cpu") -> Self:
        """Continue from `state()`: the next step equals, bit for bit, the one that an uninterrupted run would take."""
        tensors = {name: t.clone().to(device) for name, t in tensors.items()}
        self.unused_for_, self.step_ = tensors["unused_for"], int(tensors["step"])
        self.scales_ = tuple(tensors["scale"].flatten().tolist())
        buffers = {name.removeprefix("buffer."): t for name, t in tensors.items() if name.startswith("buffer.")}
        rest = {"unused_for", "step", "scale"}
        self.parameters_ = {name: t for name, t in tensors.items() if "." not in name and name not in rest}
        for name in FROZEN[self.frozen]:
            self.parameters_[name] = self._seeded(name).to(device)
        self.buffers_ = buffers
        self._optimizer = self._new_optimizer()
        for name, parameter in self._trained().items():
            moments = {key: tensors[f"{name}.{key}"] for key in ("exp_avg", "exp_avg_sq") if f"{name}.{key}" in tensors}
            if moments:
                self._optimizer.state[parameter] = {"step": torch.tensor(float(self.step_), device=device)} | moments
        return self

    def options(self) -> dict[str, Any]:
        """Every option by name, with the learning rate that is used where none was given."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"lr": self.peak}

    @property
    def peak(self) -> float:
        """The largest learning rate: `lr`, or the variant's own, over the root of the width where that is large.

        dictionary_learning and sparsify divide by the root at every width.
        """
        return self.rate * min(1.0, (WIDE / self.width) ** 0.5) if self.lr is None else self.lr

    @property
    def _unit_rows(self) -> bool:
        """Return whether decoder rows have norm 1: a soft-frozen decoder's cone is one of unit rows."""
        return self.unit_decoder or self.frozen == "soft_decoder"

    def learning_rate(self) -> float:
        """Linear warm-up, constant, linear decay to 0 over the last share of `steps`; constant if not given."""
        if self.steps is None:
            return self.peak
        left, warm, tail = self.steps - self.step_, self.warm_up * self.steps, self.decay * self.steps
        return self.peak * min(1.0, (self.step_ + 1) / max(warm, 1), max(left, 0) / max(tail, 1))

    def _trained(self) -> dict[str, Tensor]:
        return {name: t for name, t in self.parameters_.items() if name not in FROZEN[self.frozen]}

    def _new_optimizer(self) -> torch.optim.Optimizer:
        # eps of 2406.04093: gradients of a normalised loss over 4,096 latents are far below Adam's usual 1e-8
        return torch.optim.Adam(self._trained().values(), lr=self.peak, betas=self.betas, eps=6.25e-10, fused=True)

    def _update(self, gradients: dict[str, Tensor]) -> None:
        """One Adam step along clipped gradients, then the constraints."""
        trained = self._trained()
        # As a term of the loss, as published, and so through Adam: a latent with small gradients, rare or idle, shrinks
        # as fast as any other. Decoupled (AdamW) all would shrink at one rate. Rows of norm 1 lose nothing to it.
        for name in ("W_enc", "W_dec") if self.weight_decay else ():
            if name in trained:
                gradients[name] = gradients[name] + self.weight_decay * trained[name]
        gradients = {name: gradients[name] for name in trained}
        unit = {"W_dec": trained["W_dec"]} if self._unit_rows and "W_dec" in trained else {}
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate()
        norm, taken = adam.gradient_norm(gradients, unit)
        if not math.isfinite(norm):
            raise self._diverged(f"the gradients' norm is {norm}")
        adam.step(self._optimizer, trained, gradients, min(1.0, self.clip / norm) if norm else 1.0, taken)
        self._constrain()

    def _constrain(self) -> None:
        """Put the parameters back where they belong after an Adam step."""
        w = self._trained().get("W_dec")
        if w is None or not self._unit_rows:
            return
        adam.normalise_rows(w)
        if self.frozen == "soft_decoder":
            w.copy_(within_cone(w, self._seeded("W_dec").to(w.device), SOFT))


def check_k(k: int, width: int) -> None:
    """Refuse k active latents per row where there are not as many."""
    if not 1 <= k <= width:
        raise UserError(f"k={k} latents cannot be active at once: give a number from 1 to {width} (width)")


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


def _centre_and_scale(x_nd: Tensor) -> tuple[Tensor, float]:
    """The scaled geometric median, and the factor that makes the mean square distance from it 1."""
    median = geometric_median(x_nd)
    spread = float((x_nd.double() - median).square().sum(1).mean())
    if not spread > 0:
        raise UserError(f"all {len(x_nd)} rows a dictionary starts from are equal: there is nothing to learn")
    return (median * spread**-0.5).float(), spread**-0.5


def _refuse_non_finite(x_nd: Tensor, at_step: int) -> None:
    bad = int((~torch.isfinite(x_nd)).any(1).sum())
    if bad:
        raise UserError(
            f"dictionary training stopped at step {at_step}: {bad} of {len(x_nd)} rows hold NaN or infinity"
        )
