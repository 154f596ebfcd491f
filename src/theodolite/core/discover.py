"""Methods by name: a file in our folders, an installed package's entry point, or `path/to/file.py:Class`."""

import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.machinery import SourceFileLoader
from importlib.metadata import EntryPoint, PackageNotFoundError, packages_distributions
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from theodolite.core.errors import UserError, unknown
from theodolite.core.installed import entry_points, version

GROUP = "theodolite.methods"


class Registry(Mapping[str, type]):
    """Names known without importing anything; a class is imported when it is asked for."""

    def __init__(self, kind: str, loaders: dict[str, Callable[[], type]]) -> None:
        self.kind = kind
        self._loaders = loaders

    def __getitem__(self, name: str) -> type:
        if name not in self._loaders:
            raise unknown(self.kind, name, self._loaders)
        return self._loaders[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._loaders

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._loaders))

    def __len__(self) -> int:
        return len(self._loaders)


def discover(
    package: str = "theodolite.readers", group: str = GROUP, files: Sequence[str] = (), kind: str = "method"
) -> Registry:
    """Every method of a package's folder, of an entry-point group and of the files given, by file stem.

    kind: what the error for an unknown name calls them.

    >>> "logistic" in discover()
    True
    """
    folder = importlib.import_module(package)
    modules = [module.name for module in pkgutil.iter_modules(folder.__path__) if module.name[0] != "_"]
    found = [(name, f"{package}.{name}", partial(_from_module, f"{package}.{name}")) for name in modules]
    found += [(entry.name, entry.value, partial(_from_entry_point, entry)) for entry in entry_points(group=group)]
    found += [(_split(spec)[0].stem, spec, partial(load_file, spec)) for spec in files]
    return Registry(kind, _without_clash(found))


def registered(own: Sequence[type], group: str, kind: str) -> Registry:
    """Classes of ours and of an entry-point group, by the `name` that each gives itself, or else its own in lower case.

    For what needs no file of its own, such as a rule of three lines; an entry point has the name of its class.

    >>> sorted(registered([int, float], "theodolite.none", "number"))
    ['float', 'int']
    """
    found: list[tuple[str, str, Callable[[], type]]] = [
        (name_in_json(cls), f"{cls.__module__}.{cls.__name__}", partial(_itself, cls)) for cls in own
    ]
    found += [(entry.name, entry.value, entry.load) for entry in entry_points(group=group)]
    return Registry(kind, _without_clash(found))


def name_in_json(cls: type) -> str:
    """The word by which a JSON form names a class of `registered`."""
    return str(getattr(cls, "name", cls.__name__.lower()))


def load_file(spec: str) -> type:
    """The class of `path/to/file.py:Class`, or the file's only public class for `path/to/file.py`."""
    path, name = _split(spec)
    if not path.is_file():
        raise UserError(f"no file {str(path)!r} (a method of your own is given as path/to/file.py:Class)")
    module = _module(path)
    if name is None:
        return public_class(module)
    classes = {n: c for n, c in vars(module).items() if inspect.isclass(c) and c.__module__ == module.__name__}
    if name not in classes:
        raise unknown(f"class in {path.name}", name, classes)
    return classes[name]


def public_class(module: ModuleType) -> type:
    """The one public class that a module defines itself."""
    classes = [
        c for n, c in vars(module).items() if inspect.isclass(c) and c.__module__ == module.__name__ and n[0] != "_"
    ]
    if len(classes) != 1:
        names = ", ".join(c.__name__ for c in classes) or "none"
        raise UserError(f"{module.__name__} must define exactly one public class, it defines: {names}")
    return classes[0]


def name_of(cls: type) -> str:
    """The method name of a class: the stem of the file that defines it."""
    return Path(inspect.getfile(cls)).stem


def origin(cls: type) -> str:
    """The origin of a class: a distribution with its version, or the hash of a file.

    >>> origin(discover()["logistic"]).split()[0]
    'theodolite'
    """
    package = cls.__module__.partition(".")[0]
    if package == cls.__module__:  # a file of the user's own
        return f"sha256:{hashlib.sha256(Path(inspect.getfile(cls)).read_bytes()).hexdigest()}"
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:  # a distribution is often called otherwise than its package, but finding out is slow
        distribution = packages_distributions()[package][0]
        return f"{distribution} {version(distribution)}"


def _itself(cls: type) -> type:
    return cls


def _from_module(path: str) -> type:
    return public_class(importlib.import_module(path))


def _from_entry_point(entry: EntryPoint) -> Any:
    cls = entry.load()
    if name_of(cls) != entry.name:
        raise UserError(
            f"entry point {entry.name!r} names {entry.value!r}: a method is called by its file's stem, {name_of(cls)!r}"
        )
    return cls


def _without_clash(found: Sequence[tuple[str, str, Callable[[], type]]]) -> dict[str, Callable[[], type]]:
    places: dict[str, str] = {}
    for name, place, _ in found:
        if name in places:
            raise UserError(f"two methods are called {name!r}: {places[name]} and {place}; rename one file")
        places[name] = place
    return {name: load for name, _, load in found}


def _split(spec: str) -> tuple[Path, str | None]:
    """`dir/file.py:Class` in parts; a drive letter's colon stays in the path."""
    head, colon, name = spec.rpartition(":")
    return (Path(head), name) if colon and name.isidentifier() else (Path(spec), None)


def _module(path: Path) -> ModuleType:
    """A file as a module: kept in `sys.modules` so that its classes travel, anew where the file was edited since."""
    content = path.read_bytes()
    name = f"{path.stem}_{hashlib.sha256(str(path.resolve()).encode() + content).hexdigest()[:8]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path, loader=_OfBytes(name, str(path), content))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise UserError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return sys.modules[name]


class _OfBytes(SourceFileLoader):
    """Loads these very bytes: any other loader would take the bytecode of an edit of the same size and second."""

    def __init__(self, name: str, path: str, content: bytes) -> None:
        super().__init__(name, path)
        self.content = content

    def get_code(self, fullname: str) -> CodeType:
        """The code of the bytes."""
        return self.source_to_code(self.content, self.path)
