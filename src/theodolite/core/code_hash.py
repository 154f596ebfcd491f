"""A hash of the code that makes a cached thing: what an entry imports of our own source, and its libraries' versions.

Imports are read from the source text (`ast`), those inside functions too, so nothing is imported to find them. A class
that is chosen at run time (a reader, a variant) is no import of its caller: name it as a further entry. Not seen:
modules whose names are computed, and data files that code reads.
"""

import ast
import hashlib
import importlib.util
import json
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from theodolite.core.errors import UserError
from theodolite.core.installed import version

Entry = str | type | ModuleType | Callable[..., Any]
ABSENT = "absent"  # version of a library that is imported but not installed: installing it is another closure
_OURS = __name__.partition(".")[0]
_INSTALLED = {"site-packages", "dist-packages"}


@dataclass(frozen=True)
class Closure:
    """Modules by name with the sha256 of their source, and libraries by distribution with their version."""

    modules: dict[str, str]
    libraries: dict[str, str]

    def digest(self) -> str:
        """sha256 over both; no path is in it."""
        return hashlib.sha256(json.dumps([self.modules, self.libraries], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class _Module:
    """A module whose source counts. beside: the folder in which a user's own file also finds its helpers."""

    name: str
    path: Path
    is_package: bool = False
    beside: Path | None = None

    @property
    def package(self) -> str:
        """The dotted name that its relative imports begin at."""
        name = self.name.removeprefix("./")
        return name if self.is_package else name.rpartition(".")[0]


@dataclass(frozen=True)
class _Scan:
    """The sha256 of some source, and the dotted names that it imports; an attribute may stand at their end."""

    digest: str
    imports: tuple[str, ...]


def code_hash(*entries: Entry) -> str:
    """The digest of the closure of these entries; see `closure`."""
    return closure(*entries).digest()


def helpers_hash(file: Path) -> str:
    """The digest of what a user's own file imports that is neither installed nor ours; "" where that is nothing."""
    modules = closure(str(file)).modules.items()
    own = [
        f"{name} {digest}" for name, digest in modules if name.partition(".")[0] != _OURS and name != f"./{file.stem}"
    ]
    return hashlib.sha256("\n".join(sorted(own)).encode()).hexdigest() if own else ""


def closure(*entries: Entry) -> Closure:
    """All code that the entries can reach by static imports.

    An entry is a module or its name, a class (its module counts), or a top-level function: of its module only what the
    function uses counts. Annotations of functions and `if TYPE_CHECKING:` do not count. Installed packages count by
    their version, our own and those that an entry comes from by their source.

    >>> sorted(closure("theodolite.core.seeds").modules)
    ['theodolite', 'theodolite.core', 'theodolite.core.seeds']
    """
    names = [entry if isinstance(entry, str) else _module_name(entry) for entry in entries]
    walk = _Walk(frozenset({_OURS, *(name.partition(".")[0] for name in names)}))
    for name, entry in zip(names, entries, strict=True):
        if isinstance(entry, FunctionType):
            walk.function(name, entry.__qualname__)
        elif (own := _own_file(entry)) is not None:
            walk.module(_Module(f"./{own.stem}", own, beside=own.parent))
        else:
            walk.imported(name, None)
    for package in sorted(walk.owners - {_OURS}):  # a plugin also counts by its version, even if edited in place
        walk.libraries |= {name: metadata.version(name) for name in _distributions().get(package, ())}
    return Closure(walk.modules, walk.libraries)


@dataclass
class _Walk:
    """The modules and libraries met so far. owners: top-level packages of which the source counts."""

    owners: frozenset[str]
    modules: dict[str, str] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=lambda: {"python": platform.python_version()})
    _met: set[tuple[str, Path | None]] = field(default_factory=set)

    def module(self, module: _Module) -> None:
        """Count a module and all that it imports."""
        if module.name not in self.modules:
            scan = _settled_scan(module) if module.name.partition(".")[0] == _OURS else _own_scan(module)
            self.modules[module.name] = scan.digest
            for name in scan.imports:
                self.imported(name, module.beside)

    def function(self, module: str, name: str) -> None:
        """Count one top-level function with what it uses of its module, and all that these import."""
        scan = _function_scan(_found(module)[-1], name)
        self.modules[f"{module}:{name}"] = scan.digest
        for imported in (module.rpartition(".")[0], *scan.imports):
            self.imported(imported, None)

    def imported(self, name: str, beside: Path | None) -> None:
        """Count what `import name` runs: each package on the way; the end of the name may be an attribute."""
        if not name or (name, beside) in self._met:
            return
        self._met.add((name, beside))
        helpers = _found(name, beside) if beside else ()
        for module in helpers:
            self.module(module)
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names:
            return
        # Which of two modules of one name a user's file gets depends on `sys.path` when it runs: both count.
        found, installed = _found(name), _distributions().get(top, ())
        if found and (top in self.owners or not (installed and _INSTALLED & set(found[0].path.parts))):
            for module in found:  # a module that no installer put there has no version, so its source counts
                self.module(module)
        elif found or not helpers:
            self.libraries |= {d: version(d) for d in installed} or {top: ABSENT}


@cache
def _distributions() -> Mapping[str, Iterable[str]]:
    return metadata.packages_distributions()


def _module_name(entry: Any) -> str:
    return entry.__name__ if isinstance(entry, ModuleType) else str(entry.__module__)


def _own_file(entry: Entry) -> Path | None:
    """The file of a class that `discover.load_file` read, under a module name that no import finds."""
    if isinstance(entry, str):
        return Path(entry) if entry.endswith(".py") else None
    spec = sys.modules[_module_name(entry)].__spec__
    lone = spec is not None and spec.has_location and not spec.parent and Path(str(spec.origin)).stem != spec.name
    return Path(str(spec.origin)) if spec is not None and lone else None


def _found(name: str, beside: Path | None = None) -> tuple[_Module, ...]:
    """The modules on the way to a dotted name, as far as they exist, found without importing any."""
    return _found_ours(name) if name.partition(".")[0] == _OURS else tuple(_search(name, beside))


@cache
def _found_ours(name: str) -> tuple[_Module, ...]:
    return tuple(_search(name, None))


def _search(name: str, beside: Path | None) -> Iterator[_Module]:
    places: list[str] | None = [str(beside)] if beside else None
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        whole = ".".join(parts[:end])
        spec = _spec(whole, places)
        if spec is None:
            return
        if spec.origin and spec.has_location:  # a namespace package has no source
            package = spec.submodule_search_locations is not None
            yield _Module(("./" if beside else "") + whole, Path(spec.origin), package, beside)
        if spec.submodule_search_locations is None:
            return
        places = list(spec.submodule_search_locations)


def _spec(name: str, places: list[str] | None) -> ModuleSpec | None:
    """The spec of a module: in these folders or, for a top-level module, wherever an import would find it."""
    if places is not None:
        return PathFinder.find_spec(name, places)
    try:
        return importlib.util.find_spec(name)
    except ValueError:  # __main__ has none
        return None


def _own_scan(module: _Module) -> _Scan:
    """The scan of a file that is edited between two calls of one session: read each time, and refused where stale."""
    scan = _scan(module)
    if _first.setdefault((module.name, module.path), scan.digest) != scan.digest and _is_loaded(module):
        raise UserError(
            f"{module.path.name} was edited after this session imported it, so the old code would run: restart Python"
        )
    return scan


_first: dict[tuple[str, Path], str] = {}  # hash of each file of the user's own when it was first looked at


def _is_loaded(module: _Module) -> bool:
    loaded = sys.modules.get(module.name.removeprefix("./"))
    return loaded is not None and Path(getattr(loaded, "__file__", None) or "") == module.path


@cache
def _settled_scan(module: _Module) -> _Scan:
    """The scan of a file that does not change while the program runs."""
    return _scan(module)


def _scan(module: _Module) -> _Scan:
    content = module.path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if module.path.suffix != ".py":  # a compiled module of a plugin
        return _Scan(digest, ())
    return _Scan(digest, tuple(dict.fromkeys(_imports([_tree(module, content)], module.package))))


def _tree(module: _Module, content: bytes) -> ast.Module:
    try:
        return ast.parse(content)
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{module.path.name} is not Python that can be read: {error}") from None


@cache
def _function_scan(module: _Module, name: str) -> _Scan:
    """Scan of the module's statements that define a function and all that it uses, transitively."""
    content = module.path.read_bytes()
    tree = _tree(module, content)
    binds = {bound: node for node in tree.body for bound in _bound(node)}
    used: dict[int, ast.stmt] = {}
    imports, waiting = [], [name]
    while waiting:
        word = waiting.pop()
        node = binds.get(word)
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports += [type(node)(**{**vars(node), "names": [a for a in node.names if _alias(a) == word]})]
        elif node is not None and node.lineno not in used:
            used[node.lineno] = node
            waiting += _names(node)
    text = "\0".join(ast.get_source_segment(content.decode(), used[line]) or "" for line in sorted(used))
    found = dict.fromkeys(_imports([*imports, *used.values()], module.package))
    return _Scan(hashlib.sha256(text.encode()).hexdigest(), tuple(found))


def _bound(node: ast.stmt) -> Iterator[str]:
    """Names that a top-level statement binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from map(_alias, node.names)
    else:
        yield from (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))


def _alias(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _names(node: ast.AST) -> Iterator[str]:
    """Names that code uses when it runs: those of a function's annotations are left out, a class's fields stay."""
    if isinstance(node, ast.Name):
        yield node.id
    for name, value in ast.iter_fields(node):
        if isinstance(node, ast.arg) or (isinstance(node, ast.FunctionDef) and name == "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _names(child)


def _imports(nodes: Iterable[ast.AST], package: str) -> Iterator[str]:
    """Dotted names that code imports, anywhere in it; of `from a import b` both `a` and what may be its submodule."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            home = ".".join([*above, *([node.module] if node.module else [])])
            yield from (home if alias.name == "*" else f"{home}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node.func) in ("import_module", "__import__"):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value
        unrun = node.body if isinstance(node, ast.If) and _called(node.test) == "TYPE_CHECKING" else []
        yield from _imports((child for child in ast.iter_child_nodes(node) if child not in unrun), package)


def _called(node: ast.expr) -> str:
    """The last part of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
