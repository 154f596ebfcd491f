"""Compare what probes, RepE directions, SAE latents and text baselines read of a concept in a language model.

>>> import theodolite
>>> run = theodolite.compare("harmful-intent")            # doctest: +SKIP
>>> run.table()                                           # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Intervention",
    "Model",
    "Positions",
    "Recipe",
    "Result",
    "Site",
    "UserError",
    "compare",
    "open_reader",
    "open_run",
]

if TYPE_CHECKING:
    from theodolite.comparison.reading import open_reader
    from theodolite.comparison.runner import compare
    from theodolite.core.errors import UserError
    from theodolite.core.intervention import Intervention
    from theodolite.core.positions import Positions
    from theodolite.core.recipe import Recipe
    from theodolite.core.site import Site
    from theodolite.models.model import Model
    from theodolite.report.result import Result, open_run

_HOMES = {
    "Intervention": "core.intervention",
    "Model": "models.model",
    "Positions": "core.positions",
    "Recipe": "core.recipe",
    "Result": "report.result",
    "Site": "core.site",
    "UserError": "core.errors",
    "compare": "comparison.runner",
    "open_reader": "comparison.reading",
    "open_run": "report.result",
}


def __getattr__(name: str) -> Any:
    """Public names load on first use, so that importing the package costs neither torch nor transformers."""
    if name not in _HOMES:
        raise AttributeError(f"module 'theodolite' has no attribute {name!r}")
    return getattr(import_module(f"theodolite.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
