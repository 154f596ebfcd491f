"""A rank-1 edit of the state as a control: what rank-1 ReFT learns, with its strength left open."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from theodolite.control.control import check_strength
from theodolite.control.policy import Intervened
from theodolite.core.basis import Direction
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.positions import Positions
from theodolite.core.rules import Add, Scale
from theodolite.core.site import Site
from theodolite.models.model import Model

CAP = 10.0  # edits as they were learnt


@dataclass(frozen=True, eq=False)
class RankOneControl:
    """h + strength * r (w.h + b - r.h) at a site, r (d) of length 1, w (d); strength 1 is the edit as it was learnt.

    >>> from theodolite.toys.tiny_models import byte_tokenizer, tiny_model
    >>> model = Model(tiny_model(), byte_tokenizer())
    >>> r, w = np.eye(32)[0], np.eye(32)[1]
    >>> RankOneControl(model, "reft", "blocks.1.resid_post", r, w, 0.5).at(0.0).interventions
    ()
    """

    model: Model
    method: str
    site: Site
    write: np.ndarray
    read: np.ndarray
    bias: float
    cap: float = CAP
    positions: Positions = field(default_factory=lambda: Positions("all"))
    has_dial: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "site", self.model.site(self.site))
        object.__setattr__(self, "positions", Positions.parse(self.positions))
        write, read = (np.asarray(vector, np.float32) for vector in (self.write, self.read))
        length = float(np.linalg.norm(write))
        if write.ndim != 1 or write.shape != read.shape or not math.isclose(length, 1, abs_tol=1e-4):
            raise UserError(
                f"a rank-1 edit writes along a vector of length 1, not {write.shape} of length {length:.4g}"
            )
        if not (np.isfinite(read).all() and math.isfinite(self.bias)):
            raise UserError(f"{self.method}: the learnt edit holds NaN or infinity: train it with a smaller rate")
        object.__setattr__(self, "write", write)
        object.__setattr__(self, "read", read)

    def at(self, strength: float) -> Intervened:
        """Return the model with that share of the edit; one that is NaN or beyond the cap is an error."""
        if not check_strength(self, strength):
            return Intervened(self.model)
        edit = rank_one_edit(self.site, self.positions, (self.write, self.read, self.bias), float(strength))
        return Intervened(self.model, edit)


def rank_one_edit(
    site: Site, positions: Positions, values: tuple[Any, Any, Any], strength: float
) -> tuple[Intervention, ...]:
    """Return the edit by r, w and b (arrays, or tensors with a gradient) as two interventions, which act in this order.

    In the coordinate z = (w - r).h the part that depends on h multiplies z by 1 + strength; the part that does not is
    added behind it, since it must not be multiplied too. w may not equal r.
    """
    write, read, bias = values
    scaled = Intervention(site, Scale(1 + strength), Direction(write, read=read - write), positions)
    return scaled, Intervention(site, Add(strength * bias), Direction(write), positions)
