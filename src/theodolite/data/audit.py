"""Audit of a data set: ways in which it could be solved without the concept, found before any model runs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scipy import sparse

from theodolite.core.recipe import Recipe, Source
from theodolite.data import concept, special_tokens
from theodolite.data.dataset import Count, Dataset
from theodolite.data.leakage import NEAR_FEW_SHOT, NEAR_TRAINING, OTHER_LABEL
from theodolite.data.shortcuts import Search, search
from theodolite.data.sources.tables import stem_of
from theodolite.data.text_baselines import N_FOLDS, TextBaseline, can_be_folded, text_baselines

NO_FOLDS = f"No text baseline fitted on itself: a class has fewer than {N_FOLDS} clusters, or one fold holds them all."


@dataclass(frozen=True)
class NearCopies:
    """Rows of a shift that are near a training row or a few-shot prompt, by its label and by what became of them."""

    same_label_left: int
    same_label_kept: int
    other_label_left: int
    other_label_kept: int


@dataclass(frozen=True)
class Overview:
    """One data set in figures; `sources` maps a source to its numbers of rows with label 0 and 1.

    special: rows that hold each control token of a common vocabulary as text; n_special: rows that hold any.
    """

    name: str
    n: int
    n_positive: int
    n_clusters: int
    n_requests: int
    n_templates: int
    sources: dict[str, tuple[int, int]]
    licence: str
    redistributable: bool
    note: str
    lost: tuple[Count, ...]
    near: NearCopies
    special: dict[str, int]
    n_special: int


@dataclass(frozen=True)
class Audit:
    """The first section of every report; `to_json` gives plain lists, numbers and strings."""

    overviews: list[Overview]
    baselines: list[TextBaseline]
    shortcuts: Search

    def to_json(self) -> dict[str, Any]:
        """The audit as JSON types."""
        return asdict(self)


def audit(
    train: Dataset,
    shifts: Mapping[str, Dataset] | None = None,
    seed: int = 0,
    n_permutations: int = 500,
    latents: sparse.csr_matrix | None = None,
    latent_names: Sequence[str] | None = None,
) -> Audit:
    """Size, balance and losses of every data set, text-only baselines, and shortcuts in the training rows.

    latents: a dictionary's latents of the training rows, in row order; they join the candidate shortcuts.
    """
    shifts = shifts or {}
    return Audit(
        overviews=[overview(dataset, seed) for dataset in (train, *shifts.values())],
        baselines=text_baselines(train.frame, {name: dataset.frame for name, dataset in shifts.items()}, seed),
        shortcuts=search(train.frame, seed, n_permutations, latents, latent_names),
    )


def audit_file(
    path: str | Path,
    text: str = "text",
    label: str = "label",
    positive: Sequence[str] | None = None,
    group: str | None = None,
    seed: int = 0,
) -> Audit:
    """The audit of a user's own labelled file, which needs no model. positive: labels counted as 1, by value."""
    source = Source(
        source=stem_of(str(path)),
        file=str(path),
        field=text,
        label=label,
        positive=list(positive) if positive else None,
        group=group,
        licence="yours",
        redistributable=False,
    )
    recipe = Recipe(name="file", title="file", positive="1", negative="0", question="", train=[source])
    return audit(concept.load(recipe, seed).train, seed=seed)


def overview(dataset: Dataset, seed: int = 0) -> Overview:
    """A data set's row in the audit; its note also says where cross-validation inside it was not possible."""
    frame = dataset.frame
    folds = "" if _folds_or_needs_none(dataset, seed) else NO_FOLDS
    by_source = frame.groupby("source")["label"].agg(["size", "sum"])
    return Overview(
        name=dataset.name,
        n=len(frame),
        n_positive=int(frame["label"].sum()),
        n_clusters=int(frame["cluster"].nunique()),
        n_requests=int(frame["request"].nunique()),
        n_templates=int(frame.loc[frame["template"] != "", "template"].nunique()),
        sources={str(s): (int(size - positive), int(positive)) for s, size, positive in by_source.itertuples()},
        licence=dataset.licence,
        redistributable=dataset.redistributable,
        note=" ".join(filter(None, [dataset.note, *_count_notes(dataset), folds])),
        lost=dataset.counts,
        near=_near_copies(dataset),
        special=special_tokens.rows_by_token(frame["text"]),
        n_special=special_tokens.n_rows(frame["text"]),
    )


def _count_notes(dataset: Dataset) -> list[str]:
    return [
        f"{words[0].upper()}{words[1:]}." if kind == "labels mapped" else f"{n} {words}."
        for kind, n, words in dataset.remarks
    ]


def _near_copies(dataset: Dataset) -> NearCopies:
    causes = (NEAR_TRAINING, NEAR_FEW_SHOT)
    return NearCopies(
        *(
            sum(count.n for count in counts if count.cause in {cause + ending for cause in causes})
            for ending in ("", OTHER_LABEL)
            for counts in (dataset.counts, dataset.kept)
        )
    )


def _folds_or_needs_none(dataset: Dataset, seed: int) -> bool:
    """Wrapped rows and rows of one class have no such baseline anyway."""
    frame = dataset.frame
    return frame["label"].nunique() < 2 or bool((frame["template"] != "").any()) or can_be_folded(frame, seed)
