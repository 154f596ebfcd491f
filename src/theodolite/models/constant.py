"""Gradients by what a caller gave to a pass, with the weights of the network as constants."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from theodolite.models.families import Network


def gradients(network: Network, wanted: bool) -> AbstractContextManager[Any]:
    """Return a context that records gradients with the weights as constants, or one that records none."""
    return weights_constant(network) if wanted else torch.no_grad()


@contextmanager
def weights_constant(network: Network) -> Iterator[None]:
    """Record gradients inside, of all but the parameters; these are as they were afterwards.

    No activation is kept for the sake of a weight. The network's lock is held, since `requires_grad` is everyone's.
    """
    with network.lock:
        trained = [p for p in network.module.parameters() if p.requires_grad]
        try:
            for parameter in trained:
                parameter.requires_grad_(False)
            with torch.enable_grad():
                yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)
