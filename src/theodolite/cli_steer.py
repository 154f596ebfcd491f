"""The command line of `theodolite steer`: every field of a `SteerRequest` as an option, under the same name."""

from typing import Any

from theodolite.cli_options import arguments, with_options
from theodolite.control.steer_request import SteerRequest


def steer(prompt: str, toward: str, **given: Any) -> None:
    """Continue a prompt twice: with the model as it is, and pushed towards a concept at a matched disturbance."""
    from theodolite.control import steering
    from theodolite.report import side_by_side, terminal

    asked = {name: value for name, value in given.items() if value is not None}
    request = SteerRequest(prompt, toward, **asked)
    with side_by_side.columns() as columns:
        found = steering.steer(request, stream=columns)
    side_by_side.show(found)
    if request.save is not None:
        terminal.say([f"wrote {found.save(request.save)}"])


command = with_options(steer, arguments(SteerRequest, {}, extra={}, shown=str | int | float))
