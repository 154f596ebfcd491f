"""Compare what probes, RepE directions, SAE latents and text baselines read of a concept in a language model.

>>> import theodolite
>>> run = theodolite.compare("harmful-intent")            # doctest: +SKIP
>>> run.table()                                           # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Activations",
    "CompareRequest",
    "Condition",
    "ControlFile",
    "Decoding",
    "Generation",
    "Intervention",
    "LatentBasis",
    "Model",
    "Positions",
    "Reader",
    "Recipe",
    "Result",
    "Run",
    "Site",
    "SteerRequest",
    "Steered",
    "Trace",
    "UserError",
    "claims",
    "compare",
    "load_dictionary",
    "open_reader",
    "open_run",
    "steer",
]

if TYPE_CHECKING:
    from theodolite.comparison.reading import open_reader
    from theodolite.comparison.runner import compare
    from theodolite.control.steer_request import SteerRequest
    from theodolite.control.steering import Steered, steer
    from theodolite.core.activations import Activations
    from theodolite.core.condition import Condition
    from theodolite.core.control_file import ControlFile
    from theodolite.core.errors import UserError
    from theodolite.core.intervention import Intervention
    from theodolite.core.latents import LatentBasis
    from theodolite.core.positions import Positions
    from theodolite.core.reader import Reader
    from theodolite.core.recipe import Recipe
    from theodolite.core.run import Run
    from theodolite.core.site import Site
    from theodolite.dictionaries.load import load_dictionary
    from theodolite.models.generate import Decoding, Generation
    from theodolite.models.model import Model
    from theodolite.models.run import Trace
    from theodolite.report.result import Result, open_run
    from theodolite.study.claims import claims
    from theodolite.study.compare_request import CompareRequest

_HOMES = {
    "Activations": "core.activations",
    "CompareRequest": "study.compare_request",
    "Condition": "core.condition",
    "ControlFile": "core.control_file",
    "Decoding": "models.generate",
    "Generation": "models.generate",
    "Intervention": "core.intervention",
    "LatentBasis": "core.latents",
    "Model": "models.model",
    "Positions": "core.positions",
    "Reader": "core.reader",
    "Recipe": "core.recipe",
    "Result": "report.result",
    "Run": "core.run",
    "Site": "core.site",
    "SteerRequest": "control.steer_request",
    "Steered": "control.steering",
    "Trace": "models.run",
    "UserError": "core.errors",
    "claims": "study.claims",
    "compare": "comparison.runner",
    "load_dictionary": "dictionaries.load",
    "open_reader": "comparison.reading",
    "open_run": "report.result",
    "steer": "control.steering",
}


def __getattr__(name: str) -> Any:
    """Public names load on first use, so that importing the package costs neither torch nor transformers."""
    if name not in _HOMES:
        raise AttributeError(f"module 'theodolite' has no attribute {name!r}")
    return getattr(import_module(f"theodolite.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
