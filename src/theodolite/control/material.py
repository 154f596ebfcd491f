"""Material of a method of control: training texts with labels and states, texts to choose on, and dictionaries."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from scipy import sparse

from theodolite.core.errors import UserError
from theodolite.core.language_model import Format
from theodolite.core.positions import pool
from theodolite.core.reader import class_means
from theodolite.core.site import Site
from theodolite.dictionaries.dictionary import Dictionary, to_csr
from theodolite.models.model import Model

_CHUNK = 1024  # token rows that a dictionary codes at once


class Absent(UserError):
    """An optional part that a method needs is not there: a comparison counts the method and goes on without it."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled texts: labels (n) are 1 for the positive class and 0 for the other, rows (n, d) their pooled states.

    >>> Examples(["a b", "c d"], [1, 0], ["g", "h"], np.eye(2)).n
    2
    """

    texts: Sequence[str]
    labels: Any
    groups: Any
    rows: Any

    def __post_init__(self) -> None:
        for name, value in (("texts", list(self.texts)), ("labels", np.asarray(self.labels))):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "groups", np.asarray(self.groups))
        object.__setattr__(self, "rows", np.asarray(self.rows, np.float32))
        n = len(self.texts)
        if not (len(self.labels) == len(self.groups) == len(self.rows) == n and self.rows.ndim == 2):
            raise UserError(
                f"{n} texts have {len(self.labels)} labels, {len(self.groups)} groups and rows of shape "
                f"{self.rows.shape}: give one of each per text"
            )
        found = sorted(set(self.labels.tolist()))
        if found != [0, 1]:
            raise UserError(f"labels are {found}: give 1 for texts of the positive class, 0 for the others, and both")
        if not np.isfinite(self.rows).all():
            raise UserError(f"states of {int((~np.isfinite(self.rows)).any(1).sum())} texts hold NaN or infinity")

    @property
    def n(self) -> int:
        """Number of texts."""
        return len(self.texts)

    @property
    def canonical(self) -> np.ndarray:
        """Numbers of the texts in an order that depends on labels, groups and texts alone: a seed then draws alike."""
        keys = [(int(label), str(group), text) for label, group, text in zip(*self._columns(), strict=True)]
        return np.array(sorted(range(self.n), key=keys.__getitem__))

    def of_class(self, label: int) -> list[str]:
        """Texts of one class, in the canonical order."""
        return [self.texts[i] for i in self.canonical if self.labels[i] == label]

    def _columns(self) -> tuple[Any, Any, Any]:
        return self.labels, self.groups, self.texts


@dataclass(frozen=True, eq=False)
class PooledLatents:
    """Latents of texts, encoded per token and then pooled, (n, width), and how strongly each fires on single tokens.

    p99: 99th percentile of a latent's size over the tokens on which it fires, (width); 0 where it never does.
    """

    rows: sparse.csr_matrix
    p99: np.ndarray


@dataclass(frozen=True, eq=False)
class Material:
    """All that a method may see when it fits a control for one concept at one site.

    texts, labels, groups and rows are those of `Examples`, for training; `development` has others, on which a method
    may choose its settings. No text that a control is measured on belongs in either. `format`, `positions` and
    `pooling` say how `rows` were read, so that a method reads latents and neurons of the same tokens. `instruction`
    asks for a class in words, with the attributes `positive` and `negative`.
    """

    model: Model
    site: Site
    texts: Sequence[str]
    labels: Any
    groups: Any
    rows: Any
    development: Examples | None = None
    dictionary: Dictionary | None = None
    control_dictionary: Dictionary | None = None
    seed: int = 0
    instruction: Any = None
    format: Format = "raw"
    positions: str = "content"
    pooling: str = "mean"
    training: Examples = field(init=False, repr=False)
    _kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "site", Site.parse(self.site))
        object.__setattr__(self, "training", Examples(self.texts, self.labels, self.groups, self.rows))

    @classmethod
    def of(cls, model: Model, site: Site, training: Any, development: Any, **more: Any) -> Self:
        """Return material with the states of texts read here; `training`, `development` have texts, labels, groups."""
        read: dict[str, Any] = {"pooling": "mean", "format": more.get("format", "raw")}
        both = [
            Examples(part.texts, part.labels, part.groups, model.read(part.texts, site, **read)[site].rows)
            for part in (training, development)
        ]
        first = both[0]
        return cls(model, site, first.texts, first.labels, first.groups, first.rows, development=both[1], **more)

    @property
    def class_distance(self) -> float:
        """Distance of the class means at the site, in units of its states: the scale of strengths there."""
        negative_d, positive_d = class_means(self.training.rows, self.training.labels)
        return float(np.linalg.norm(positive_d - negative_d))

    def needed(self, name: str, method: str) -> Any:
        """Return an optional part, or say that a method cannot do without it."""
        value = getattr(self, name)
        if value is None:
            what, way = _MISSING[name]
            raise Absent(f"{method} needs {what}, and this comparison has none: {way}")
        return value

    def read(self, examples: Examples, site: Site) -> np.ndarray:
        """Pooled states (n, d) of texts at another site; read once for all methods."""
        key = "rows", id(examples), site
        if key not in self._kept:
            how: dict[str, Any] = {"positions": self.positions, "format": self.format}
            self._kept[key] = self.model.read(examples.texts, site, pooling=self.pooling, **how)[site].rows
        return self._kept[key]

    def latents(self, examples: Examples, dictionary: Dictionary) -> PooledLatents:
        """Pooled latents of texts at the site; encoded once for all methods."""
        key = "latents", id(examples), id(dictionary)
        if key not in self._kept:
            self._kept[key] = self.encoded(examples.texts, dictionary)
        return self._kept[key]

    def encoded(self, texts: Sequence[str], dictionary: Dictionary) -> PooledLatents:
        """Pooled latents of any texts at the site, one pass of the model each."""
        if dictionary.is_transcoder:
            raise UserError("the dictionary is a transcoder: give one that reads and writes the site itself")
        # `last` pools over all tokens, whose last one it takes
        positions = "all" if self.pooling == "last" else self.positions
        tokens = self.model.read(texts, self.site, positions=positions, pooling=None, format=self.format)[self.site]
        return pooled_latents_of(tokens.rows, tokens.doc, dictionary, self.pooling)


def pooled_latents_of(rows_td: Any, doc_t: np.ndarray, dictionary: Dictionary, pooling: str) -> PooledLatents:
    """Encode token rows (t, d) and pool them by the text `doc` (t) that they belong to."""
    import torch

    parts = torch.as_tensor(np.asarray(rows_td)).to(dictionary.W_dec.device).split(_CHUNK)
    codes = sparse.vstack([to_csr(*dictionary.encode_sparse(part), dictionary.width) for part in parts], "csr")
    columns = abs(codes.tocsc()).astype(np.float64)
    p99 = np.zeros(dictionary.width)
    for latent in np.flatnonzero(np.diff(columns.indptr)):
        p99[latent] = np.percentile(columns.data[columns.indptr[latent] : columns.indptr[latent + 1]], 99)
    return PooledLatents(pool(codes, doc_t, pooling), p99)


_MISSING = {
    "dictionary": ("a dictionary", "name one under `dictionaries`, or leave the method out"),
    "control_dictionary": (
        "a control dictionary",
        "train one with its encoder frozen and name it, or leave the method out",
    ),
    "instruction": (
        "an instruction",
        "write `instruction: {positive: ..., negative: ...}` in the concept file, or leave the method out",
    ),
    "development": ("development texts", "give texts to choose on, which are not those of training"),
}
