"""Other people's dictionaries, read into ours and written from them: one file per library, told by a folder's files.

What a converter must preserve is the output, not the shapes: tests compare encode and reconstruct with what the peer's
own forward pass gave on random rows (`benchmarks/peer_formats.py` makes and repeats that comparison).
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from theodolite.core.errors import UserError, unknown
from theodolite.dictionaries import native
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.formats import gemma_scope, saelens, sparsify


class Format(NamedTuple):
    """The file by which a folder is told, and how it is read and written."""

    marker: str
    read: Callable[[Path], Dictionary]
    write: Callable[[Dictionary, Path], object]


FORMATS = {
    "theodolite": Format(native.WEIGHTS, native.load, native.save),
    "saelens": Format(saelens.WEIGHTS, saelens.read, saelens.write),
    "sparsify": Format(sparsify.WEIGHTS, sparsify.read, sparsify.write),
    "gemma_scope": Format(gemma_scope.WEIGHTS, gemma_scope.read, gemma_scope.write),
    "gemma_scope_2": Format(gemma_scope.WEIGHTS_2, gemma_scope.read_2, gemma_scope.write_2),
}
# dictionary_learning and OpenAI: pickled, so only `convert` opens them
PICKLED = "*.pt"


def read(folder: str | Path) -> Dictionary:
    """A dictionary from a folder in any known format, told by the files in it."""
    folder = Path(folder)
    for known in FORMATS.values():
        if (folder / known.marker).is_file():
            return known.read(folder)
    if pickled := sorted(folder.glob(PICKLED)):
        raise UserError(
            f"dictionary {folder}: {pickled[0].name} is pickled, which can run code when it is opened; "
            f"convert it first: theodolite convert {folder} NEW_FOLDER"
        )
    if inside := sorted(path.parent for path in folder.glob("*/config.json")):
        names = ", ".join(map(str, inside[:5])) + (", ..." if len(inside) > 5 else "")
        raise UserError(f"{folder} is no dictionary but a folder of {len(inside)}: name one of {names}")
    markers = ", ".join(known.marker for known in FORMATS.values())
    raise UserError(f"no dictionary in {folder}: it holds none of {markers}")


def write(dictionary: Dictionary, folder: str | Path, name: str) -> Path:
    """The dictionary in the format of that name; the folder is complete once its configuration is there."""
    if name not in FORMATS:
        raise unknown("dictionary format", name, FORMATS)
    FORMATS[name].write(dictionary, Path(folder))
    return Path(folder)
