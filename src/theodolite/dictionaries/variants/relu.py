"""ReLU dictionaries with an L1 penalty, the standard before TopK, and p-annealing (2408.00113)."""

from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.dictionaries.activations import ReluRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.ops.support import entries_above
from theodolite.dictionaries.training.learner import Step
from theodolite.dictionaries.training.sparsity import Penalised, linear_gradients

QUEUE = 10  # batches over which the penalties of the old and the new p are compared


@dataclass(eq=False)
class ReLU(Penalised):
    """All positive latents; the penalty is sum (z |W_dec row|)^p per row, with p = 1 (L1) unless annealed.

    p_end: p-annealing: p falls from 1 to this in `anneal_updates` equal steps, spread over the steps from the share
    `anneal_start` on. Each fall multiplies the coefficient by the ratio of the penalties under the old p and the new
    one, over the last 10 batches. unit_decoder: False leaves the norms of decoder rows free.

    >>> import torch
    >>> rows = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    >>> few, many = (ReLU(8, width=16, coefficient=c, lr=1e-2).fit([rows] * 50) for c in (0.3, 0.01))
    >>> bool((few.encode(rows) > 0).sum() < (many.encode(rows) > 0).sum())
    True
    """

    _: KW_ONLY
    unit_decoder: bool = True
    p_end: float = 1.0
    anneal_start: float = 0.5
    anneal_updates: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.p_end <= 1:
            raise UserError(
                f"p_end={self.p_end}: give a number above 0 (where the penalty has no gradient) and at most 1"
            )
        if self.p_end < 1 and not self._first_fall <= (self.steps or 0) - self.anneal_updates:
            raise UserError(
                f"p_end={self.p_end} needs steps, and at least {self.anneal_updates} (anneal_updates) after the share "
                f"anneal_start={self.anneal_start} of them; steps={self.steps}"
            )

    @property
    def _first_fall(self) -> int:
        return round(self.anneal_start * (self.steps or 0))

    def exponent(self, step: int) -> float:
        """p at a step.

        >>> annealed = ReLU(8, steps=100, p_end=0.2, anneal_updates=4)
        >>> [round(annealed.exponent(step), 3) for step in (0, 49, 50, 62, 63, 75, 99)]
        [1.0, 1.0, 0.8, 0.8, 0.6, 0.4, 0.2]
        """
        if self.p_end == 1 or self.steps is None or step < self._first_fall:
            return 1.0
        each = (self.steps - self._first_fall) / self.anneal_updates
        falls = min(int((step - self._first_fall) / each) + 1, self.anneal_updates)
        return 1.0 - falls * (1 - self.p_end) / self.anneal_updates

    def _parameters(self, x_nd: Tensor, centre_d: Tensor, rows_fd: Tensor) -> dict[str, Tensor]:
        self._start_penalty()
        if self.p_end < 1:
            self.buffers_["queue"] = torch.full((QUEUE, 2), torch.nan, dtype=torch.float64)
        return {"W_enc": rows_fd.clone(), "b_enc": rows_fd.new_zeros(self.width), "W_dec": rows_fd, "b_dec": centre_d}

    def _step(self, x_nd: Tensor) -> Step:
        w, n, p, weight = self.parameters_, len(x_nd), self.exponent(self.step_), self._weight()
        centred = x_nd - w["b_dec"]
        found = entries_above(centred, w["W_enc"], w["b_enc"], torch.zeros_like(w["b_enc"]))
        active, z = found.pre > 0, found.pre.relu()
        error = centred - found.decode(z, w["W_dec"])
        variance = (x_nd - x_nd.mean(0)).square().sum()
        g_hat = error * (-2 / variance)

        norm_f = torch.ones_like(w["b_enc"]) if self._unit_rows else w["W_dec"].norm(dim=1)
        norm = found.of(norm_f)
        scaled = torch.where(active, z * norm, 1.0)  # 1: no 0^(p-1) where nothing is active
        slope = scaled.pow(p - 1) * (weight * p / n) * active  # of the penalty, in z |W_dec row|
        g_pre = found.dots(g_hat, w["W_dec"]) * active + slope * norm
        g = linear_gradients(w, found, centred, z, g_hat, g_pre, self.frozen != "encoder")
        if not self._unit_rows:
            g["W_dec"] += w["W_dec"] * (found.per_latent(slope * z) / norm_f)[:, None]

        losses = {"fvu": error.square().sum() / variance, "sparsity": _power_mean(scaled, active, p, n)}
        if self.p_end < 1:
            losses["sparsity_next"] = _power_mean(scaled, active, self._next_exponent(), n)
        return Step(losses, g, found.fired(active), active.sum() / n)

    def _next_exponent(self) -> float:
        fall = (1 - self.p_end) / self.anneal_updates
        return max(self.exponent(self.step_) - fall, self.p_end)

    def _steer(self, losses: dict[str, Tensor]) -> None:
        super()._steer(losses)
        if self.p_end == 1:
            return
        pair = torch.stack([losses["sparsity"], losses["sparsity_next"]]).double().cpu()
        queue = torch.cat([self.buffers_["queue"][1:].cpu(), pair[None]])
        if self.exponent(self.step_) != self.exponent(self.step_ - 1):  # step_ is the next one already
            old, new = queue.nanmean(0).tolist()
            self.buffers_["coefficient"] *= old / new if new > 0 else 1.0
            queue = torch.full_like(queue, torch.nan)
        self.buffers_["queue"] = queue

    def _dictionary(self) -> Dictionary:
        return self._with_rule(ReluRule())


def _power_mean(scaled: Tensor, active: Tensor, p: float, n: int) -> Tensor:
    """Mean over rows of the sum of active values to the power p."""
    return (scaled.pow(p) * active).sum() / n
