"""Single coordinates of a site as those of an intervention: neurons, or the columns of attention heads."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from theodolite.core.errors import UserError
from theodolite.core.latents import distinct_indices

if TYPE_CHECKING:
    from torch import Tensor


class Neurons:
    """Chosen coordinates of a site of `d_model` numbers, such as neurons at `mlp_act`, or the columns of heads at `z`.

    Heads are made by `model.network.heads(site, heads)`, which knows their columns.

    >>> Neurons([3, 7], 48)
    Neurons(2 of 48)
    """

    name = "neurons"
    is_constant = True

    def __init__(self, neurons: int | Iterable[int], d_model: int) -> None:
        self.d_model = d_model
        self.neurons = distinct_indices("neuron", neurons, d_model)
        self._columns: dict[Any, Tensor] = {}  # on each device, made once

    def encode(self, h: "Tensor") -> "Tensor":
        return h.index_select(-1, self._on(h))

    def decode(self, change: "Tensor") -> "Tensor":
        return change.new_zeros((*change.shape[:-1], self.d_model)).index_copy(-1, self._on(change), change)

    def _on(self, h: "Tensor") -> "Tensor":
        if h.device not in self._columns:
            import torch

            with torch.inference_mode(False):  # else a later pass with gradients could not use it
                self._columns[h.device] = torch.tensor(self.neurons, device=h.device)
        return self._columns[h.device]

    def to_json(self) -> dict[str, Any]:
        return {"basis": self.name, "neurons": self.neurons, "d_model": self.d_model}

    @classmethod
    def from_json(cls, form: dict[str, Any], dictionaries: Iterable[Any] = ()) -> "Neurons":
        """Return the basis that a JSON form describes."""
        width = form.get("d_model")
        if not isinstance(width, int) or isinstance(width, bool) or width < 1:
            raise UserError(f"d_model of neurons is {width!r}: give a whole number from 1 on")
        return cls(form.get("neurons", ()), width)

    def __repr__(self) -> str:
        return f"Neurons({len(self.neurons)} of {self.d_model})"
