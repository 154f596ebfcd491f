"""Methods given in Python as classes and instances, as the words that a recipe, a worker and a cache know them by."""

import ast
import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from theodolite.core.discover import discover, name_of
from theodolite.core.errors import UserError
from theodolite.core.methods import written
from theodolite.core.reader import Reader

_WAY_OUT = "save it in a file of its own and give methods=['path/to/file.py:{name}'], or import it from there"


def in_words(given: Iterable[Any]) -> list[str]:
    """Each method as a recipe writes it: a word as it is, a reader by its name or file, a classifier of scikit-learn.

    A class of the user's own is named by its file, which is hashed and read anew: its code there counts, and workers
    find it. Of an instance the parameters count that differ from their defaults; what it was fitted on does not.

    >>> from theodolite.readers.ridge import Ridge
    >>> in_words(["lat", Ridge, Ridge(alpha=1.0)])
    ['lat', 'ridge', 'ridge(alpha=1.0)']
    >>> from sklearn.svm import LinearSVC
    >>> in_words([LinearSVC(C=0.1)])
    ["scikit(estimator=LinearSVC, options={'C': 0.1})"]
    """
    return [_in_words(method) for method in given]


def _in_words(method: Any) -> str:
    if isinstance(method, str | Path):
        return str(method)
    cls = method if isinstance(method, type) else type(method)
    params = {} if method is cls else _changed(method, cls)
    if issubclass(cls, Reader):
        return written(_name(cls), params)
    from theodolite.readers.scikit import CLASSIFIERS

    if CLASSIFIERS.get(cls.__name__) is cls:
        return written("scikit", {"estimator": cls.__name__} | ({"options": params} if params else {}))
    raise UserError(
        f"method {cls.__name__} of {cls.__module__!r} is neither a reader nor a linear classifier of scikit-learn "
        f"({', '.join(CLASSIFIERS)}): subclass theodolite.Reader in a file of its own and give that class"
    )


def _name(cls: type[Reader]) -> str:
    """The name of a reader that is known by one, else its file and class."""
    known, name = discover(), getattr(inspect.getmodule(cls), "__file__", None) and name_of(cls)
    if name and name in known and known[name] is cls:
        return name
    source = None if cls.__module__ == "__main__" else inspect.getsourcefile(cls)
    if source is None or not Path(source).is_file():
        raise UserError(
            f"method {cls.__name__} was defined in a notebook, at a prompt or in the script that runs, where no worker "
            f"finds it: {_WAY_OUT.format(name=cls.__name__)}"
        )
    if cls.__qualname__ != cls.__name__:
        raise UserError(
            f"method {cls.__qualname__} is defined inside a function or class: {_WAY_OUT.format(name=cls.__name__)}"
        )
    return f"{Path(source).resolve()}:{cls.__name__}"


def _changed(method: Any, cls: type) -> dict[str, Any]:
    """Parameters of an instance that differ from their defaults; each must be a number, a word or a list of them."""
    if not hasattr(method, "get_params"):
        raise UserError(f"method {cls.__name__}() is no scikit-learn estimator: give a class or instance of a reader")
    defaults = {name: each.default for name, each in inspect.signature(cls).parameters.items()}
    changed = {name: value for name, value in method.get_params(deep=False).items() if not _is(value, defaults[name])}
    for name, value in changed.items():
        if not _is_literal(value):
            raise UserError(
                f"method {cls.__name__}: {name} is {value!r}, which cannot be written into a recipe: give numbers, "
                "words, lists or dictionaries of them"
            )
    return changed


def _is(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and repr(value) == repr(default))


def _is_literal(value: Any) -> bool:
    """Return whether Python reads back exactly this value from how it is written."""
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError):
        return False
