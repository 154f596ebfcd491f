"""A method in words: `k_sparse(k=16)@latents` is the file `readers/k_sparse.py` with k=16 on the view latents."""

import ast
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theodolite.core.discover import discover, load_file, name_of
from theodolite.core.errors import UserError, unknown
from theodolite.core.reader import VIEWS, Reader

_SPEC = re.compile(r"(?P<name>[^()@]+)(?:\((?P<params>.*)\))?(?:@(?P<view>[\w+]+))?")
_FILE = re.compile(r"(?P<path>.+\.py)(?::\w+)?")
_FIXED_VIEWS = ("text", "answer")  # their readers read nothing else, and nothing else reads them


@dataclass(frozen=True)
class Method:
    """A reader's class with the parameters that the recipe fixes and the view that it is given."""

    spec: str
    name: str
    cls: type[Reader]
    params: dict[str, Any]
    view: str

    def reader(self, seed: int = 0) -> Reader:
        """A fresh, unfitted reader; one that has a `seed` of its own and was given none gets this one."""
        seeded = {"seed": seed} if "seed" in _parameters(self.cls) else {}
        return self.cls(**{**seeded, **self.params})

    def __str__(self) -> str:
        return self.spec


def parse(spec: str, registry: Mapping[str, type] | None = None) -> Method:
    """Read `name`, `name(param=value, ...)`, `name@view` or all three; `file.py:Class` may stand for the name.

    >>> method = parse("k_sparse(k=16)@control")
    >>> method.name, method.params, method.view
    ('k_sparse', {'k': 16}, 'control')
    >>> parse("prompting( column = few_shot )").spec
    'prompting(column=few_shot)'
    """
    word, params, asked = split(spec)
    name, cls = _class(word, registry)
    check_known(params, cls, name)
    view = _view(cls, asked, name)
    canonical = written(name, params) + (f"@{view}" if view != cls.view else "")
    return Method(canonical, name, cls, params, view)


def split(spec: str, kind: str = "method") -> tuple[str, dict[str, Any], str | None]:
    """Name, keyword arguments and view of a spec; `kind` is what an error calls it.

    >>> split("topk(k=16)", "dictionary")
    ('topk', {'k': 16}, None)
    """
    match = _SPEC.fullmatch(spec.strip())
    if match is None:
        views = " or name(param=value)@view" if kind == "method" else ""
        raise UserError(f"cannot read {kind} {spec!r}: write name{',' if views else ' or'} name(param=value){views}")
    return match["name"].strip(), _params(match["params"] or "", spec, kind), match["view"]


def check_known(params: Mapping[str, Any], cls: type, name: str) -> None:
    """Refuse a parameter that the class does not take, with the nearest one that it does."""
    for param in params:
        if param not in _parameters(cls):
            raise unknown(f"parameter of {name}", param, _parameters(cls))


def written(name: str, params: Mapping[str, Any]) -> str:
    """The spec of a name and its parameters.

    >>> written("k_sparse", {"k": 4, "column": "few_shot"})
    'k_sparse(k=4, column=few_shot)'
    """
    inside = ", ".join(f"{k}={v if isinstance(v, str) and v.isidentifier() else repr(v)}" for k, v in params.items())
    return name + (f"({inside})" if inside else "")


def file_of(spec: str) -> Path | None:
    """The file of a method of the user's own, with or without `:Class`; None for a method by name.

    >>> file_of("lab/mine.py:Mine(k=3)@latents"), file_of("logistic@latents")
    (PosixPath('lab/mine.py'), None)
    """
    match = _SPEC.fullmatch(spec.strip())
    found = _FILE.fullmatch(match["name"].strip()) if match else None
    return Path(found["path"]) if found else None


def is_file(spec: str) -> bool:
    """Return whether a method is given as a file."""
    return file_of(spec) is not None


def _class(name: str, registry: Mapping[str, type] | None) -> tuple[str, type[Reader]]:
    if is_file(name):
        cls = load_file(name)
        name = name_of(cls)
    else:
        cls = (discover() if registry is None else registry)[name]
    if not issubclass(cls, Reader):
        raise UserError(f"method {name!r}: {cls.__name__} must subclass theodolite.core.reader.Reader")
    return name, cls


def _params(text: str, spec: str, kind: str) -> dict[str, Any]:
    """Keyword arguments: numbers, strings, None and so on, and bare words as strings; never code."""
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        assert isinstance(call, ast.Call)
        if call.args or any(k.arg is None for k in call.keywords):
            raise ValueError
        return {
            str(k.arg): k.value.id if isinstance(k.value, ast.Name) else ast.literal_eval(k.value)
            for k in call.keywords
        }
    except (SyntaxError, ValueError):
        raise UserError(f"cannot read the parameters of {kind} {spec!r}: write name(param=value, ...)") from None


def _parameters(cls: type) -> list[str]:
    return [name for name in inspect.signature(cls).parameters if name != "self"]


def _view(cls: type[Reader], asked: str | None, name: str) -> str:
    view = asked or cls.view
    if view not in VIEWS:
        raise unknown("view", view, VIEWS)
    if view != cls.view and (view in _FIXED_VIEWS or cls.view in _FIXED_VIEWS):
        raise UserError(f"method {name!r} reads the view {cls.view!r}, it cannot read {view!r}")
    return view
