"""A fitted reader on disk: `config.json` says what it is, `model.safetensors` holds its arrays. Never code.

The class is looked up by its method name among the methods installed here, and must come from the same distribution
(or be the same file, by hash) as when it was saved. Loading refuses what it does not know, and returns bit-equal
scores or fails.
"""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    for name, value in {**_restored(config["fitted"]), **_arrays(Path(folder), config["arrays"])}.items():
        if not name.endswith("_") or name.startswith("_"):
            raise UserError(f"{folder}: {name!r} is not the name of anything fitted")
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


def _restored(fitted: dict[str, Any]) -> dict[str, Any]:
    return {n: np.array(v["labels"], dtype=v["dtype"]) if isinstance(v, dict) else v for n, v in fitted.items()}


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"no saved reader: {path} does not exist")
    config = read_json(path)
    if set(config) != _KEYS:
        raise UserError(f"{path} must have the keys {', '.join(sorted(_KEYS))}")
    if config["format"] != FORMAT:
        raise UserError(f"{path} has format {config['format']}, this version reads {FORMAT}")
    return config


def _same_origin(cls: type, saved: str) -> None:
    """The same distribution in any version, or a file with the very same bytes."""
    here = origin(cls)
    if here.split()[0] != saved.split()[0]:
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
