"""A user's paths, and what stands for them in files that may be passed on.

A Run names a model folder, data file, dictionary or method file by its last component; `local.json` beside the
manifest, readable by its owner only and part of no export, says where each lies on this machine.
"""

import os
import re
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from theodolite.core.atomic import read_json
from theodolite.core.cache import cache_root
from theodolite.core.errors import UserError

_AFTER = r"(?![\w-]|\.\w)"  # the next character does not continue the last component
_BEFORE = r"(?<![\w/.~-])"
_ABSOLUTE = re.compile(_BEFORE + r"(?:[A-Za-z]:)?[\\/](?:[^\s\\/'\":,;()]+[\\/])+(?=[^\s\\/'\":,;()])")


class LocalPaths:
    """Paths of this machine by the names that stand for them.

    >>> local = LocalPaths({"/home/me/m": "m", "/data/m": "m", "mine.py": "mine.py"})
    >>> local.paths["m-2"], local.shared({"model": "/home/me/m", "note": "read /data/m twice"})
    ('/data/m', {'model': 'm', 'note': 'read m-2 twice'})
    """

    def __init__(self, wanted: Mapping[str, str] | None = None) -> None:
        self.names: dict[str, str] = {}
        for path, name in (wanted or {}).items():
            self.names[path] = _unused(name, set(self.names.values()))
        self.paths = {name: os.path.abspath(os.path.expanduser(path)) for path, name in self.names.items()}
        written = {form: name for path, name in self.names.items() for form in {path, self.paths[name]} if form != name}
        longest = sorted(written, key=len, reverse=True)
        self._pattern = re.compile(_BEFORE + f"({'|'.join(map(re.escape, longest))})" + _AFTER) if written else None
        self._written = written
        self.command = ""  # as it was typed

    def shared(self, value: Any) -> Any:
        """A JSON value, or a text, with every path replaced by its name; keys of objects too."""
        if isinstance(value, str):
            return value if self._pattern is None else self._pattern.sub(lambda m: self._written[m[1]], value)
        if isinstance(value, dict):
            return {self.shared(k): self.shared(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.shared(v) for v in value]
        return value

    def frame(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A table with every path in its columns of text replaced."""
        for column in frame.columns:
            if self._pattern is not None and not pd.api.types.is_numeric_dtype(frame[column]):
                seen = [value for value in frame[column].unique() if isinstance(value, str)]
                changed = {value: name for value in seen if (name := self.shared(value)) != value}
                if changed:
                    frame = frame.assign(**{column: frame[column].replace(changed)})
        return frame


def without_folders(text: str) -> str:
    """A sentence whose absolute paths keep only their last component, for notes that may quote an error.

    >>> without_folders("cannot read '/home/me/a b/x.csv': no such file, see https://x.org/a/b")
    "cannot read 'a b/x.csv': no such file, see https://x.org/a/b"
    """
    for folder in (cache_root(), Path.cwd(), Path.home(), Path(tempfile.gettempdir())):
        prefix = str(folder).rstrip("/\\")
        if prefix:
            text = re.sub(_BEFORE + re.escape(prefix) + r"[\\/]", "", text)
    return _ABSOLUTE.sub("", text)


def shared_command(command: str) -> str:
    """A command line whose arguments that are paths keep only their last component.

    >>> shared_command("theodolite compare /home/me/a.csv --model ../m --sae hub:x/y --out=/tmp/o --method a/b.py:C")
    'theodolite compare a.csv --model m --sae hub:x/y --out=o --method b.py:C'
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return ""
    return shlex.join(map(_shared_word, words))


def _shared_word(word: str) -> str:
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    path = re.split(r"(?<=\.py)[:(]", value)[0]  # file.py:Class(k=3)
    is_path = path.startswith(("/", "~", ".")) or "\\" in path or path.endswith(".py") or os.path.exists(path)
    if not is_path or not re.search(r"[\\/]", path):
        return word
    return option + equals + (re.split(r"[\\/]", path.rstrip("\\/"))[-1] or "root") + value[len(path) :]


def _unused(name: str, used: set[str]) -> str:
    """The name, or with a number where another path has it."""
    stem, dot, suffix = name.partition(".") if not name.startswith(".") else (name, "", "")
    found, n = name, 1
    while found in used:
        n += 1
        found = f"{stem}-{n}{dot}{suffix}"
    return found


def located(path: Path, name: str, remedy: str) -> str:
    """The path that a run's `local.json` has for a name on this machine; `remedy` ends the error where it has none."""
    found = read_json(path).get("paths") if path.is_file() else {}
    if not isinstance(found, dict) or not isinstance(found.get(name, ""), str):
        raise UserError(f"{str(path)!r} is damaged: {remedy}")
    if name not in found:
        raise UserError(
            f"the run read {name!r} from a path of the machine it was made on ({path.name} is missing): {remedy}"
        )
    if not Path(found[name]).exists():
        raise UserError(f"the run read {name!r} from {found[name]!r}, which is gone: {remedy}")
    return found[name]
