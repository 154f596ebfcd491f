"""Numbers that are an array or a torch tensor: a tensor keeps its gradient on the way into a forward pass."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def is_tensor(value: Any) -> bool:
    """Return whether a value is a torch tensor, without importing torch."""
    return hasattr(value, "detach")


def detached(value: Any) -> np.ndarray:
    """Return numbers as a NumPy array; of a tensor its values as they are now, without the gradient.

    >>> detached([1.0, 2.0]).tolist()
    [1.0, 2.0]
    """
    if not is_tensor(value):
        return np.asarray(value)
    values = value.detach().cpu()
    return (values.float() if values.is_floating_point() and values.dtype.itemsize < 4 else values).numpy()


def like(value: Any, reference: "Tensor") -> "Tensor":
    """Return numbers in the dtype and on the device of a tensor; what is a tensor already keeps its gradient."""
    return value.to(reference) if is_tensor(value) else reference.new_tensor(value)
