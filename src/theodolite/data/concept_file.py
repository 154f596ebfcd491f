"""One concept in one file: labelled texts with groups, openings, targets and an instruction; shipped or the user's."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from theodolite.core import strict
from theodolite.core.errors import UserError, unknown
from theodolite.core.recipe import Source
from theodolite.core.training_sets import TrainingSets
from theodolite.data.concept_fields import ConceptFields, Targets, Texts, joined, spaced
from theodolite.data.dataset import content_hash
from theodolite.data.near_duplicates import clusters, joined_by_group
from theodolite.data.sources import cells, file, packaged, tables
from theodolite.data.sources.select import group_column, select
from theodolite.data.splits import dominant, split

NEUTRAL = "openings.csv"  # beside the packaged concepts
CLASSIFIER = (2 / 3, 0.0, 1 / 3, 0.0)  # of the groups: the pool of all seeds, and the classifier
POOL = (3 / 4, 1 / 4, 0.0, 0.0)  # of the groups of the pool: direction, development


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with labels (n,) 0 or 1 and groups (n,); a row without a group has one of its own."""

    texts: list[str]
    labels: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def at(self, rows: np.ndarray) -> "LabelledTexts":
        """The rows with these numbers, or of this mask."""
        index = np.flatnonzero(rows) if rows.dtype == bool else rows
        return LabelledTexts([self.texts[i] for i in index], self.labels[index], self.groups[index])


