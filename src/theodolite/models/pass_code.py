"""The code that a forward pass runs, as one digest: a patched class, function or attention is another model.

Read anew at every call, in about 20 ms, since a patch leaves no trace elsewhere. Counted are all methods and attributes
of the classes of a network's modules, the functions of the Python modules that define them, the attention and mask
functions registered under the configured name, `torch.nn.functional` and the methods of tensors, and what all of these
call by a global name or hold in a closure. Of a user's own code also the values that it uses count: numbers, tensors,
containers, objects of the user's own classes and networks. Not seen: kernels of torch, methods and state of objects of
other libraries, and the library that fetches files, whose globals change with every request, login and setting such as
HF_HUB_OFFLINE.
"""

import hashlib
import sys
from collections.abc import Iterator
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from theodolite.models.hashing import tensor_line

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_ARRAYS = (torch.Tensor, np.ndarray)
_LIBRARIES = {"torch", "transformers", "theodolite", *sys.stdlib_module_names}
_INSTALLED = {"site-packages", "dist-packages"}
_FETCHES = "huggingface_hub"  # takes no part in a pass
_FORM = 2  # of a digest; one of another form says nothing about the same code
_ATTENTION = "_attn_implementation"
# Attributes of modules that other digests hold, or that say how a model was loaded: by transformers, by accelerate
_NO_MATTER = {*vars(nn.Module()), "_is_hf_initialized", "_hf_hook", "_old_forward"}


def code_digest(module: nn.Module) -> str:
    """sha256 of the code of a pass, and after a space the versions that bytecode differs between.

    >>> from theodolite.toys.tiny_models import tiny_model
    >>> code_digest(tiny_model()) == code_digest(tiny_model(seed=1)) != code_digest(tiny_model("gpt2"))
    True
    """
    walk = _Walk(module)
    # two classes may have one name: they stay in the order of the modules
    kinds = sorted(dict.fromkeys(type(part) for part in module.modules()), key=_name)
    classes = dict.fromkeys(base for kind in kinds for base in kind.__mro__ if base is not object)
    for base in sorted(classes, key=_name):
        walk.attributes(_name(base), vars(base))
    for home in sorted({kind.__module__ for kind in kinds if _top(kind.__module__) != "torch"} & sys.modules.keys()):
        walk.members(home, {k: v for k, v in vars(sys.modules[home]).items() if not isinstance(v, type)})
    walk.members("torch.nn.functional", vars(nn.functional))
    walk.members("torch.Tensor", vars(torch.Tensor))
    for name, part in module.named_modules():
        walk.attributes(name, _unnamed(part))
    for name in sorted({str(name) for part in module.modules() if (name := _attention(part))}):
        for registry in _registries():
            walk.visit(f"{type(registry).__name__}[{name}]", registry.get(name))
    versions = (
        f"form-{_FORM} python-{python_version()} torch-{torch.__version__} transformers-{version('transformers')}"
    )
    return f"{hashlib.sha256(chr(10).join(walk.lines).encode()).hexdigest()} {versions}"


def same_code(then: str, now: str) -> bool:
    """Return whether two digests of code agree or cannot be compared (another version of Python or a library).

    >>> same_code("ab python-3.12", "cd python-3.12"), same_code("ab python-3.12", "cd python-3.13")
    (False, True)
    """
    return then == now or then.partition(" ")[2] != now.partition(" ")[2]


