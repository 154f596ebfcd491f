"""Vectors by layer number, as other programs keep them, as a control of ours."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from theodolite.core.control_file import ControlFile, MadeOn
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.site import Site

Counted = Literal["blocks", "hidden_states"]
UNKNOWN = "unknown"  # the architecture of a model that a file does not name
DEEPEST, WIDEST = 2**12, 2**20  # block numbers, and numbers in one vector


def by_layer(
    layers: Mapping[int, Any],
    *,
    concept: str,
    method: str,
    architecture: str = UNKNOWN,
    counted: Counted = "blocks",
    part: str = "resid_post",
    origin: str = "these vectors",
) -> ControlFile:
    """Return the control that adds each vector (d) at its layer; strength 1 adds them as they are.

    counted: layer N is the output of block N (`blocks`, as in repeng, llama.cpp and steering-vectors), or entry N of
    transformers' `hidden_states`, which is the output of block N - 1.

    >>> kept = by_layer({12: [3.0, 4.0]}, concept="joy", method="repeng", counted="hidden_states")
    >>> kept.sites, kept.at(2.0)[0].rule
    ([Site(block=11, part='resid_post')], Add(strength=10.0))
    """
    vectors = {_number(layer, origin): _vector(layer, value, origin) for layer, value in layers.items()}
    if not vectors:
        raise UserError(f"{origin}: there is no vector")
    widths = {len(vector) for vector in vectors.values()}
    if len(widths) > 1:
        raise UserError(f"{origin}: vectors have {sorted(widths)} numbers, one model has one width")
    changes = []
    for layer, vector in sorted(vectors.items()):
        length = float(np.linalg.norm(vector.astype(np.float64)))
        site = Site(layer - 1, "resid_post") if counted == "hidden_states" else Site(layer, part)
        changes.append(Intervention.add(site, vector / length, length).to_json())
    return ControlFile(
        concept, method, MadeOn(name="", architecture=architecture, d_model=widths.pop()), tuple(changes)
    )


def _number(layer: Any, origin: str) -> int:
    if isinstance(layer, bool) or not isinstance(layer, int | np.integer) or not 0 <= layer <= DEEPEST:
        raise UserError(f"{origin}: {layer!r:.40} is no number of a layer from 0 on")
    return int(layer)


def _vector(layer: int, value: Any, origin: str) -> np.ndarray:
    """Return one vector (d) in float32; NaN and zeros are refused."""
    from theodolite.core.tensors import detached

    vector = np.asarray(detached(value), np.float32)
    if vector.ndim != 1 or not 0 < len(vector) <= WIDEST:
        raise UserError(f"{origin}: the vector of layer {layer} has shape {vector.shape}, give one row of numbers")
    if not np.isfinite(vector).all() or not vector.any():
        raise UserError(f"{origin}: the vector of layer {layer} holds NaN or infinite numbers, or nothing but zeros")
    return vector
