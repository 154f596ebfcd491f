"""Views of the rows, built once: every input that a method may read, from the text to the dictionary's error.

A view lies on disk as one safetensors file per data set, so that worker processes open what they need and a later run
with another method builds nothing again.
"""

import hashlib
import inspect
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as to_bytes
from scipy import sparse

from theodolite.core import methods
from theodolite.core.atomic import file_sha256, publish
from theodolite.core.errors import Damaged
from theodolite.core.sealed import Note, damaged, entry, facts_of, no_note, seal

SITELESS = {"text", "embedding", "sentence", "answer"}
FRAMES = "frames"  # folder of the labelled rows, beside those of the views
FROM_DICTIONARY = {"latents", "reconstruction", "error", "control", "state+latents"}


@dataclass(frozen=True)
class Views:
    """Handle on the views of some data sets; small, so that it travels to worker processes.

    inputs: by data set, "train" first, a hash of the model, of the tokens it read and of how its rows were made; it
    names the folder, so that a new data set reads only its own rows. frames: by data set, the hash of its labelled
    rows, which no view depends on. over_refusal: names of the shifts where every positive is a false alarm.
    dictionaries: names of the dictionaries by family and site; a seed reads dictionary `seed mod number of
    dictionaries`, so that their variation is part of the variation between seeds. controls: fingerprint of a
    dictionary's control by its name. makers: by view, a hash of the code and options that make it, beside `inputs`.
    """

    folder: Path
    inputs: dict[str, str]
    frames: dict[str, str]
    over_refusal: tuple[str, ...] = ()
    dictionaries: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    controls: dict[str, str] = field(default_factory=dict)
    makers: dict[str, str] = field(default_factory=dict)

    @property
    def shifts(self) -> tuple[str, ...]:
        """The data sets beside "train"."""
        return tuple(name for name in self.inputs if name != "train")

    def frame(self, name: str) -> pd.DataFrame:
        """Rows of one data set, with their texts."""
        path = self.frame_path(name)
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != self.frames[name]:
            raise damaged(path)
        return pd.read_parquet(io.BytesIO(content))

    def frame_path(self, name: str) -> Path:
        """Path of the labelled rows of one data set; the name is their hash."""
        return self.folder / FRAMES / f"{self.frames[name]}.parquet"

    def put_frame(self, name: str, frame: pd.DataFrame, note: Note = no_note) -> None:
        """Write the labelled rows of one data set, unless they lie there whole."""
        path, content = self.frame_path(name), frame_bytes(frame)
        assert hashlib.sha256(content).hexdigest() == self.frames[name], "these are not the rows this handle is of"
        if path.is_file():
            if file_sha256(path) == self.frames[name]:
                return
            note("remade", 1, "damaged entries of the cache were made again: labelled rows")
        publish(path, content)

    def get(self, name: str, view: str, site: str = "", seed: int = 0, family: str = "") -> Any:
        """One view of one data set's rows: (n,) texts, (n, d) float32, or (n, width) csr."""
        if view == "text":
            return self.frame(name)["text"].to_numpy(object)
        if view == "state+latents":
            dense = sparse.csr_matrix(self.get(name, "state", site))
            return sparse.hstack([dense, self.get(name, "latents", site, seed, family)], format="csr")
        return _load(self.path(name, view, site, self.dictionary(view, site, seed, family)))

    def has(self, view: str, site: str = "", family: str = "") -> bool:
        """Return whether every data set has this view, from every dictionary of the family."""
        if view in FROM_DICTIONARY and not self.dictionaries.get((family, site)):
            return False
        needed = ("state", "latents") if view == "state+latents" else (view,)
        return all(
            self.path(name, v, site, dictionary).is_file()
            for name in self.inputs
            for v in needed
            for dictionary in (self._names(v, site, family) if v in FROM_DICTIONARY else [""])
            if v != "text"
        )

    def home(self, name: str) -> Path:
        """The folder of one data set's views."""
        return self.folder / self.inputs[name][:32]

    def path(self, name: str, view: str, site: str = "", dictionary: str = "") -> Path:
        """Path of one view of one data set; `dictionary` names the dictionary that a view comes from."""
        parts = [view, "" if view in SITELESS else site, dictionary, self.makers.get(view, "")[:12]]
        return self.home(name) / (".".join(filter(None, parts)) + ".safetensors")

    def put(self, name: str, view: str, site: str, value: Any, dictionary: str = "") -> Path:
        """Write one view and return its file; csr matrices keep their three arrays."""
        path = self.path(name, view, site, dictionary)
        publish(path, to_bytes(_pack(value)))
        return path

    def has_part(self, name: str, part: str, note: Note = no_note) -> bool:
        """Return whether a step of the building is complete for one data set and none of its files is damaged."""
        return entry(self._record(name, part), self._entry_key(name, part), "views", note) is not None

    def end_part(self, name: str, part: str, facts: dict[str, float], files: Sequence[Path] = ()) -> None:
        """Mark a step complete, with what it found out and the files it wrote; call it after the last of them."""
        seal(self._record(name, part), self._entry_key(name, part), files, facts)

    def facts(self, name: str, part: str) -> dict[str, float]:
        """Facts that a complete step found out about one data set."""
        found: dict[str, float] = facts_of(self._record(name, part), self._entry_key(name, part))
        return found

    def ended(self, name: str, part: str) -> bool:
        """Return whether a step is marked complete; its files are not read."""
        return self._record(name, part).is_file()

    def key(self, view: str, site: str, family: str = "") -> str:
        """Hash of all that decides the content of this view, over all data sets: rows, labels, options and code."""
        parts: list[Any] = [self.inputs, list(self.inputs), self.frames, view, "" if view in SITELESS else site]
        parts += [self._names(view, site, family) if view in FROM_DICTIONARY else [], self.makers.get(view, "")]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def dictionary(self, view: str, site: str, seed: int = 0, family: str = "") -> str:
        """Name of the dictionary that a seed's rows of this view come from, "" where none is involved."""
        if view not in FROM_DICTIONARY:
            return ""
        names = self._names(view, site, family)
        return names[seed % len(names)]

    def control(self, dictionary: str) -> str:
        """Name of a dictionary's control; another control beside the same weights has another name."""
        return f"{dictionary}.{self.controls.get(dictionary, '')}"

    def _names(self, view: str, site: str, family: str) -> list[str]:
        """Names of a family's dictionaries at a site, or of their controls where the view is `control`."""
        names = self.dictionaries.get((family, site), [])
        return [self.control(name) for name in names] if view == "control" else names

    def _record(self, name: str, part: str) -> Path:
        return self.home(name) / f"{part}.done"

    def _entry_key(self, name: str, part: str) -> str:
        """Hash that differs between the records of other data sets, models or steps."""
        return hashlib.sha256(json.dumps([self.inputs[name], part]).encode()).hexdigest()


