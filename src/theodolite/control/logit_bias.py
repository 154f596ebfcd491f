"""A bias of the logits as a control: the simple baseline, which changes no state of the model."""

import math
from dataclasses import dataclass

import numpy as np

from theodolite.control.control import check_strength
from theodolite.control.policy import Intervened
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.site import Site
from theodolite.models.model import Model


@dataclass(frozen=True, eq=False)
class LogitBiasControl:
    """logits + strength * bias at every token, bias (vocabulary) in nats; it has no cap, and no state is changed."""

    model: Model
    method: str
    bias: np.ndarray
    site: Site | None = None
    cap: float = math.inf
    has_dial: bool = True

    def __post_init__(self) -> None:
        bias = np.asarray(self.bias, np.float32)
        if bias.ndim != 1 or not np.isfinite(bias).all() or not bias.any():
            raise UserError(f"{self.method}: the bias has shape {bias.shape}; give one finite number for each token")
        object.__setattr__(self, "bias", bias)

    def at(self, strength: float) -> Intervened:
        """Return the model with that share of the bias; a strength that is NaN is an error."""
        if not check_strength(self, strength):
            return Intervened(self.model)
        return Intervened(self.model, (Intervention.add("logits", self.bias, float(strength)),))
