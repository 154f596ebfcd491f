"""Calls on all cores or on another engine, and the `Map` of each engine by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from theodolite.core.parallel import Map, Processes, serial
from theodolite.core.tick import Tick
from theodolite.study.hardware import EngineName


@dataclass(frozen=True)
class Call:
    """A call for a worker; its `str` is its first argument, such as the job that is fitted."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __str__(self) -> str:
        return str(self.args[0] if self.args else self.function.__name__)


def engine_map(engine: EngineName) -> Map | None:
    """Return the `Map` of an engine; None for `auto`, where each stage chooses.

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
    """Return the results of calls in the order they finish; by default on all cores, one thread each.

    work: calls as `joblib.delayed` makes them. total: all calls; those that are not in `work` are done already.
    map: does the work elsewhere (see `engine_map`).
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