def frame_bytes(frame: pd.DataFrame) -> bytes:
    """Labelled rows as a file."""
    return bytes(frame.to_parquet(index=False))


def frame_hash(frame: pd.DataFrame) -> str:
    """The hash by which labelled rows are named."""
    return hashlib.sha256(frame_bytes(frame)).hexdigest()


def _pack(value: Any) -> dict[str, np.ndarray]:
    if sparse.issparse(value):
        csr = value.tocsr()
        shape = np.array(csr.shape, np.int64)
        return {"data": csr.data, "indices": csr.indices, "indptr": csr.indptr, "shape": shape}
    return {"dense": np.ascontiguousarray(value, np.float32)}


def _load(path: Path) -> Any:
    try:
        arrays = load_file(path)
    except (OSError, SafetensorError) as error:  # `has_part` found it whole: it was changed since
        raise Damaged(f"{path} cannot be read ({error}): run the same command again, which makes it again") from None
    if "dense" in arrays:
        return arrays["dense"]
    return sparse.csr_matrix((arrays["data"], arrays["indices"], arrays["indptr"]), shape=tuple(arrays["shape"]))


def configured(spec: str, views: Views, site: str) -> methods.Method:
    """The method, told where its view's two blocks meet: they get equal variance, or 4,096 columns outvote 576."""
    method = methods.parse(spec)
    if method.view != "state+latents" or "split" not in inspect.signature(method.cls).parameters:
        return method
    return replace(method, params={"split": views.get("train", "state", site).shape[1], **method.params})
