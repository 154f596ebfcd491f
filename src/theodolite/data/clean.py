"""Rows that cannot be used leave, counted by cause: no label, no text, a copy, or one text with both labels."""

from collections.abc import Callable, Iterator

import pandas as pd

from theodolite.core.errors import UserError
from theodolite.data.dataset import Count, Dataset
from theodolite.data.leakage import NEAR_TRAINING
from theodolite.data.near_duplicates import canonical

MIN_PER_CLASS = 20


def clean(frame: pd.DataFrame, name: str) -> tuple[pd.DataFrame, list[Count]]:
    """The usable rows of a frame with `text` and `label`, in order, and how many left for which reason.

    Copies are texts of one label that are equal up to case and spaces; the first is kept. Where the same text has both
    labels all its rows go. Texts that differ in case or spaces and in the label stay: there, case may be the concept.

    >>> frame = pd.DataFrame({"text": ["a b", "A  b", "c", "c", " "], "label": [1, 1, 0, 1, 0]})
    >>> kept, counts = clean(frame, "toy")
    >>> kept.text.tolist(), [(c.cause, c.n) for c in counts]
    (['a b'], [('no text', 1), ('conflicting labels', 2), ('duplicate', 1)])
    """
    counts = []
    for cause, bad in _faults():
        out = bad(frame)
        if out.any():
            counts.append(Count(name, cause, int(out.sum())))
            frame = frame[~out]
    _require_binary(frame["label"], name)
    return frame.assign(label=frame["label"].astype("int64")).reset_index(drop=True), counts


def require_classes(dataset: Dataset, one_class: bool = False) -> None:
    """Refuse what no AUROC can be computed on: a class that is missing or has fewer than 20 rows."""
    present = dataset.frame["label"].unique()
    for label in present if one_class and len(present) else (0, 1):
        n = int((dataset.frame["label"] == label).sum())
        if n < MIN_PER_CLASS:
            lost = ", ".join(f"{count.cause}: {count.n}" for count in dataset.counts)
            most = max(dataset.counts, key=lambda count: count.n, default=None)
            if most and not len(dataset) and (way_out := _way_out(most)):
                raise UserError(f"no row of {dataset.name!r} is left: {most.cause}{way_out} (left out: {lost})")
            raise UserError(
                f"{dataset.name!r} has {n} usable row{'s' * (n != 1)} of label {label}, and {MIN_PER_CLASS} per class "
                "are needed: "
                "give more rows, or leave the file out" + (f" (rows left out: {lost})" if lost else "")
            )


def _way_out(count: Count) -> str:
    """Advice that would keep rows that one cause took; "" where their file has to change."""
    if count.cause.startswith("no token at"):
        return "; choose other --positions (raw texts have no prefix and no suffix, --format chat has)"
    if count.cause.startswith(NEAR_TRAINING):
        return "; give another file, or keep near-copies with --leaks keep-all"
    return ""


def _faults() -> Iterator[tuple[str, Callable[[pd.DataFrame], pd.Series]]]:
    yield "no label", lambda f: f["label"].isna()
    yield "no text", lambda f: ~f["text"].map(lambda t: isinstance(t, str) and bool(t.strip()))
    yield "conflicting labels", lambda f: f["label"].groupby(f["text"].str.strip()).transform("nunique") > 1
    yield "duplicate", lambda f: pd.DataFrame({"text": f["text"].map(canonical), "label": f["label"]}).duplicated()


def _require_binary(labels: pd.Series, name: str) -> None:
    other = sorted(set(labels.unique().tolist()) - {0, 1}, key=str)
    if other:
        shown = ", ".join(map(repr, other[:5]))
        raise UserError(
            f"{name!r} has labels other than 0 and 1: {shown}; recode them, or name those that count as 1 with "
            "`positive` in a recipe file"
        )
