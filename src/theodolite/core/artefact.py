"""A fitted reader on disk: `config.json` says what it is, `model.safetensors` holds its arrays. Never code.

The class is looked up by its method name among the methods installed here, and must come from the same distribution
(or be the same file, by hash) as when it was saved. Loading refuses what it does not know, and returns bit-equal
scores or fails.
"""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from theodolite.core.atomic import publish, read_json
from theodolite.core.discover import discover, name_of, origin
from theodolite.core.errors import UserError
from theodolite.core.reader import Reader

FORMAT = 1
FILES = ("config.json", "model.safetensors")
_KEYS = {"format", "method", "origin", "params", "fitted", "arrays", "about"}


def save_reader(reader: Reader, folder: str | Path, about: Mapping[str, Any] | None = None) -> None:
    """Write a fitted reader; `about` is any JSON the caller wants kept with it (site, model, data hash, metrics).

    >>> from tempfile import TemporaryDirectory
    >>> from theodolite.readers.ridge import Ridge
    >>> reader = Ridge().fit([[0.0], [1.0], [2.0]], [0, 0, 1])
    >>> with TemporaryDirectory() as folder:
    ...     save_reader(reader, folder)
    ...     load_reader(folder).decision_function([[3.0]]) == reader.decision_function([[3.0]])
    array([ True])
    """
    fitted = {name: value for name, value in vars(reader).items() if name.endswith("_")}
    arrays = {
        name: value for name, value in fitted.items() if isinstance(value, np.ndarray) and value.dtype.kind in "fiu"
    }
    config = {
        "format": FORMAT,
        "method": name_of(type(reader)),
        "origin": origin(type(reader)),
        "params": reader.get_params(deep=False),
        "fitted": {name: _plain(name, value) for name, value in fitted.items() if name not in arrays},
        "arrays": sorted(arrays),
        "about": dict(about or {}),
    }
    text = json.dumps(config, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    publish(Path(folder) / "model.safetensors", save({name: np.ascontiguousarray(a) for name, a in arrays.items()}))
    publish(Path(folder) / "config.json", text.encode())


def load_reader(folder: str | Path, registry: Mapping[str, type] | None = None) -> Any:
    """The fitted reader of a folder; a method of your own needs `registry=discover(files=["file.py:Class"])`."""
    config = _config(Path(folder) / "config.json")
    cls = (discover() if registry is None else registry)[config["method"]]
    _same_origin(cls, config["origin"])
    unknown_params = set(config["params"]) - set(inspect.signature(cls).parameters)
    if unknown_params:
        raise UserError(f"{folder}: {config['method']} has no parameter {sorted(unknown_params)}")
    reader = cls(**config["params"])
    restored = {name: _restored(name, value, folder) for name, value in config["fitted"].items()}
    arrays, kinds = _arrays(Path(folder), config["arrays"]), get_type_hints(cls)
    if twice := sorted(restored.keys() & arrays.keys()):
        raise UserError(f"{folder}: {', '.join(twice)} stands in both files")
    for name, value in {**restored, **arrays}.items():
        if not name.endswith("_") or name.startswith("_"):
            raise UserError(f"{folder}: {name!r} is not the name of anything fitted")
        if name in kinds and not _is_a(value, kinds[name], labels=name == "classes_"):
            raise UserError(f"{folder}: {name} is {_in_words(value)}, and {config['method']} fits another kind of it")
        setattr(reader, name, value)
    return reader


def _plain(name: str, value: Any) -> Any:
    """JSON for numbers, strings, lists of them, and arrays of labels; anything else is the method's mistake."""
    if isinstance(value, np.ndarray):
        return {"labels": value.tolist(), "dtype": "object" if value.dtype == object else value.dtype.str}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str, list)):
        return value
    raise UserError(f"{name} is {type(value).__name__}: what a reader fits must be arrays, numbers, strings or lists")


def _restored(name: str, value: Any, folder: str | Path) -> Any:
    """A fitted value as it was; of arrays in JSON, only those of labels, in a type no larger than the labels are."""
    if not isinstance(value, dict):
        return value
    labels, kind = value.get("labels"), value.get("dtype")
    try:
        dtype = np.dtype(kind if isinstance(kind, str) else "V")
        flat = isinstance(labels, list) and all(isinstance(v, (str, bool, int, float)) for v in labels)
        longest = max((len(v) for v in labels or [] if isinstance(v, str)), default=0)
        room = dtype.itemsize // (4 if dtype.kind == "U" else 1)  # characters, of the two kinds that have a length
        if (
            flat
            and set(value) == {"labels", "dtype"}
            and (dtype.kind in "Obiuf" or (dtype.kind in "US" and room <= longest))
        ):
            return np.array(labels, dtype=dtype)
    except (TypeError, ValueError, OverflowError):
        pass
    raise UserError(f"{folder}: {name} is no list of labels of type {str(kind)[:40]!r}")


def _is_a(value: Any, kind: Any, *, labels: bool) -> bool:
    """Return whether a fitted value is of the kind that the reader's class declares; other kinds may hold anything."""
    if kind is np.ndarray:
        return isinstance(value, np.ndarray) and (value.shape == (2,) if labels else value.dtype.kind in "fiu")
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return kind != list[str] or (isinstance(value, list) and all(isinstance(v, str) for v in value))


def _in_words(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} and shape {value.shape}"
    return f"{value!r:.40}"


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"no saved reader: {path} does not exist")
    config = read_json(path, finite=True)
    if set(config) != _KEYS:
        raise UserError(f"{path} must have the keys {', '.join(sorted(_KEYS))}")
    kinds = {"method": str, "origin": str, "params": dict, "fitted": dict, "arrays": list}
    if wrong := [key for key, kind in kinds.items() if not isinstance(config[key], kind)]:
        raise UserError(f"{path} holds no valid {', '.join(wrong)}")
    if config["format"] != FORMAT:
        raise UserError(f"{path} has format {config['format']}, this version reads {FORMAT}")
    return config


def _same_origin(cls: type, saved: str) -> None:
    """Return whether two origins are one distribution in any version, or files with the very same bytes."""
    here = origin(cls)
    if here.split()[0] != saved.partition(" ")[0]:
        raise UserError(
            f"{cls.__name__} comes from {here}, the saved reader from {saved}: they need not be the same code"
        )


def _arrays(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    try:
        arrays = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder / 'model.safetensors'} cannot be read: {error}") from None
    if sorted(arrays) != names:
        raise UserError(f"{folder / 'model.safetensors'} holds {sorted(arrays)}, config.json names {names}")
    return arrays
