"""The sources of one data set read, cleaned and put under each other, with what left counted."""

from collections.abc import Sequence

import pandas as pd

from theodolite.core.errors import UserError
from theodolite.core.recipe import Source
from theodolite.data import sources
from theodolite.data.answers import AskModel, ask
from theodolite.data.clean import clean
from theodolite.data.dataset import Dataset, identified, in_order
from theodolite.data.sources import cells
from theodolite.data.sources.select import group_column

Given = dict[tuple[int, str], int]  # rows by what a label counts as and how it was given
SHOWN_LABELS = 20  # of each side, the most frequent
BASE_RATE = (0.3, 0.7)  # outside, a model at the floor or the ceiling leaves little to predict


def gather(name: str, parts: Sequence[Source], seed: int, answer: AskModel | None = None, note: str = "") -> Dataset:
    """One data set from its sources: all columns of a `Dataset` but `cluster`, and `group` ("" where there is none).

    The rows are in an order of their own (`in_order`), whatever that of the files.
    """
    frames, labels = zip(*(_read(part, seed, answer) for part in parts), strict=True)
    frame, counts = clean(in_order(pd.concat(frames, ignore_index=True)), name)
    return Dataset(
        name=name,
        frame=identified(frame),
        licence="; ".join(sorted({part.licence for part in parts})),
        redistributable=all(part.redistributable for part in parts),
        note=" ".join(filter(None, [note, _base_rate(frame) if any(part.choices for part in parts) else ""])),
        counts=tuple(counts),
        remarks=(*_mapping(name, labels), *_ungrouped(name, parts, frame)),
    )


def _mapping(name: str, read: Sequence[Given]) -> list[tuple[str, int, str]]:
    """Labels that count as 1 and as 0, where words had to be mapped; rows as read, before cleaning."""
    total: Given = {}
    for labels in read:
        for key, n in labels.items():
            total[key] = total.get(key, 0) + n
    if not total:
        return []
    sides = []
    for value in (1, 0):
        words = sorted(((word, n) for (side, word), n in total.items() if side == value), key=lambda pair: -pair[1])
        rest = [f"{len(words) - SHOWN_LABELS} others"] if len(words) > SHOWN_LABELS else []
        shown = ", ".join([*(f"{word} ({n})" for word, n in words[:SHOWN_LABELS]), *rest])
        sides += [f"{value}: {shown}"] if words else []
    return [("labels mapped", sum(total.values()), f"labels of {name} count as {'; '.join(sides)}")]


def _ungrouped(name: str, parts: Sequence[Source], frame: pd.DataFrame) -> list[tuple[str, int, str]]:
    """Usable rows whose group is empty, where a group column was named."""
    grouped = {part.source for part in parts if part.group is not None}
    n = int((frame["source"].isin(grouped) & (frame["group"] == "")).sum())
    return [("without a group", n, f"rows of {name} have no group: each is a group of its own")] if n else []


def _read(part: Source, seed: int, answer: AskModel | None) -> tuple[pd.DataFrame, Given]:
    frame = sources.rows(part, seed)
    labels: Given = frame.attrs.pop("labels", {})
    group = _group(frame, part)  # before rows are moved, so that an error names a row by its number in the file
    order = in_order(frame[["text"]]).index  # that in which a model answers
    frame, group = (part_of.loc[order].reset_index(drop=True) for part_of in (frame, group))
    if part.choices:
        frame = ask(frame, part.choices, answer, part.source)
    elif frame["label"].isna().all():
        raise UserError(f"source {part.source!r} says nothing about its labels: give `label` (0, 1 or a column)")
    columns = {"text": frame["text"], "label": frame["label"], "source": part.source, "group": group}
    return pd.DataFrame(columns), labels


def _group(frame: pd.DataFrame, part: Source) -> pd.Series:
    if part.group is None:
        return pd.Series("", index=frame.index)
    name = group_column(part)  # `text` and `label` of the frame are those of the model, whatever the file calls so
    if name not in frame:
        raise UserError(f"source {part.source!r} has no column {part.group!r} to group by (it has {', '.join(frame)})")
    column = cells.column(frame, name, f"source {part.source!r}", "group by another column")
    cells.refuse_half_characters(column.astype(object), f"source {part.source!r}")
    value = cells.words(column)  # by value: 1 of one file is 1.0 of another that lacks some
    blank = value.isna()  # else all rows without a group were one group
    # In files of the user's own a value of one column is one group, whatever the files are called: the same users may
    # be in two of them. Published sources number their groups each in its own way.
    of = part.group if part.file is not None else part.source
    return (of + ":" + value.astype(str)).mask(blank, "")


def _base_rate(frame: pd.DataFrame) -> str:
    rate = frame["label"].mean()
    warning = "" if BASE_RATE[0] <= rate <= BASE_RATE[1] else "; outside 30-70 %: few rows carry it"
    return f"Base rate: the model answers {rate:.1%} of {len(frame)} right{warning}."
