"""Stops at logits that are NaN or infinite, with the intervention that made them so."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from theodolite.core.errors import UserError

if TYPE_CHECKING:
    from theodolite.models.run import Effects


def check_finite(logits: Tensor, effects: "Effects", rerun: Callable[["Effects"], Any]) -> None:
    """Refuse logits that hold NaN or infinite numbers; `rerun` runs the pass once more, to find the cause.

    One sum tells, at the cost of reading the logits once: it is finite unless one of them is not, or they are so large
    that their sum overflows, which the second look excludes.
    """
    total = logits.detach().sum(dtype=torch.promote_types(logits.dtype, torch.float32))
    if math.isfinite(float(total)) or bool(logits.isfinite().all()):
        return
    watched = effects.watched()
    with torch.no_grad():
        rerun(watched)
    raise UserError(f"the logits hold NaN or infinite numbers: {cause(watched)}")


def cause(watched: "Effects") -> str:
    """Return which of the watched interventions is the cause, and the largest norm of a state that it made."""
    norms = watched.norms or {}
    in_order = sorted(norms, key=lambda number: watched.interventions[number].site)
    for number in in_order:
        before, after = norms[number]
        intervention = watched.interventions[number]
        if not math.isfinite(before):
            return f"the states that {intervention} was given are so already; look at the model's weights and dtype"
        if not math.isfinite(after):
            return f"{intervention} made states that are not finite, where norms were up to {before:.3g}{_WAY_OUT}"
    if not in_order:
        return f"{watched.order} is the only change of the pass; look at the model's weights and dtype"
    worst = max(in_order, key=lambda number: norms[number][1])
    before, after = norms[worst]
    intervention = watched.interventions[worst]
    return f"{intervention} made states with norms of up to {after:.3g}, where they were up to {before:.3g}{_WAY_OUT}"


_WAY_OUT = "; give a smaller strength, or load the model with dtype='float32'"
