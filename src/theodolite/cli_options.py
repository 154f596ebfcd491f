"""Options of a command from the fields of its request, which declare types, flags and help once."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from inspect import Parameter as Argument
from inspect import Signature
from types import UnionType
from typing import Annotated, Any

from cyclopts import Group, Parameter

from theodolite.study.option import OPTION, Option

Many = Annotated[list[str] | None, Parameter(consume_multiple=True)]


def arguments(
    request: type, panels: Mapping[str, type], *, extra: Mapping[str, str], shown: type | UnionType
) -> Iterator[Argument]:
    """One argument per field that the command line can give, with its type, flags, panel and help.

    panels: a title by the part of the request whose fields stand under it. extra: words behind the help of a field.
    shown: types of the defaults that the help names.
    """
    grouped = [(Group(title, sort_key=at), cls) for at, (title, cls) in enumerate(panels.items())]
    field_of = {name: each.name for each in fields(request) for name in each.metadata[OPTION].names}
    home = {each.name: group for group, cls in grouped for each in fields(cls)}
    for each in fields(request):
        option: Option = each.metadata[OPTION]
        if option.cli is None:
            continue
        written = each.type if option.cli is ... else option.cli
        required = each.default is MISSING
        default = Argument.empty if required else None if option.many else each.default
        given: dict[str, Any] = {"group": home.get(each.name, grouped[0][0])} if grouped else {}
        if written == bool | None:  # a flag that is neither on nor off by itself can be turned off
            given["negative"] = f"--no-{each.name.replace('_', '-')}"
        how = Parameter(
            name=option.names or None,
            help=option.help + extra.get(each.name, ""),
            consume_multiple=option.many,
            show_default=isinstance(default, shown),
            **given,
        )
        # an argument without a flag has its own name as one, unless that is another field's flag
        taken = field_of.get(f"--{each.name}", each.name) != each.name
        placed = Argument.POSITIONAL_ONLY if taken else Argument.POSITIONAL_OR_KEYWORD
        yield Argument(
            each.name,
            Argument.KEYWORD_ONLY if each.kw_only else placed,
            default=default,
            annotation=Annotated[list[written] | None if option.many else written, how],  # type: ignore[valid-type]
        )


def with_options(command: Any, arguments: Iterator[Argument]) -> Any:
    """The command with these options, as its signature then says."""
    ordered = sorted(arguments, key=lambda each: each.kind)  # the one without a flag first
    command.__signature__ = Signature(ordered, return_annotation=None)
    command.__annotations__ = {each.name: each.annotation for each in ordered} | {"return": None}
    return command