@dataclass(frozen=True)
class ConceptFile:
    """A concept with its tables read; `openings` are the usable ones, in the order of their file."""

    fields: ConceptFields
    texts: LabelledTexts
    shift: LabelledTexts | None
    classifier: LabelledTexts | None
    openings: list[str]

    @property
    def name(self) -> str:
        """Name of the concept, as in tables."""
        return self.fields.name

    @property
    def digest(self) -> str:
        """sha256 over fields and rows: two concepts with equal digests are the same data."""
        tables = (self.texts, self.shift, self.classifier)
        rows = [t and [t.texts, t.labels.tolist(), t.groups.tolist()] for t in tables]
        fields = self.fields.model_dump(mode="json", exclude={"texts", "shift", "classifier", "openings"})
        return hashlib.sha256(json.dumps([fields, rows, self.openings], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Parts:
    """A concept's rows by what they are for; no group is in two of the first three.

    direction: where directions are fitted. development: where sites, latents and conditions are chosen. classifier:
    where the classifiers of generated text are trained. Methods are measured on the openings, which no text contains.
    """

    direction: LabelledTexts
    development: LabelledTexts
    classifier: LabelledTexts
    openings: list[str]
    targets: Targets | None
    unseen_targets: Targets | None


def names() -> list[str]:
    """Names of the packaged concepts.

    >>> "french" in names()
    True
    """
    return packaged.names()


def load(name: str | Path) -> ConceptFile:
    """A packaged concept by name, a concept file (.yaml) or a plain table (text, label[, group]) by path.

    Raises a `UserError` where a field is unknown or wrong, a table cannot be read, a text is empty or has both labels,
    or a class has no text.

    >>> load("french").fields.positive
    'French'
    """
    return _sound(read(name))


def read(name: str | Path) -> ConceptFile:
    """Read a concept as `load` does, but its rows as they are: `file_check` says what is wrong with them."""
    path = Path(name).expanduser()
    if str(name) in names():
        return _packaged(str(name))
    if path.suffix.lower() in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"no concept file {str(path)!r}")
        return _read(path, path.resolve().parent)
    if path.suffix:
        return read_table(path)
    raise unknown("concept", str(name), names())


def from_table(
    path: str | Path,
    *,
    text: str = "text",
    label: str = "label",
    group: str | None = None,
    positive: Sequence[Any] | None = None,
    openings: str | Path | None = None,
    targets: str | Path | None = None,
) -> ConceptFile:
    """A user's own table of labelled texts as a concept.

    group: its group column; by default the one called `group`, where there is one. positive: labels that count as 1.
    openings: a file with one opening a row (column `opening`); by default the neutral ones. targets: a table with
    columns `target` and `label`; without it the effect is measured by a classifier on generated text.
    """
    columns: dict[str, Any] = {"text": text, "label": label, "group": group, "positive": positive}
    return _sound(read_table(path, openings=openings, targets=targets, **columns))


def read_table(
    path: str | Path,
    *,
    text: str = "text",
    label: str = "label",
    group: str | None = None,
    positive: Sequence[Any] | None = None,
    openings: str | Path | None = None,
    targets: str | Path | None = None,
) -> ConceptFile:
    """Read a table as `from_table` does, but its rows as they are."""
    path = Path(path).expanduser().resolve()
    columns = tables.parse({path.name: file.read(str(path))}, blank=True).columns
    named = ", ".join(map(str, positive or ()))
    fields = {
        "name": tables.stem_of(path.name),
        "title": tables.stem_of(path.name),
        "positive": named or f"{label} = 1",
        "negative": f"not {named}" if named else f"{label} = 0",
        "texts": {
            "file": str(path),
            "text": text,
            "label": label,
            "group": group or ("group" if "group" in columns else None),
            "positive": list(positive) if positive else None,
        },
        "openings": None if openings is None else str(Path(openings).expanduser().resolve()),
        "targets": None if targets is None else _targets(Path(targets).expanduser()),
        "licence": "yours",
        "private": True,
    }
    return _loaded(strict.validated(ConceptFields, fields, f"concept {path.name!r}"), path.parent)


def parts(concept: ConceptFile, seed: int) -> Parts:
    """Divide a concept's texts by whole groups: direction 1/2, development 1/6, classifier 1/3.

    The classifier part is the same for every seed, which divides only the rest: no direction of any seed has seen a
    text that a classifier was trained on. Near-copies count as one group. The order of the rows plays no role. A
    concept with other texts for its classifier gives 3/4 to the direction and 1/4 to development.

    >>> one, other = (parts(load("french"), seed) for seed in (0, 1))
    >>> one.classifier.texts == other.classifier.texts, bool(set(one.direction.groups) & set(other.classifier.groups))
    (True, False)
    """
    pool, frame, classifier = _pool(concept)
    part = split(frame, seed, POOL)
    direction, development = (pool.at(part == name) for name in ("train", "calibrate"))
    for name, found in (("direction", direction), ("development", development), ("classifier", classifier)):
        if len(set(found.labels.tolist())) < 2:
            raise UserError(
                f"concept {concept.name!r}: the {name} rows of seed {seed} hold {len(found)} texts and not both "
                f"classes: {len(set(concept.texts.groups))} groups of {len(concept.texts)} texts are too few or too "
                "unequal; give more texts or a finer group column"
            )
    return Parts(
        direction,
        development,
        classifier,
        openings=concept.openings,
        targets=concept.fields.targets,
        unseen_targets=concept.fields.unseen_targets,
    )


def training_sets(concept: ConceptFile, seeds: int) -> TrainingSets:
    """Return how far the direction parts of the seeds 0, 1, ... overlap, for intervals over training sets.

    Each holds 3/4 of the pool, so that two of them share about that much of what they say of another pool.

    >>> 0.6 < training_sets(load("french"), 3).overlap < 0.9
    True
    """
    _, frame, _ = _pool(concept)
    member_sn = np.array([split(frame, seed, POOL) == "train" for seed in range(seeds)])
    return TrainingSets.measured(member_sn, frame["cluster"].to_numpy(), frame["label"].to_numpy(), dominant(frame))


def _pool(concept: ConceptFile) -> tuple[LabelledTexts, pd.DataFrame, LabelledTexts]:
    """The rows that seeds divide, as texts and as the frame of a split, and the classifier's, which no seed changes."""
    order = np.argsort([content_hash(t) for t in concept.texts.texts], kind="stable")
    rows = concept.texts.at(order)
    frame = pd.DataFrame({"text": rows.texts, "label": rows.labels, "source": concept.name})
    frame["cluster"] = joined_by_group(clusters(rows.texts), list(rows.groups))
    frame["hash"] = [content_hash(t) for t in rows.texts]
    if concept.classifier is not None:
        return rows, frame, concept.classifier
    part = split(frame, 0, CLASSIFIER)
    kept = part == "train"
    return rows.at(kept), frame[kept].reset_index(drop=True), rows.at(~kept)


def neutral_openings(slots: Sequence[str] | None = None) -> list[str]:
    """The package's openings without any concept; slots: only those that such a word follows.

    >>> len(neutral_openings(["verb"])) >= 100
    True
    """
    found = tables.parse({NEUTRAL: (packaged.folder() / NEUTRAL).read_bytes()})
    return found["opening"][found["next"].isin(list(slots)) if slots else slice(None)].tolist()


@cache
def _packaged(name: str) -> ConceptFile:
    """A concept of the package, read once: nulls and selectivity ask for all of them again and again."""
    return _read(packaged.folder() / f"{name}.yaml", packaged.folder())


def _read(path: Any, folder: Any) -> ConceptFile:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"concept file {str(path)!r} is not UTF-8: save it as UTF-8") from None
    return _loaded(strict.parsed(ConceptFields, text, f"concept {path.name!r}"), folder)


def _loaded(fields: ConceptFields, folder: Any) -> ConceptFile:
    texts = _table(fields.texts, folder, fields.name, "texts")
    return ConceptFile(
        fields,
        texts,
        None if fields.shift is None else _table(fields.shift, folder, fields.name, "shift"),
        None if fields.classifier is None else _table(fields.classifier, folder, fields.name, "classifier"),
        _openings(fields, folder, texts),
    )


