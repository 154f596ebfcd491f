"""JumpReLU dictionaries (2407.14435): a threshold per latent, learnt through straight-through estimators."""

from dataclasses import KW_ONLY, dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from theodolite.core.errors import UserError, unknown
from theodolite.dictionaries.activations import JumpReluRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.ops.support import entries_above
from theodolite.dictionaries.training.learner import Step
from theodolite.dictionaries.training.sparsity import Penalised, linear_gradients

PENALTIES = ("step", "tanh", "target")


class _Settings(NamedTuple):
    """Values of the fields, or those of the papers where a field is None, in units of the scaled rows."""

    coefficient: float
    bandwidth: float
    threshold: float
    tanh_scale: float
    ste_to_input: bool


class _Penalty(NamedTuple):
    value: Tensor
    to_step: Tensor | float  # gradient with respect to the step H(pre - threshold) of every entry
    to_scaled: Tensor | float  # gradient with respect to z |W_dec row| of every entry


@dataclass(eq=False)
class JumpReLU(Penalised):
    """Latents above their threshold θ, in full: z = pre 1[pre > θ], with pre = W_enc (x - b_dec) + b_enc.

    penalty: "target" is (L0 / target_l0 - 1)² of the batch's mean L0, at a fixed coefficient (2407.14435, appendix);
    "step" is L0 (2407.14435) and "tanh" is sum tanh(tanh_scale z |W_dec row|) (Anthropic, January 2025), both steered
    by the coefficient if there is a target_l0. Steps have no gradient; in its place θ gets -(θ g_z + g_H) / bandwidth
    from the entries within half a bandwidth of it, g_z and g_H being the gradients with respect to z and to the step
    H(pre - θ). The step looks at pre, never at z: after the jump nothing lies just below the threshold. ste_to_input:
    pre gets the opposite of that gradient.

    Numbers are in units of the scaled rows, whose mean square is 1; bandwidths and thresholds for rows of norm sqrt(d)
    are to be divided by sqrt(d), a tanh_scale multiplied. None stands for DeepMind's values (bandwidth and first
    threshold .001, θ alone gets the estimate), with "tanh" for Anthropic's (2 / sqrt(d), .1 / sqrt(d), 4 sqrt(d), pre
    gets it too); the coefficient is 1 for "target" and .001 to begin with for the others. θ is kept at 0 or above and
    trained as it is, in float32: at Adam's step size a logarithm hardly leaves a small start.

    pre_act: weight of Anthropic's loss sum relu(θ - pre) |W_dec row|, here on dead latents only, to bring them back.

    >>> import torch
    >>> rows = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    >>> fitted = JumpReLU(8, width=16, target_l0=4, bandwidth=0.05, lr=1e-2).fit([rows] * 200)
    >>> 3.5 < float((fitted.encode(rows) > 0).sum(1).float().mean()) < 4.5
    True
    """

    _: KW_ONLY
    coefficient: float | None = None
    target_l0: float | None = 32
    betas: tuple[float, float] = (0.0, 0.999)  # 2407.14435: the estimates are noise, and momentum keeps it
    penalty: Literal["step", "tanh", "target"] = "target"
    bandwidth: float | None = None
    threshold: float | None = None
    tanh_scale: float | None = None
    ste_to_input: bool | None = None
    pre_act: float = 0.0
    unit_decoder: bool = True

    rate = 2e-3  # at 4e-3 the error is 3 % lower after 468 steps, but 4 % of 2,048 latents fall out of use

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.penalty not in PENALTIES:
            raise unknown("penalty", self.penalty, PENALTIES)
        if self.penalty == "target" and self.target_l0 is None:
            raise UserError('penalty="target" pulls L0 to target_l0: give target_l0')
        use = self._settings
        if not use.bandwidth > 0 or use.threshold < 0:
            raise UserError(
                f"bandwidth={use.bandwidth}, threshold={use.threshold}: give a bandwidth above 0 and a threshold of at "
                "least 0"
            )

    @property
    def _settings(self) -> _Settings:
        root = self.d_in**0.5
        if self.penalty == "tanh":
            published = _Settings(1e-3, 2 / root, 0.1 / root, 4 * root, True)
        else:
            published = _Settings(1.0 if self.penalty == "target" else 1e-3, 1e-3, 1e-3, 0.0, False)
        given = {name: value for name in _Settings._fields if (value := getattr(self, name)) is not None}
        return published._replace(**given)

    def _first_coefficient(self) -> float:
        return self._settings.coefficient

    def _parameters(self, x_nd: Tensor, centre_d: Tensor, rows_fd: Tensor) -> dict[str, Tensor]:
        self._start_penalty()
        threshold = rows_fd.new_full((self.width,), self._settings.threshold)
        b_enc = rows_fd.new_zeros(self.width)
        return {"W_enc": rows_fd.clone(), "b_enc": b_enc, "threshold": threshold, "W_dec": rows_fd, "b_dec": centre_d}

    def _step(self, x_nd: Tensor) -> Step:
        w, n, width = self.parameters_, len(x_nd), self._settings.bandwidth
        centred = x_nd - w["b_dec"]
        # Half a bandwidth below the threshold: an inactive entry that lies so near still sends it a gradient.
        found = entries_above(centred, w["W_enc"], w["b_enc"], w["threshold"] - width / 2)
        theta = found.of(w["threshold"])
        active, near = found.pre > theta, (found.pre - theta).abs() < width / 2
        z = found.pre * active
        error = centred - found.decode(z, w["W_dec"])  # b_dec cancels: x and x̂ both hold it
        # The loss is the error's share of the batch's variance (FVU), so that a coefficient means the same at any site.
        variance = (x_nd - x_nd.mean(0)).square().sum()
        g_hat = error * (-2 / variance)

        # The tanh penalty weighs what a latent writes, z |W_dec row|: small z with long rows would else escape it.
        norm_f = torch.ones_like(w["b_enc"]) if self._unit_rows else w["W_dec"].norm(dim=1)
        norm, l0 = found.of(norm_f), active.sum().to(z.dtype) / n
        penalty = self._penalty(z * norm, l0, n)
        g_z = found.dots(g_hat, w["W_dec"]) + penalty.to_scaled * norm
        # The pseudo-derivatives of 2407.14435, with a rectangle of width `bandwidth` as kernel K: dz/dθ = -θ K / width
        # and dH/dθ = -K / width. `jump` is minus the gradient of θ: moving pre up or θ down is one and the same.
        jump = (theta * g_z + penalty.to_step) * near / width
        # Above the threshold dz/dpre = 1. Only Anthropic lets the jump's estimate reach the encoder too.
        g_pre = g_z * active + jump if self._settings.ste_to_input else g_z * active
        g = linear_gradients(w, found, centred, z, g_hat, g_pre, self.frozen != "encoder")
        g["threshold"] = -found.per_latent(jump)
        if not self._unit_rows:  # d |w| / dw = w / |w|: the penalty's part through the rows' norms
            g["W_dec"] += w["W_dec"] * (found.per_latent(penalty.to_scaled * z) / norm_f)[:, None]
        losses = {"fvu": error.square().sum() / variance, "sparsity": penalty.value}
        if self.pre_act:
            losses["pre_act"] = self._revive(g, centred, norm_f)
        return Step(losses, g, found.fired(active), l0)

    def _penalty(self, scaled: Tensor, l0: Tensor, n: int) -> _Penalty:
        """Return the unweighted penalty and its weighted gradients."""
        weight, steepness = self._weight(), self._settings.tanh_scale
        if self.penalty == "tanh":
            bent = (steepness * scaled).tanh()  # an L0 with slopes: near 1 for large z, whose gradient then vanishes
            return _Penalty(bent.sum() / n, 0.0, (1 - bent.square()) * (weight * steepness / n))
        if self.penalty == "step":
            return _Penalty(l0, weight / n, 0.0)
        assert self.target_l0 is not None
        off = l0 / self.target_l0 - 1  # its square has a slope on both sides, so L0 is pulled up as well as down
        return _Penalty(off.square(), 2 * weight * off / (self.target_l0 * n), 0.0)

    def _revive(self, g: dict[str, Tensor], centred: Tensor, norm_f: Tensor) -> Tensor:
        """Add the gradients of the pre-activation loss on dead latents; return the unweighted loss."""
        w, dead = self.parameters_, self.dead_.nonzero().squeeze(1)
        if not len(dead):
            return centred.new_zeros(())
        # Dead latents alone: on live ones this loss would pull at every row on which they are rightly silent. Their
        # products are worked out anew, because `entries_above` keeps only those near or above a threshold.
        below = (w["threshold"][dead] - torch.addmm(w["b_enc"][dead], centred, w["W_enc"][dead].T)).relu()
        weight = self.pre_act / len(centred)
        g_pre = (below > 0) * norm_f[dead] * -weight
        g["threshold"][dead] -= g_pre.sum(0)
        g["b_enc"][dead] += g_pre.sum(0)
        g["b_dec"] -= g_pre.sum(0) @ w["W_enc"][dead]
        if "W_enc" in g:
            g["W_enc"][dead] += g_pre.T @ centred
        if not self._unit_rows:
            g["W_dec"][dead] += w["W_dec"][dead] * (below.sum(0) * weight / norm_f[dead])[:, None]
        return (below * norm_f[dead]).sum() / len(centred)

    def _steer(self, losses: dict[str, Tensor]) -> None:
        if self.penalty != "target":
            super()._steer(losses)

    def _constrain(self) -> None:
        super()._constrain()
        self.parameters_["threshold"].clamp_(min=0)

    def _dictionary(self) -> Dictionary:
        return self._with_rule(JumpReluRule(self.parameters_["threshold"].clone()))
