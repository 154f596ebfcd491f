"""Every view of the rows, built once: what each method may look at, from the text to the dictionary's error.

A view lies on disk as one safetensors file per data set, so that worker processes open what they need and a later run
with another method builds nothing again.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file
from safetensors.numpy import save as to_bytes
from scipy import sparse

from theodolite.core.atomic import publish, read_json
from theodolite.core.slug import slug

SITELESS = {"text", "embedding", "sentence", "answer"}
FROM_DICTIONARY = {"latents", "reconstruction", "error", "twin", "state+latents"}


@dataclass(frozen=True)
class Views:
    """Handle on a folder of views; small, so that it travels to worker processes.

    shifts, over_refusal: names of the data sets beside "train". origin: hash of everything the content depends on.
    stations: names of the dictionaries by family and site; a seed reads dictionary `seed mod number of dictionaries`,
    so that their variation is part of the variation between seeds. makers: by view, a hash of the code that makes it,
    so that views of older code are neither read nor written over.
    """

    folder: Path
    origin: str
    shifts: tuple[str, ...] = ()
    over_refusal: tuple[str, ...] = ()
    stations: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    makers: dict[str, str] = field(default_factory=dict)

    def frame(self, name: str) -> pd.DataFrame:
        """Rows of one data set, with their texts."""
        return pd.read_parquet(self.path(name))

    def get(self, name: str, view: str, site: str = "", seed: int = 0, family: str = "") -> Any:
        """One view of one data set's rows: (n,) texts, (n, d) float32, or (n, width) csr."""
        if view == "text":
            return self.frame(name)["text"].to_numpy(object)
        if view == "state+latents":
            dense = sparse.csr_matrix(self.get(name, "state", site))
            return sparse.hstack([dense, self.get(name, "latents", site, seed, family)], format="csr")
        return _load(self.path(name, view, site, self.station(view, site, seed, family)))

    def has(self, view: str, site: str = "", family: str = "") -> bool:
        """Whether every data set has this view, from every dictionary of the family."""
        if view in FROM_DICTIONARY and not self.stations.get((family, site)):
            return False
        needed = ("state", "latents") if view == "state+latents" else (view,)
        return all(
            self.path(name, v, site, station).is_file()
            for name in ("train", *self.shifts)
            for v in needed
            for station in (self.stations[family, site] if v in FROM_DICTIONARY else [""])
            if v != "text"
        )

    def path(self, name: str, view: str = "", site: str = "", station: str = "") -> Path:
        """Where one view of one data set lies, or its rows; `station` names the dictionary a view comes from."""
        if not view:
            return self.folder / f"{_slug(name)}.parquet"
        parts = [_slug(name), view, "" if view in SITELESS else site, station, self.makers.get(view, "")]
        return self.folder / (".".join(filter(None, parts)) + ".safetensors")

    def put(self, name: str, view: str, site: str, value: Any, station: str = "") -> None:
        """Write one view; csr matrices keep their three arrays."""
        publish(self.path(name, view, site, station), to_bytes(_pack(value)))

    def has_part(self, name: str, part: str) -> bool:
        """Whether a step of the building is complete for one data set."""
        return (self.folder / f"{_slug(name)}.{part}.done").is_file()

    def end_part(self, name: str, part: str, facts: dict[str, float]) -> None:
        """Mark a step complete, with what it found out; call it after its last view is written."""
        publish(self.folder / f"{_slug(name)}.{part}.done", json.dumps(facts).encode())

    def facts(self, name: str, part: str) -> dict[str, float]:
        """What a complete step found out about one data set."""
        found: dict[str, float] = read_json(self.folder / f"{_slug(name)}.{part}.done")
        return found

    def key(self, view: str, site: str, family: str = "") -> str:
        """What the content of this view depends on: the rows, how they were made, and by which code."""
        stations = self.stations.get((family, site), []) if view in FROM_DICTIONARY else []
        parts: list[Any] = [self.origin, view, "" if view in SITELESS else site, stations]
        parts += [self.makers[view]] if view in self.makers else []
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def station(self, view: str, site: str, seed: int = 0, family: str = "") -> str:
        """Name of the dictionary that a seed's rows of this view come from, "" where none is involved."""
        if view not in FROM_DICTIONARY:
            return ""
        names = self.stations[family, site]
        return names[seed % len(names)]


def _slug(name: str) -> str:
    return slug(name)


def _pack(value: Any) -> dict[str, np.ndarray]:
    if sparse.issparse(value):
        csr = value.tocsr()
        shape = np.array(csr.shape, np.int64)
        return {"data": csr.data, "indices": csr.indices, "indptr": csr.indptr, "shape": shape}
    return {"dense": np.ascontiguousarray(value, np.float32)}


def _load(path: Path) -> Any:
    arrays = load_file(path)
    if "dense" in arrays:
        return arrays["dense"]
    return sparse.csr_matrix((arrays["data"], arrays["indices"], arrays["indptr"]), shape=tuple(arrays["shape"]))
