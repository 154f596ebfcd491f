"""The part of a control that other programs can do: one vector added after some modules, at every token."""

from collections.abc import Mapping

import numpy as np

from theodolite.core.control_file import ControlFile
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.rules import Add
from theodolite.core.site import AtSites, Site


def added_vectors(control: ControlFile, strength: float, format: str) -> Mapping[Site, np.ndarray]:
    """Return the vector (d) that a control adds at each site at a strength; anything else is refused by name.

    format: the program that could not do it, for the error. Vectors at one site are added up.

    >>> from theodolite.core.control_file import MadeOn
    >>> made_on = MadeOn(name="mine", architecture="llama", d_model=2)
    >>> change = Intervention.add("blocks.3.resid_post", [0.0, 1.0]).to_json()
    >>> added_vectors(ControlFile("joy", "lat", made_on, (change,)), 2.5, "a hook")["blocks.3.resid_post"].tolist()
    [0.0, 2.5]
    """
    if any(change["basis"].get("basis") == "latents" for change in control.changes):
        raise UserError(f"{format} cannot hold latents of a dictionary (control {control.concept!r}): only `add`")
    if strength == 0:
        raise UserError("strength 0 changes nothing: there is no control to write")
    found: AtSites[np.ndarray] = AtSites()
    for change in control.at(strength):
        vector = _vector(change, format)
        found[change.site] = found[change.site] + vector if change.site in found else vector
    return found


def _vector(change: Intervention, format: str) -> np.ndarray:
    """Return what one intervention adds to every token, whatever stands there."""
    rule = type(change.rule).__name__.lower()
    if not isinstance(change.rule, Add):
        raise UserError(f"{format} cannot hold the rule {rule!r} at {str(change.site)!r}: only `add`")
    if change.basis.d_model is None or np.ndim(change.rule.strength) > 1:
        raise UserError(f"{format} cannot hold {change}: give a direction, and one strength for all texts")
    if str(change.positions) != "all":
        raise UserError(f"{format} cannot hold positions {str(change.positions)!r}: it acts on all tokens")
    for modifier, there in (("keep_norm", change.keep_norm), ("a condition", change.when is not None)):
        if there:
            raise UserError(f"{format} cannot hold {modifier}: it adds the same vector everywhere")
    import torch

    # a strength that is one number counts for each coordinate
    coordinates = torch.zeros_like(change.basis.encode(torch.zeros(change.basis.d_model)))
    return change.basis.decode(coordinates + torch.as_tensor(change.rule.strength)).float().numpy()
