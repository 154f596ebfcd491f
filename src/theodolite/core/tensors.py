"""Numbers given as an array or as a torch tensor, which keeps its gradient on the way into a forward pass."""

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
    if isinstance(value, Constant):
        return value.array
    if not is_tensor(value):
        return np.asarray(value)
    values = value.detach().cpu()
    return (values.float() if values.is_floating_point() and values.dtype.itemsize < 4 else values).numpy()


def like(value: Any, reference: "Tensor") -> "Tensor":
    """Return numbers in the dtype and on the device of a reference tensor; a tensor keeps its gradient."""
    if isinstance(value, Constant):
        return value.like(reference)
    return value.to(reference) if is_tensor(value) else reference.new_tensor(value)


class Constant:
    """Numbers that never change; their tensor is made once for each device and dtype.

    The array is a read-only copy, so a tensor made from it stays correct in all threads.

    >>> import torch
    >>> numbers = Constant([1.0, 2.0])
    >>> numbers.like(torch.zeros(1)) is numbers.like(torch.ones(3))
    True
    """

    def __init__(self, values: Any, dtype: Any = None) -> None:
        self.array = np.array(values, dtype)
        self.array.setflags(write=False)
        self._made: dict[Any, Tensor] = {}

    def like(self, reference: "Tensor") -> "Tensor":
        """Return the numbers in the dtype and on the device of a tensor."""
        key = reference.device, reference.dtype
        made = self._made.get(key)
        if made is None:
            import torch

            with torch.inference_mode(
                False
            ):  # a tensor made in inference mode could not be used in a later pass with gradients
                made = self._made[key] = torch.tensor(self.array, dtype=reference.dtype, device=reference.device)
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {"array": self.array, "_made": {}}  # another process has devices of its own
