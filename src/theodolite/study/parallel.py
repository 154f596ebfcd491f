"""Fits and other calls on all cores, or on another engine, by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from theodolite.core.parallel import Map, Processes, serial
from theodolite.core.tick import Tick
from theodolite.study.hardware import EngineName


@dataclass(frozen=True)
class Call:
    """One call for a worker; named by its first argument, such as the job that is fitted."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __str__(self) -> str:
        return str(self.args[0] if self.args else self.function.__name__)


def engine_map(engine: EngineName) -> Map | None:
    """Return what does the work for an engine; None for `auto`, where each stage chooses.

    Raises a UserError where `ray` is not installed.

    >>> engine_map("auto") is None
    True
    """
    if engine == "ray":
        from theodolite.study.ray_engine import OnRay

        return OnRay()
    maps: dict[str, Map | None] = {"auto": None, "serial": serial, "processes": Processes()}
    return maps[engine]


def in_parallel(
    work: Sequence[Any],
    total: int,
    tick: Tick,
    map: Map | None = None,  # noqa: A002 (the name of this seam)
) -> list[Any]:
    """Return the results of joblib's delayed calls in the order they finish; on all cores, one thread each.

    Of `total`, all but these are done already. `map` does them elsewhere (see `engine_map`).
    """
    found: list[Any] = []
    tick(total - len(work), total)
    for result in (map or Processes())(_caller, [Call(*call) for call in work]):
        found.append(result)
        tick(total - len(work) + len(found), total)
    return found


def _caller() -> Callable[[Call], Any]:
    return _called


def _called(call: Call) -> Any:
    return call.function(*call.args, **call.kwargs)
