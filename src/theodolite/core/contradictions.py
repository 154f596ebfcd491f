"""Interventions of one pass that cannot all hold: two values for one coordinate, or an edit inside a skipped block."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from theodolite.core.basis import Identity, Subspace
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.latents import LatentBasis
from theodolite.core.neurons import Neurons
from theodolite.core.rules import Clamp, Patch
from theodolite.core.site import Site
from theodolite.core.tensors import detached, is_tensor


def check_together(interventions: Sequence[Intervention]) -> None:
    """Refuse two interventions that set one coordinate to other values, and one inside a block that another skips."""
    setting = [change for change in interventions if isinstance(change.rule, Clamp) and change.when is None]
    for one, other in combinations(setting, 2):
        if one.site != other.site or str(one.positions) != str(other.positions) or one.read_site != other.read_site:
            continue
        first, second = _values(one), _values(other)
        for coordinate in first.keys() & second.keys():
            if not np.isclose(first[coordinate], second[coordinate], rtol=1e-5, atol=1e-6):
                raise UserError(
                    f"{one} and {other} set the same coordinate to other values, so that the first would be undone: "
                    "give one of them, or other positions"
                )
    for skip in filter(_is_skip, interventions):
        for change in _inside(skip, interventions):
            raise UserError(
                f"{change} acts inside block {skip.site.block}, which {skip} skips on the same tokens: it would be "
                "lost; give one of them, or other positions"
            )


def _values(clamp: Intervention) -> dict[Any, float]:
    """Return what a clamp sets, by coordinate; empty where the values differ by text or may be written into."""
    basis, value = clamp.basis, clamp.rule.value  # type: ignore[attr-defined]
    if is_tensor(value) or np.ndim(value) > 1:
        return {}
    if isinstance(basis, Neurons | LatentBasis):
        chosen = basis.neurons if isinstance(basis, Neurons) else basis.latents
        whose = "neuron" if isinstance(basis, Neurons) else id(basis.dictionary)
        values = np.broadcast_to(detached(value), len(chosen)) if np.size(value) in (1, len(chosen)) else ()
        return {(whose, index): float(v) for index, v in zip(chosen, values, strict=False)}
    if not isinstance(basis, Subspace) or not basis.is_constant or len(basis.write_kd) != 1 or np.size(value) != 1:
        return {}
    write, read = basis.write_kd[0], basis.read_kd[0]
    # v and -2 v name one coordinate: in the units of the unit vector whose largest number is positive
    length = float(np.linalg.norm(write)) * np.sign(write[np.abs(write).argmax()])
    key = _rounded(write / length) + _rounded(read * length)
    return {key: float(np.reshape(detached(value), -1)[0]) * length}


def _rounded(vector: np.ndarray) -> bytes:
    return (np.round(vector, 5) + 0.0).tobytes()  # -0.0 has other bytes than 0.0


def _is_skip(change: Intervention) -> bool:
    """Return whether this is `Intervention.skip` of a block."""
    source = change.rule.source if isinstance(change.rule, Patch) else None
    ends = change.site.part == "resid_post" and isinstance(source, Site)
    return (
        ends
        and source == Site(change.site.block, "resid_pre")
        and isinstance(change.basis, Identity)
        and change.when is None
    )


def _inside(skip: Intervention, interventions: Sequence[Intervention]) -> Iterable[Intervention]:
    """Yield the interventions between the ends of a skipped block on tokens that are all skipped."""
    for change in interventions:
        within = change.site.block == skip.site.block and change.site.part not in ("resid_pre", "resid_post")
        # what attention reads of a token reaches other tokens, which a skip on these alone leaves in
        alone = change.site.part not in ("attn_in", "k", "v") and str(skip.positions) == str(change.positions)
        if within and (alone or str(skip.positions) == "all"):
            yield change