def _sound(concept: ConceptFile) -> ConceptFile:
    """Refuse rows that nothing can be fitted on; `theodolite data check` lists all of them at once."""
    for part, rows in (("texts", concept.texts), ("shift", concept.shift), ("classifier", concept.classifier)):
        if rows is not None and (wrong := next(iter(faults(rows, concept.fields)), None)):
            raise UserError(f"{part} of concept {concept.name!r}: {wrong}")
    return concept


def faults(rows: LabelledTexts, fields: ConceptFields) -> list[str]:
    """Reasons why nothing can be fitted on these rows: a class without text, empty texts, one text with both labels."""
    found = []
    for label, word in ((1, fields.positive), (0, fields.negative)):
        if not (rows.labels == label).any():
            found.append(f"one class only, no text has label {label} ({word}): give texts of both")
    if empty := [i for i, text in enumerate(rows.texts) if not text.strip()]:
        found.append(f"{len(empty)} of {len(rows)} texts are empty, the first in row {empty[0]}: remove them")
    of = pd.Series(rows.labels).groupby(pd.Series([text.strip() for text in rows.texts], dtype=object))
    if twice := of.transform("nunique").gt(1).to_numpy().nonzero()[0].tolist():
        found.append(f"{len(twice)} rows hold a text that has both labels, the first is row {twice[0]}: remove them")
    return found


def _table(wanted: Texts, folder: Any, name: str, part: str) -> LabelledTexts:
    origin = f"{part} of {name}"
    if wanted.rows is not None:
        read = pd.DataFrame([{"text": r.text, "label": r.label, "group": r.group} for r in wanted.rows], dtype=object)
        wanted = Texts(rows=[], group="group", positive=wanted.positive)
    else:
        read = tables.parse(
            {str(wanted.file): _bytes(str(wanted.file), folder)}, blank=True, single=(wanted.text, wanted.label)
        )
    # `file` says that texts are the user's own, which stay exactly as they are written
    source = Source(source=origin, file="", label=wanted.label, positive=wanted.positive, group=wanted.group)
    source = source.model_copy(update={"field": wanted.text})
    if wanted.group is not None and wanted.group not in read.columns:
        raise unknown(f"group column of {origin!r}", wanted.group, map(str, read.columns))
    frame = select(read, source, wanted.text, (), 0)
    groups_as_written = frame[group_column(source)] if wanted.group is not None else pd.Series("", index=frame.index)
    groups = [
        f"text:{content_hash(text)}" if pd.isna(cell) or str(cell).strip() == "" else str(cell).strip()
        for cell, text in zip(groups_as_written, frame["text"], strict=True)
    ]
    return LabelledTexts(frame["text"].tolist(), frame["label"].to_numpy(np.int64), np.array(groups, dtype=object))


def _bytes(name: str, folder: Any) -> bytes:
    """A file beside the concept file, which inside the package need not lie on a disk."""
    if isinstance(folder, Path):
        return file.read(str(folder / Path(name).expanduser()))
    return bytes((folder / name).read_bytes())


def _openings(fields: ConceptFields, folder: Any, texts: LabelledTexts) -> list[str]:
    """The user's openings as they are; of the neutral ones those that hold no target and stand in no text."""
    if isinstance(fields.openings, list):
        return list(dict.fromkeys(fields.openings))
    if isinstance(fields.openings, str):
        named = ("opening", "text")
        found = tables.parse({fields.openings: _bytes(fields.openings, folder)}, single=named)
        if not len(found):
            raise UserError(f"{fields.openings!r} holds no opening: give one a line, or a column `opening`")
        column = next((name for name in named if name in found.columns), None)
        if column is None:
            raise unknown(f"column of {fields.openings!r}", "opening", map(str, found.columns))
        origin = f"openings {fields.openings!r}"
        written = cells.column(found, column, origin, "name one column `opening`").dropna()
        return list(dict.fromkeys(cells.texts(written, origin)))
    targets = [t for group in (fields.targets, fields.unseen_targets) if group for t in group.all]
    read, words = joined(texts.texts), [f" {spaced(target)} " for target in targets]
    spelt = [(opening, f" {spaced(opening)} ") for opening in neutral_openings(fields.next)]
    return [opening for opening, in_words in spelt if not any(w in in_words for w in words) and in_words not in read]


def _targets(path: Path) -> dict[str, list[str]]:
    found = tables.parse({path.name: file.read(str(path))})
    for column in ("target", "label"):
        if column not in found.columns:
            raise unknown(f"column of {path.name!r}", column, map(str, found.columns))
    labels = found["label"].map(str)
    if strange := sorted(set(labels) - {"0", "1"}):
        raise UserError(f"{path.name!r}: labels of targets are 1 (positive) or 0 (negative), not {strange[0]!r}")
    return {
        "positive": found["target"][labels == "1"].tolist(),
        "negative": found["target"][labels == "0"].tolist(),
    }
