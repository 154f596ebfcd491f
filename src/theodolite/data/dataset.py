"""Labelled rows with their provenance, and a line for everything that was taken out on the way."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Count:
    """Number of rows of a data set that one cause removed or marked."""

    dataset: str
    cause: str
    n: int


@dataclass(frozen=True)
class Dataset:
    """Texts with 0/1 labels; `counts` says what left `frame` and why, `kept` what stayed although it is near a copy.

    remarks: (kind, count, words) of what a reader must know of how the rows were read: what labels count as, and rows
    without a group.

    Columns of `frame`: `id`, stable across runs; `text`, `label`, `source`; `cluster` of near-duplicates, global over
    one recipe; `hash` of the text, so that two runs can be paired without storing it; `template`, "" when the text
    stands alone, and its `template_tokens`; `request`, the id of the text before wrapping; `unit`, rows that stay or
    leave together (the two classes in one template).
    """

    name: str
    frame: pd.DataFrame
    licence: str = "unstated"
    redistributable: bool = True
    note: str = ""
    counts: tuple[Count, ...] = ()
    kept: tuple[Count, ...] = ()
    remarks: tuple[tuple[str, int, str], ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def texts(self) -> list[str]:
        """The texts in row order."""
        return self.frame["text"].tolist()

    @property
    def y(self) -> np.ndarray:
        """The labels in row order."""
        return self.frame["label"].to_numpy(dtype=np.int64)

    def without(self, bad: np.ndarray, cause: str) -> "Dataset":
        """The data set less the rows marked in `bad` and the other rows of their units; how many, among the counts."""
        unit = self.frame["unit"]
        return self.replaced(self.frame[~unit.isin(unit[np.asarray(bad, dtype=bool)])], cause)

    def replaced(self, frame: pd.DataFrame, cause: str = "") -> "Dataset":
        """The data set with other rows; what it lost is counted under `cause`."""
        lost = len(self.frame) - len(frame) if cause else 0
        counts = (*self.counts, Count(self.name, cause, lost)) if lost else self.counts
        return replace(self, frame=frame.reset_index(drop=True), counts=counts)

    def keeping(self, kept: Iterable[Count]) -> "Dataset":
        """The data set with these counts of near-copies that stayed."""
        return replace(self, kept=(*self.kept, *(count for count in kept if count.n)))


def content_hash(text: str) -> str:
    """16 hex digits of the text's sha256.

    >>> content_hash("abc")
    'ba7816bf8f01cfea'
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows in the order of their texts' hashes, then of their other columns: that of the file plays no role.

    Whatever is drawn by row number afterwards (a limit, a deal of templates, folds) therefore follows the texts.
    """
    keys = frame.astype(str).assign(text=[content_hash(text) for text in frame["text"]])
    return frame.loc[keys.sort_values(list(keys), kind="stable").index]


def identified(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with every column but `cluster`; a row's id survives reordering and new neighbours."""
    hashes = [content_hash(text) for text in frame["text"]]
    ids = [f"{source}:{digest}" for source, digest in zip(frame["source"], hashes, strict=True)]
    return frame.assign(id=ids, hash=hashes, template="", request=ids, unit=ids, template_tokens=0)
