"""Base of the variants with a sparsity penalty: its coefficient, warm-up, and steering to an L0."""

from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.dictionaries.ops.support import Support
from theodolite.dictionaries.training.learner import Learner

# A coefficient that has to keep moving, because p falls or because it overshot, trails by its speed / GAIN: at 1/30,
# without TREND, annealed ReLUs ended 6 to 23 % below their target in 600 steps. TREND is what allows more: at lr 4e-4
# the L0 answers late, and without it swung by 40 % at 1/10 already.
GAIN = 1 / 8  # ln of the change of the coefficient per step and ln(L0 / target); at 1/6 it ended 9 % off (L1, lr 3e-3)
TREND = 2.0  # the same per change of ln(L0 / target) since the last step; at 4 the L0 is slow to arrive
FAR = 0.3  # where both stop growing


@dataclass(eq=False)
class Penalised(Learner):
    """Loss = error's share of the variance + coefficient * penalty, the penalty a mean over the batch's rows.

    target_l0: the coefficient is steered until this many latents are active per row: each step multiplies it by
    (L0 / target)^(1/8) (L0 / L0 of the last step)^2, both ratios kept within e^±.3. None leaves it where it is.
    sparsity_warm_up: share of the steps over which it rises from 0; nothing is steered meanwhile.
    """

    _: KW_ONLY
    coefficient: float | None = 0.03
    target_l0: float | None = None
    sparsity_warm_up: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coefficient is not None and not self.coefficient > 0:
            raise UserError(f"coefficient={self.coefficient}: the weight of the sparsity penalty must be above 0")
        if self.target_l0 is not None and not 0 < self.target_l0 <= self.width:
            raise UserError(f"target_l0={self.target_l0}: give a number above 0 and at most {self.width} (width)")

    def partial_fit(self, x_nd: Tensor, y_nd: Tensor | None = None) -> dict[str, Tensor]:
        losses = super().partial_fit(x_nd, y_nd)
        self._steer(losses)
        return losses

    def _start_penalty(self) -> None:
        """Put the coefficient where training keeps it; `_parameters` calls this."""
        self.buffers_["coefficient"] = torch.tensor(self._first_coefficient(), dtype=torch.float64)

    def _first_coefficient(self) -> float:
        assert self.coefficient is not None, "a variant that allows None says what it means"
        return self.coefficient

    def _weight(self) -> float:
        """The penalty's coefficient at this step."""
        return float(self.buffers_["coefficient"]) * self._ramp()

    def _ramp(self) -> float:
        rise = self.sparsity_warm_up * (self.steps or 0)
        return min(1.0, (self.step_ + 1) / max(rise, 1))

    def _steer(self, losses: dict[str, Tensor]) -> None:
        """Change the coefficient after a step that went well."""
        if self.target_l0 is None or self._ramp() < 1:
            return
        off = torch.tensor(float(losses["l0"]) / self.target_l0, dtype=torch.float64).clamp_min(1e-9).log()
        trend = off - self.buffers_.get("off", off).to(off)
        self.buffers_["coefficient"] *= (GAIN * off.clamp(-FAR, FAR) + TREND * trend.clamp(-FAR, FAR)).exp()
        self.buffers_["off"] = off


def linear_gradients(
    w: dict[str, Tensor], found: Support, centred: Tensor, z: Tensor, g_hat: Tensor, g_pre: Tensor, train_encoder: bool
) -> dict[str, Tensor]:
    """Gradients of W_enc, b_enc, W_dec and b_dec, from those of x̂ and of the pre-activations W_enc (x - b_dec) + b_enc.

    z and g_pre are entries of `found`.
    """
    g = {"b_enc": found.per_latent(g_pre), "W_dec": found.by_latent(z, g_hat)}
    if train_encoder:
        g["W_enc"] = found.by_latent(g_pre, centred)
    g["b_dec"] = g_hat.sum(0) - g["b_enc"] @ w["W_enc"]
    return g
