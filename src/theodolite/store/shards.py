"""The bytes of one shard."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def serialised(tensors: Mapping[str, Any]) -> bytes:
    """Serialise tensors to bytes, the same for the same tensors; only bfloat16 needs torch."""
    if all(isinstance(tensor, np.ndarray) for tensor in tensors.values()):
        from safetensors.numpy import save as save_numpy

        return save_numpy({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def nonfinite_rows(tensors: Mapping[str, Any]) -> dict[str, int]:
    """Return how many rows of each tensor hold a NaN or an infinity; integers hold none."""
    found = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, np.ndarray):
            finite = np.isfinite(tensor) if tensor.dtype.kind == "f" else np.ones(len(tensor), bool)
        else:
            finite = tensor.isfinite()
        found[name] = int((~finite.reshape(len(tensor), -1).all(1)).sum()) if len(tensor) else 0
    return found
