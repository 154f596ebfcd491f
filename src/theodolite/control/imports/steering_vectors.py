"""Vectors of the package steering-vectors as controls of ours.

The package has no file format: its `SteeringVector` is a dictionary from layer numbers to tensors, with the name of the
part of a block, which its users save as they like. What is read here is the object itself, or a safetensors
file whose names are the layer numbers.
"""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from theodolite.control.imports.control_vector import refuse_pickle
from theodolite.control.imports.layers import Counted, by_layer
from theodolite.core.control_file import LARGEST, MOST, ControlFile
from theodolite.core.errors import UserError

# What each kind of layer is here, where the module's output is what the stream receives or holds. Its two norms are no
# places that one vector can be added to in every family.
PARTS = {"decoder_block": "resid_post", "self_attn": "attn_out", "mlp": "mlp_out"}


def from_steering_vector(vector: Any, concept: str) -> ControlFile:
    """Return the control of a `SteeringVector`: layer N is added to what block N (or its attention or MLP) gives.

    Strength is its `multiplier`; it acts on all tokens, as with `min_token_index=0`. In a family whose attention or MLP
    has a norm behind it, as in Gemma 2, only vectors of whole blocks mean the same here.
    """
    kind, layers = str(getattr(vector, "layer_type", "decoder_block")), getattr(vector, "layer_activations", None)
    if not isinstance(layers, dict):
        raise UserError(f"{type(vector).__name__} has no layer_activations: give a SteeringVector")
    if kind not in PARTS:
        raise UserError(f"a vector of layer type {kind!r} has no site here: {', '.join(PARTS)} have")
    return by_layer(layers, concept=concept, method="steering_vectors", part=PARTS[kind], origin="the SteeringVector")


def open_layers(path: str | Path, concept: str, counted: Counted = "blocks") -> ControlFile:
    """Read a safetensors file with a vector under each layer number: "12" or "layers.12"."""
    path = Path(path)
    refuse_pickle(path)
    if not path.is_file():
        raise UserError(f"no file {str(path)!r}")
    if path.stat().st_size > LARGEST:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes, no vectors have more than {LARGEST:,}")
    try:
        with safe_open(path, "pt") as opened:  # bfloat16 is none of numpy's types
            names = list(opened.keys())
            if len(names) > MOST:
                raise UserError(f"{path} has {len(names):,} tensors: too many")
            found = {name: opened.get_tensor(name).float().numpy() for name in names}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    layers: dict[int, np.ndarray] = {}
    for name, array in found.items():
        number = name.removeprefix("layers.")
        if not number.isdecimal() or len(number) > 4 or int(number) in layers:
            raise UserError(f"{path}: {name!r:.60} is no layer number, or one that stands twice")
        layers[int(number)] = array
    return by_layer(layers, concept=concept, method="steering_vectors", counted=counted, origin=str(path))
