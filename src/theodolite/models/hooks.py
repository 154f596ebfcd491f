"""The only place that hooks into a model: attach, check that every site was reached, always detach."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from theodolite.core.errors import UserError
from theodolite.core.site import Site
from theodolite.models.families import Network

Visit = Callable[[Site, Tensor], Tensor]


class Reached(Exception):
    """Raised by a visitor to end the forward pass: everything asked for has been seen."""


@contextmanager
def attached(network: Network, sites: Iterable[Site], visit: Visit) -> Iterator[None]:
    """Call `visit(site, h)` whenever a site is reached and let the pass go on with the tensor it returns.

    `Reached` ends the block quietly. The hooks are gone afterwards, whatever happened. A site that the pass never
    reached is an error. The network's lock is held meanwhile, so that no other thread's pass meets these hooks.
    """
    seen: list[Site] = []

    def visited(site: Site, h: Tensor) -> Tensor:
        seen.append(site)  # a list: to hash a site takes longer, and happens at every site in each step of a generation
        return visit(site, h)

    wanted, handles = list(sites), []
    with network.lock:
        try:
            for site in wanted:
                handles.append(_hook(network, site, visited))  # noqa: PERF401 (all made so far must be removable)
            with suppress(Reached):
                yield
            if seen != wanted and (missed := [str(site) for site in wanted if site not in seen]):
                raise UserError(f"the forward pass never reached {', '.join(missed)}")
        finally:
            for handle in handles:
                handle.remove()


def _hook(network: Network, site: Site, visit: Visit) -> Any:
    module, side = network.locate(site)
    if (columns := network.columns(site)) is not None:
        return module.register_forward_hook(_some_columns(site, visit, columns))
    if site.part == "logits":
        return module.register_forward_hook(_logits(site, visit))
    if site.part == "resid_mid":
        return module.register_forward_pre_hook(_in_place(site, visit))
    if side == "input":
        return module.register_forward_pre_hook(_before(site, visit), with_kwargs=True)
    return module.register_forward_hook(_after(site, visit))


def _after(site: Site, visit: Visit) -> Callable:
    """Hook on a module's output, the first item where it returns several."""

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return visit(site, output)
        return (visit(site, output[0]), *output[1:])

    return hook


def _logits(site: Site, visit: Visit) -> Callable:
    """Hook on what the whole model returns, which has more in it than logits."""

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        output.logits = visit(site, output.logits)
        return output

    return hook


def _some_columns(site: Site, visit: Visit, columns: list[int]) -> Callable:
    """Hook on some columns of a module's output, as where q, k and v come from one projection."""

    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        where = torch.tensor(columns, device=output.device)
        return output.index_copy(-1, where, visit(site, output.index_select(-1, where)))

    return hook


def _before(site: Site, visit: Visit) -> Callable:
    """Hook on the input of a block or of a projection."""

    def hook(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        if args:
            return (visit(site, args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": visit(site, kwargs["hidden_states"])}

    return hook


def _in_place(site: Site, visit: Visit) -> Callable:
    """Hook on the stream between attention and MLP.

    The block hands the same tensor to the norm and to the skip connection around the MLP; replacing the norm's input
    would leave the skip as it was. A change is therefore copied into the tensor that both hold. It is the fresh
    result of an addition, which autograd does not need again; with gradients the visitor gets a copy, and what it
    returns becomes the stream, so that the captured tensor is upstream of the loss.
    """

    def hook(module: nn.Module, args: tuple) -> None:
        stream = args[0]
        old = stream.clone() if torch.is_grad_enabled() else stream
        new = visit(site, old)
        if new is not stream:
            stream.copy_(new)

    return hook
