"""Write the API reference: one Markdown page per room, from the signatures and docstrings of the source text.

    python docs/build_api.py                  # or: make docs
    python docs/build_api.py --out elsewhere

Nothing of the package is imported, so the pages need neither torch nor an installed package.
"""

import argparse
import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "theodolite"
# An example of a docstring: from its first prompt to the next empty line.
EXAMPLE = re.compile(r"^>>> .*?(?=\n\s*\n|\Z)", re.M | re.S)
# A numpy-style heading ("Parameters" over dashes), which Markdown would take for a heading of the page.
SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.M)


@dataclass(frozen=True)
class Entry:
    """One public class, method or function: `core.site.Site.parse`, how it is called, and what its docstring says."""

    name: str
    call: str
    text: str


@dataclass(frozen=True)
class Module:
    """One public module of a room: `core.site`, its docstring, and its entries in the order of the file."""

    name: str
    text: str
    entries: tuple[Entry, ...]


def modules(source: Path) -> Iterator[Module]:
    """Every public module below a package folder, in the order of the names."""
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        if any(part.startswith("_") for part in parts if part != "__init__"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        name = ".".join(part for part in parts if part != "__init__")
        yield Module(name, ast.get_docstring(tree) or "", tuple(entries(tree, name)))


def entries(tree: ast.Module | ast.ClassDef, home: str) -> Iterator[Entry]:
    """The public classes and functions of a module, or the public methods of a class; a property counts as a method."""
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        name = f"{home}.{node.name}".lstrip(".")
        yield Entry(name, call(node), ast.get_docstring(node) or "")
        if isinstance(node, ast.ClassDef):
            yield from entries(node, name)


def call(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The line that calls it: arguments with types and defaults; of a class those of `__init__`, else its fields."""
    if not isinstance(node, ast.ClassDef):
        decorators = {ast.unparse(d).split("(")[0] for d in node.decorator_list}
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        if decorators & {"property", "cached_property", "functools.cached_property"}:
            return f"{node.name}{returns}"
        return f"{node.name}({ast.unparse(node.args)}){returns}"
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
            own = re.sub(r"^self(, )?", "", ast.unparse(inner.args))
            return f"class {node.name}({own})"
    fields = [ast.unparse(f) for f in node.body if isinstance(f, ast.AnnAssign) and not constant(f)]
    return f"class {node.name}({', '.join(fields)})"


def constant(field: ast.AnnAssign) -> bool:
    """Whether a field is private, or belongs to the class and not to its instances."""
    return ast.unparse(field.target).startswith("_") or ast.unparse(field.annotation).startswith("ClassVar")


def markdown(docstring: str) -> str:
    """A docstring as Markdown: examples become code blocks, section titles become bold."""
    fenced = EXAMPLE.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```", docstring)
    return SECTION.sub(r"**\1**\n", fenced)


def page(title: str, found: list[Module]) -> str:
    """The page of one room."""
    lines = [f"# {title}", "", "Written by `make docs` from the source; do not edit.", ""]
    for module in found:
        if not (module.entries or module.text):
            continue
        lines += [f"## theodolite.{module.name}", "", markdown(module.text), ""]
        for entry in module.entries:
            lines += [f"### {entry.name}", "", "```python", entry.call, "```", "", markdown(entry.text), ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def public_names(source: Path) -> dict[str, str]:
    """The names that `import theodolite` offers, each with the module that holds it."""
    tree = ast.parse((source / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOMES":
            homes: dict[str, str] = ast.literal_eval(node.value)
            return homes
    raise SystemExit("theodolite/__init__.py has no _HOMES: build_api.py reads the public names there")


def anchor(heading: str) -> str:
    """The anchor of a heading, by GitHub's rule."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def index(source: Path, rooms: dict[str, list[Module]]) -> str:
    """The first page: the public names, then the rooms."""
    lines = [
        "# API reference",
        "",
        "Written by `make docs` from the source; do not edit.",
        "",
        "## import theodolite",
        "",
    ]
    for name, home in sorted(public_names(source).items()):
        entry = f"{home}.{name}"
        lines.append(f"- [`{name}`]({home.split('.')[0]}.md#{anchor(entry)}): theodolite.{home}")
    lines += ["", "## Rooms", ""]
    for room, found in rooms.items():
        count = sum(len(module.entries) for module in found)
        lines.append(f"- [theodolite.{room}]({room}.md): {count} public classes, methods and functions")
    return "\n".join(lines) + "\n"


def write(source: Path, out: Path) -> list[Path]:
    """Write all pages into a folder and return their paths; pages of rooms that are gone are removed."""
    rooms: dict[str, list[Module]] = {}
    for module in modules(source):
        if room := module.name.split(".")[0]:
            rooms.setdefault(room, []).append(module)
    pages = {"index.md": index(source, rooms)} | {
        f"{r}.md": page(f"theodolite.{r}", found) for r, found in rooms.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        (out / name).write_text(text, encoding="utf-8")
    return [out / name for name in pages]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "api")
    print(f"{len(write(SOURCE, parser.parse_args().out))} pages")


if __name__ == "__main__":
    main()
