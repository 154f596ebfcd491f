"""The command line of `theodolite compare`: every field of a `CompareRequest` as an option, under the same name."""

import shlex
import sys
from collections.abc import Iterator
from inspect import Parameter as Argument
from typing import Any

from theodolite.cli_options import arguments, with_options
from theodolite.core.discover import discover
from theodolite.study.compare_request import (
    AnalysisOptions,
    CompareRequest,
    DataOptions,
    ModelOptions,
    OutputOptions,
    SteeringOptions,
)
from theodolite.study.hardware import Machine

PANELS = {
    "Your data": DataOptions,
    "Model and dictionaries": ModelOptions,
    "Analysis": AnalysisOptions,
    "Steering": SteeringOptions,
    "Machine": Machine,
    "Output": OutputOptions,
}


def compare(data: str, **given: Any) -> None:
    """Put every method on the same rows and write a Run folder with one report page."""
    from theodolite.comparison import runner
    from theodolite.report import terminal

    asked = {name: value for name, value in given.items() if value is not None}
    with terminal.progress() as progress:
        request = CompareRequest(data, **asked, progress=progress, command=shlex.join(["theodolite", *sys.argv[1:]]))
        result = runner.compare(request)
    terminal.show(result)


def parameters() -> Iterator[Argument]:
    """The arguments of the command; the help of the methods lists those there are, by the names of their files."""
    # by their files alone: the module that makes controls of them costs torch, and one file is no method by itself
    controls = discover("theodolite.control.methods", "theodolite.controls", kind="method of control")
    named = ", ".join(name for name in controls if name != "reader_direction")
    known = f" Known: {', '.join(discover())}. Recipes of kind steer take linear readers, and: {named}."
    # of a flag, the default "False" says nothing
    return arguments(CompareRequest, PANELS, extra={"methods": known}, shown=str)


command = with_options(compare, parameters())