class _Walk:
    """Lines about the functions and values met so far; one that is met again counts by its number.

    Parts and parameters of the network itself count by their name: what they hold is in other digests.
    """

    def __init__(self, module: nn.Module) -> None:
        self.lines: list[str] = []
        own = [*module.named_modules(), *module.named_parameters()]
        # the object stands beside its name so that no other one can take its id
        self._met: dict[int, tuple[str, Any]] = {id(part): (f"part {name}", part) for name, part in own}

    def members(self, home: str, names: Any) -> None:
        """All functions among the members of a class or module."""
        for name, value in sorted(names.items()):
            for function in _functions(value):
                self.visit(f"{home}.{name}", function)

    def attributes(self, home: str, names: Any) -> None:
        """All functions and values among the members of a class or of an object, but for values of Python's own."""
        for name, value in sorted(names.items()):
            pythons = name.startswith("__") and name.endswith("__")
            if not pythons or list(_functions(value)):
                self.visit(f"{home}.{name}", value)

    def visit(self, label: str, value: Any) -> None:
        """One function with all it calls, or one value with all it holds."""
        if isinstance(value, _PLAIN):
            self.lines.append(f"{label} {value!r}")
        elif isinstance(value, FunctionType) and _top(value.__module__) == _FETCHES:
            self.lines.append(f"{label} {value.__qualname__}")
        elif id(value) in self._met:
            self.lines.append(f"{label} {self._met[id(value)][0]}")
        else:
            self._met[id(value)] = str(len(self._met)), value
            if isinstance(value, FunctionType):
                self._function(label, value)
            else:
                self._value(label, value)

    def _function(self, label: str, function: FunctionType) -> None:
        self.lines.append(f"{label} {_code_line(function.__code__)} {_plain(function)}")
        home = function.__globals__.get("__name__", "")  # `functools.wraps` gives a patch the `__module__` of another
        own, library = _is_own(home), _top(home) in _LIBRARIES
        free = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        held = [(name, _content(cell)) for name, cell in free]
        if _top(home) != "torch":
            names = _names(function.__code__)
            held += [(name, function.__globals__[name]) for name in sorted(names & function.__globals__.keys())]
            held += _of_modules([value for _, value in held], names)
        if own:
            held += [("defaults", function.__defaults__), ("named defaults", function.__kwdefaults__)]
        for name, value in held:
            known = isinstance(value, _PLAIN + _ARRAYS) and not library
            if own or known or list(_functions(value)):
                self.visit(f"{label}:{name}", value)

    def _value(self, label: str, value: Any) -> None:
        kind = type(value)
        self.lines.append(f"{label} {_name(kind)} {getattr(value, '__qualname__', '')}")
        for function in _functions(value):
            self.visit(label, function)
        if isinstance(value, torch.Tensor):
            if not value.is_meta and value.layout == torch.strided:
                self.lines.append(tensor_line(label, value))
        elif isinstance(value, np.ndarray):
            if not value.dtype.hasobject:
                content = hashlib.sha256(value.tobytes()).hexdigest()
                self.lines.append(f"{label} {value.dtype} {value.shape} {content}")
        elif isinstance(value, list | tuple):
            self.attributes(label, {f"{place:09d}": inner for place, inner in enumerate(value)})
        elif isinstance(value, dict):
            self.attributes(label, {f"{place:09d} {_value(key)}": value[key] for place, key in enumerate(value)})
        elif isinstance(value, set | frozenset):
            self.lines.append(f"{label} {_value(frozenset(value))}")
        elif isinstance(value, partial):
            self.attributes(label, {"args": value.args, "keywords": value.keywords})
        elif isinstance(value, MethodType):
            self.visit(f"{label}.self", value.__self__)
        elif isinstance(value, type):
            if _is_own(value.__module__):
                self.attributes(label, {**vars(value), "bases": value.__bases__})
        elif isinstance(value, nn.Module) or _is_own(kind.__module__):
            self.visit(_name(kind), kind)
            slots = {name for base in kind.__mro__ for name in getattr(base, "__slots__", ()) if hasattr(value, name)}
            self.attributes(label, getattr(value, "__dict__", {name: getattr(value, name) for name in slots}))


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


def _unnamed(part: nn.Module) -> dict[str, Any]:
    """Attributes of a module that `identity.structure` leaves out: private ones, tensors, containers, functions.

    Of a whole model of transformers, which holds much about how it was loaded, only the tensors.
    """
    from transformers import PreTrainedModel

    whole = isinstance(part, PreTrainedModel)
    found = {}
    for name, value in vars(part).items():
        in_structure = isinstance(value, _PLAIN) and not name.startswith("_")
        if isinstance(value, _ARRAYS) or not (whole or in_structure or name in _NO_MATTER):
            found[name] = value
    return found


def _of_modules(values: list[Any], names: set[str]) -> list[tuple[str, Any]]:
    """Values that code takes out of modules it names, such as `torch.rsqrt`: of torch's and the user's own ones."""
    modules = [value for value in values if isinstance(value, ModuleType)]
    found = []
    for module in modules:
        if _top(module.__name__) == "torch" or _is_own(module.__name__):
            for name in sorted(names & vars(module).keys()):
                value = vars(module)[name]
                if isinstance(value, ModuleType):
                    modules += [value] * (value not in modules)
                else:
                    found.append((f"{module.__name__}.{name}", value))
    return found


@lru_cache(maxsize=1024)
def _is_own(module: str | None) -> bool:
    """Return whether code of this module is the user's: a script, a notebook, a file that no installer put there."""
    file = getattr(sys.modules.get(module or ""), "__file__", None) or ""
    return _top(module) not in _LIBRARIES and not _INSTALLED & set(Path(file).parts)


def _top(module: str | None) -> str:
    return (module or "").partition(".")[0]
