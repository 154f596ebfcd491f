"""The code that a forward pass runs, as one digest: a patched class, function or attention is another model.

Read anew at every call, in about 20 ms, since a patch leaves no trace elsewhere. Counted are all methods of the classes
of a network's modules, the functions of the Python modules that define them, the attention and mask functions
registered under the configured name, `torch.nn.functional`, and what all of these call by a global name or hold in a
closure. Not seen: kernels of torch, methods of objects that a pass makes for itself, and the library that fetches
files, whose globals change with every first request, login and setting such as HF_HUB_OFFLINE.
"""

import hashlib
import sys
from collections.abc import Iterator
from functools import lru_cache, partial
from importlib.metadata import version
from platform import python_version
from types import CodeType, FunctionType, MethodType
from typing import Any

import torch
from torch import nn

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_LIBRARIES = ("torch", "transformers")
_FETCHES = "huggingface_hub"  # takes no part in a pass
_ATTENTION = "_attn_implementation"


def code_digest(module: nn.Module) -> str:
    """sha256 of the code of a pass, and after a space the versions that bytecode differs between.

    >>> from theodolite.toys.tiny_models import tiny_model
    >>> code_digest(tiny_model()) == code_digest(tiny_model(seed=1)) != code_digest(tiny_model("gpt2"))
    True
    """
    walk = _Walk()
    kinds = sorted({type(part) for part in module.modules()}, key=_name)
    classes = {base for kind in kinds for base in kind.__mro__ if base is not object}
    for base in sorted(classes, key=_name):
        walk.members(_name(base), vars(base))
    for home in sorted({kind.__module__ for kind in kinds if not _is_of(kind.__module__, "torch")}):
        walk.members(home, {k: v for k, v in vars(sys.modules[home]).items() if not isinstance(v, type)})
    walk.members("torch.nn.functional", vars(nn.functional))
    for name in sorted({str(name) for part in module.modules() if (name := _attention(part))}):
        for registry in _registries():
            walk.visit(f"{type(registry).__name__}[{name}]", registry.get(name))
    versions = f"python-{python_version()} torch-{torch.__version__} transformers-{version('transformers')}"
    return f"{hashlib.sha256(chr(10).join(walk.lines).encode()).hexdigest()} {versions}"


def same_code(then: str, now: str) -> bool:
    """Whether two digests of code agree, or cannot be compared because Python or a library is another version.

    >>> same_code("ab python-3.12", "cd python-3.12"), same_code("ab python-3.12", "cd python-3.13")
    (False, True)
    """
    return then == now or then.partition(" ")[2] != now.partition(" ")[2]


class _Walk:
    """Lines about the functions met so far; one that is met again counts by its number."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._met: dict[int, int] = {}

    def members(self, home: str, names: Any) -> None:
        """All functions among the members of a class or module."""
        for name, value in sorted(names.items()):
            for function in _functions(value):
                self.visit(f"{home}.{name}", function)

    def visit(self, label: str, value: Any) -> None:
        """One function with all it calls; anything else by its type."""
        functions = [f for f in _functions(value) if not _is_of(f.__module__, _FETCHES)]
        if not functions:
            self.lines.append(f"{label} {type(value).__qualname__} {getattr(value, '__qualname__', '')}")
        for function in functions:
            if id(function) in self._met:
                self.lines.append(f"{label} {self._met[id(function)]}")
                continue
            self._met[id(function)] = len(self._met)
            self.lines.append(f"{label} {_code_line(function.__code__)} {_plain(function)}")
            self._called(label, function)

    def _called(self, label: str, function: FunctionType) -> None:
        free = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        held = [(name, _content(cell)) for name, cell in free]
        foreign = not any(_is_of(function.__module__, library) for library in _LIBRARIES)
        if not _is_of(function.__module__, "torch"):
            names = sorted(_names(function.__code__) & function.__globals__.keys())
            held += [(name, function.__globals__[name]) for name in names]
        for name, value in held:
            if list(_functions(value)):
                self.visit(f"{label}:{name}", value)
            elif foreign and isinstance(value, _PLAIN):
                self.lines.append(f"{label}:{name} {value!r}")


def _functions(value: Any) -> Iterator[FunctionType]:
    """The Python functions that something callable runs."""
    if isinstance(value, property):
        yield from (f for f in (value.fget, value.fset) if isinstance(f, FunctionType))
    elif isinstance(value, partial):
        yield from _functions(value.func)
    elif isinstance(value, staticmethod | classmethod | MethodType):
        yield from _functions(value.__func__)
    elif isinstance(value, FunctionType):
        yield value
    elif isinstance(inner := getattr(value, "__wrapped__", None), FunctionType) and not isinstance(value, type):
        yield inner  # behind a cache of functools


@lru_cache(maxsize=16384)
def _code_line(code: CodeType) -> str:
    """Everything of compiled code, which never changes, that decides what it does; no file, no line numbers."""
    constants = [_code_line(c) if isinstance(c, CodeType) else _value(c) for c in code.co_consts]
    names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
    whole = repr([code.co_code, code.co_argcount, code.co_kwonlyargcount, code.co_flags, names, constants])
    return hashlib.sha256(whole.encode()).hexdigest()


def _plain(function: FunctionType) -> list[str]:
    """Default arguments: plain ones by their value, others by their type."""
    named = sorted((function.__kwdefaults__ or {}).items())
    return [_value(value) for value in (*(function.__defaults__ or ()), *named)]


def _value(value: Any) -> str:
    """A constant in words that are the same in every process: no address, no order of a set."""
    if isinstance(value, tuple | frozenset):
        inner = list(map(_value, value))
        return f"{type(value).__name__}{inner if isinstance(value, tuple) else sorted(inner)}"
    return repr(value) if isinstance(value, _PLAIN) else type(value).__qualname__


def _names(code: CodeType) -> set[str]:
    """Global names and attributes of code, that of its inner functions too."""
    inner = (_names(c) for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*inner)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _attention(part: nn.Module) -> Any:
    return getattr(getattr(part, "config", None), _ATTENTION, None)


def _registries() -> tuple[Any, ...]:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    return ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_of(module: str | None, library: str) -> bool:
    return (module or "").partition(".")[0] == library
