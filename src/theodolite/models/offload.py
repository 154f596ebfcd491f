"""Weights that accelerate keeps away from their module: in main memory beside an accelerator, or on disk."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from theodolite.core.errors import UserError


def values(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer once with its numbers, in the order of the modules; read from where they lie.

    An offloaded part stands in its module as a tensor of torch's `meta` device, which has a shape and no numbers; one
    part at a time is fetched.

    >>> [name for name, _ in values(nn.Linear(2, 2))]
    ['weight', 'bias']
    """
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        yield name, present(module, name, tensor)


def present(module: nn.Module, name: str, tensor: Tensor) -> Tensor:
    """The tensor itself, or its numbers where it is offloaded."""
    return fetched(module, name) if tensor.is_meta else tensor


def fetched(module: nn.Module, name: str) -> Tensor:
    """The numbers of an offloaded tensor, by the name of its place in the module."""
    home, _, last = name.rpartition(".")
    for hook in _hooks(module.get_submodule(home)):
        held: Any = getattr(hook, "weights_map", None)
        if held is None:
            continue
        try:
            return torch.as_tensor(held[last])
        except KeyError:
            continue
    raise UserError(
        f"weights {name!r} lie on torch's meta device and nothing holds their numbers, so the model is offloaded in a "
        "way that is unknown here: load it by its name or folder with device_map="
    )


def _hooks(part: nn.Module) -> tuple[Any, ...]:
    """The hooks of accelerate on one module, which chains several into one."""
    hook = getattr(part, "_hf_hook", None)
    return tuple(getattr(hook, "hooks", (hook,)))


def places(module: nn.Module) -> dict[str, int]:
    """Bytes of weights by where they lie: each device, and "offloaded" for those fetched at every pass.

    >>> places(nn.Linear(3, 1, bias=False))
    {'cpu': 12}
    """
    found: dict[str, int] = {}
    for tensor in [*module.parameters(), *module.buffers()]:
        where = "offloaded" if tensor.is_meta else str(tensor.device)
        found[where] = found.get(where, 0) + tensor.numel() * tensor.element_size()
    return found


def entrance(module: Any) -> torch.device:
    """The device on which a model takes token ids, also where its embedding is offloaded."""
    part = module.get_input_embeddings()
    if not part.weight.is_meta:
        return torch.device(part.weight.device)
    for hook in _hooks(part):
        device: Any = getattr(hook, "execution_device", None)
        if device is not None:
            return torch.device(device)
    raise UserError("the input embedding is offloaded and says no device to run on: keep it on one in device_map=")


def device_types(module: Any) -> set[str]:
    """Types of the devices that compute: those of the weights, and the one that offloaded parts are fetched to.

    >>> device_types(nn.Linear(2, 2))
    {'cpu'}
    """
    types = {str(tensor.device.type) for tensor in module.parameters()}
    return types - {"meta"} | ({entrance(module).type} if types == {"meta"} else set())
