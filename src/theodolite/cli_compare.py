"""The command line of `theodolite compare`: every field of a `CompareRequest` as an option, under the same name."""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from inspect import Parameter as Argument
from inspect import Signature
from typing import Annotated, Any

from cyclopts import Group, Parameter

from theodolite.core.discover import discover
from theodolite.study.compare_request import (
    AnalysisOptions,
    CompareRequest,
    DataOptions,
    ModelOptions,
    OutputOptions,
)
from theodolite.study.hardware import Machine
from theodolite.study.option import OPTION, Option

PANELS = {
    "Your data": DataOptions,
    "Model and dictionaries": ModelOptions,
    "Analysis": AnalysisOptions,
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
    """Yield one argument per field that the command line can set, with its type, flags, help panel and help."""
    panels = [(Group(title, sort_key=at), cls) for at, (title, cls) in enumerate(PANELS.items())]
    home = {each.name: group for group, cls in panels for each in fields(cls)}
    for each in fields(CompareRequest):
        option: Option = each.metadata[OPTION]
        if option.cli is None:
            continue
        how = Parameter(
            name=option.names or None,
            help=_help(each, option),
            group=home.get(each.name, panels[0][0]),
            consume_multiple=option.many,
            show_default=isinstance(each.default, str),  # of a flag, "False" says nothing
        )
        written = each.type if option.cli is ... else option.cli
        required = each.default is MISSING
        yield Argument(
            each.name,
            Argument.POSITIONAL_OR_KEYWORD if required else Argument.KEYWORD_ONLY,
            default=Argument.empty if required else None if option.many else each.default,
            annotation=Annotated[list[written] | None if option.many else written, how],  # type: ignore[valid-type]
        )


def _help(each: "Field[Any]", option: Option) -> str:
    """Return the help of a field; the help of `methods` also lists the known ones."""
    return option.help + (f" Known: {', '.join(discover())}." if each.name == "methods" else "")


def with_options() -> Any:
    """Return the command, with the fields of a request as its options."""
    arguments = sorted(parameters(), key=lambda each: each.kind)  # the one without a flag first
    shown: Any = compare
    shown.__signature__ = Signature(arguments, return_annotation=None)
    shown.__annotations__ = {each.name: each.annotation for each in arguments} | {"return": None}
    return shown


command = with_options()
