"""GGUF control vectors of repeng and llama.cpp as controls of ours."""

import re
from pathlib import Path

import numpy as np

from theodolite.control.imports.layers import UNKNOWN, by_layer
from theodolite.core.control_file import LARGEST, MOST, ControlFile
from theodolite.core.errors import UserError

_DIRECTION = re.compile(r"direction\.(\d{1,4})")
_PICKLED = (".pt", ".pth", ".pkl", ".bin")


def open_control_vector(path: str | Path) -> ControlFile:
    """Read a GGUF control vector: `direction.N` is added behind block N, and strength 1 is its own scale.

    repeng takes the vector from entry N + 1 of `hidden_states` and llama.cpp adds it to what block N gives: both are
    blocks.N.resid_post. Another kind of GGUF file, other tensors, NaN and layer 0 (which llama.cpp refuses) are errors.
    """
    path = Path(path)
    refuse_pickle(path)
    if not path.is_file():
        raise UserError(f"no control vector {str(path)!r}")
    if path.stat().st_size > LARGEST:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes, no control vector has more than {LARGEST:,}")
    architecture, layers = _read(path)
    if 0 in layers:
        raise UserError(f"{path} has a direction of layer 0, where llama.cpp has none: which site it is, nobody knows")
    return by_layer(layers, concept=path.stem[:1000], method="gguf", architecture=architecture, origin=str(path))


def refuse_pickle(path: Path) -> None:
    """Refuse a pickled file, which may run code when it is opened."""
    if path.suffix in _PICKLED:
        raise UserError(
            f"{str(path)!r} is pickled, and opening it may run code of its maker: where it was made, save it with "
            "safetensors.torch.save_file({str(layer): vector, ...}), or export it as .gguf"
        )


def _read(path: Path) -> tuple[str, dict[int, np.ndarray]]:
    from gguf import GGMLQuantizationType, GGUFReader

    with path.open("rb") as handle:
        if handle.read(4) != b"GGUF":
            raise UserError(f"{path} is not a GGUF file")
    try:
        reader = GGUFReader(path)
        named = {key: reader.get_field(key) for key in ("general.architecture", "controlvector.model_hint")}
        kind, hint = (str(found.contents()) if found else "" for found in named.values())
        tensors = list(reader.tensors)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, UnicodeDecodeError, MemoryError) as error:
        raise UserError(f"{path} is not a whole GGUF file: {error}") from None
    if kind != "controlvector":
        raise UserError(f"{path} is a GGUF file of kind {kind!r:.40}, not a control vector")
    if len(tensors) > MOST:
        raise UserError(f"{path} has {len(tensors):,} tensors: too many")
    layers: dict[int, np.ndarray] = {}
    for tensor in tensors:
        found = _DIRECTION.fullmatch(tensor.name)
        if found is None or tensor.tensor_type != GGMLQuantizationType.F32:
            raise UserError(f"{path}: tensor {tensor.name!r:.60} is no direction.N in F32")
        if int(found[1]) in layers:
            raise UserError(f"{path}: layer {int(found[1])} stands twice")
        layers[int(found[1])] = np.array(tensor.data, np.float32)
    return hint[:1000] or UNKNOWN, layers
