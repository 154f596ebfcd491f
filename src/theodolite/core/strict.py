"""YAML into frozen values without unknown fields; what is wrong is said field by field, in one line."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from theodolite.core import safe_yaml
from theodolite.core.errors import UserError


class Strict(BaseModel):
    """A frozen value that refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Value = TypeVar("Value", bound=BaseModel)


def parsed(cls: type[Value], text: str, origin: str) -> Value:
    """A value from YAML text; `origin` says in errors what the text is.

    >>> class Point(Strict):
    ...     x: int
    >>> parsed(Point, "x: 3", "point 'p'")
    Point(x=3)
    """
    return validated(cls, safe_yaml.load(text, origin), origin)


def validated(cls: type[Value], fields: Any, origin: str) -> Value:
    """A value from its fields; every problem is named with its place and, where it is short, the value found."""
    try:
        return cls.model_validate(fields)
    except ValidationError as error:
        raise UserError(f"{origin}: {'; '.join(map(_problem, error.errors()))}") from None


def _problem(error: Any) -> str:
    found = error["input"]
    got = f" (got {found!r})" if isinstance(found, int | float) or (isinstance(found, str) and len(found) < 60) else ""
    place = ".".join(map(str, error["loc"])) + ": " if error["loc"] else ""
    return f"{place}{error['msg'].removeprefix('Value error, ')}{got}"
