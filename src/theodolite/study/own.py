"""A user's own labelled files, or a DataFrame, as a recipe."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from theodolite.core.atomic import file_sha256, publish
from theodolite.core.errors import UserError
from theodolite.core.recipe import Recipe, Shift, Source, validated
from theodolite.data.sources import cells, file
from theodolite.data.sources.tables import column_of, parse, stem_of
from theodolite.study.compare_request import CompareRequest
from theodolite.study.option import listed


@dataclass(frozen=True)
class FileColumns:
    """Columns of a user's file by their role; the values of `label` that count as 1, by value."""

    text: str
    label: str
    positive: tuple[str, ...] = ()
    group: str | None = None


def on_disk(request: CompareRequest, cache: Path) -> CompareRequest:
    """The request with every table as a file: the named columns of a DataFrame in the cache, a shift by its number."""
    columns: dict[str, Any] = {"text": request.text, "label": request.label, "group": request.group}
    shifts = [
        as_path(each, cache, **columns, name=f"shift {number}")
        for number, each in enumerate(listed(request.shifts) or (), start=1)
    ]
    table = None if request.table is None else as_path(request.table, cache, **columns)
    return replace(request, data=as_path(request.data, cache, **columns), shifts=shifts, table=table)


def as_path(
    data: Any,
    cache: Path,
    *,
    text: str | None = None,
    label: str | None = None,
    group: str | None = None,
    name: str = "the DataFrame",
) -> str | Path:
    """A name or path as it is; the named columns of a DataFrame as a Parquet file in the cache, by content.

    name: what the DataFrame is called in a Run, and where its rows are refused.
    """
    if isinstance(data, str | Path):
        return data
    if not isinstance(data, pd.DataFrame):
        raise UserError(
            f"data is a {type(data).__name__}: give the name of a recipe or file, a pandas DataFrame, or (X, y)"
        )
    if isinstance(data.columns, pd.MultiIndex):
        raise UserError(
            f"the DataFrame has columns of {data.columns.nlevels} levels: give it plain names, for example "
            "data.columns = ['_'.join(map(str, name)) for name in data.columns]"
        )
    table = data.reset_index(drop=True)
    texts = cells.texts(
        cells.column(table, text or "text", "the DataFrame", "name the text's with text="), "the DataFrame"
    )
    kept = {text or "text": texts}
    for column_name, remedy in (
        (label or "label", "name the label's with label="),
        (group, "name the group's with group="),
    ):
        if column_name is not None and column_name not in kept:  # texts stay as written also where they are groups
            column = cells.column(table, column_name, "the DataFrame", remedy)
            if column_name != group:
                cells.refuse_lists(column, "the DataFrame")
            column = cells.words(column)
            cells.refuse_half_characters(column, "the DataFrame")
            kept[column_name] = column
    content = pd.DataFrame(kept).to_parquet(index=False)
    path = cache / "inputs" / hashlib.sha256(content).hexdigest()[:16] / f"{name}.parquet"
    if not path.is_file() or path.read_bytes() != content:
        publish(path, content)
    return path


def from_files(
    path: Path,
    shifts: Sequence[str | Path],
    *,
    text: str,
    label: str,
    positive: Sequence[Any] | None = None,
    group: str | None = None,
) -> Recipe:
    """A recipe for a user's own file; the files' hashes are part of it, so that an edited file is another recipe.

    A shift may hold rows of one label only: it then gives the rate of false alarms, or of detection, and contrasts are
    decided on another one. No question is made up for prompting.
    """
    columns = FileColumns(text, label, _words(positive), group)
    stems = [stem_of(str(s)) for s in shifts]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise UserError(f"two --shift files are called {', '.join(twice)}: a shift is named by its file, rename one")
    train = _source(path, columns)
    extra = {stem: _shift(Path(s), columns, path) for stem, s in zip(stems, shifts, strict=True)}
    named = ", ".join(columns.positive)
    fields = {
        "name": stem_of(path.name),
        "title": stem_of(path.name),
        "positive": named or f"{label} = 1",
        "negative": f"not {named}" if named else f"{label} = 0",
        "question": "",
        "train": [train],
        "shifts": extra,
        "primary": next((name for name, shift in extra.items() if not shift.one_class), None),
        "private": True,
    }
    return validated(fields, path.name)


def _words(positive: Sequence[Any] | None) -> tuple[str, ...]:
    words = [cells.word(value) for value in positive or ()]
    if None in words:
        raise UserError("--positive holds an empty value: a row without a label counts as neither 1 nor 0")
    return tuple(filter(None, words))


def _source(path: Path, columns: FileColumns, **fields: Any) -> Source:
    path = path.expanduser()
    file.refuse_pipe(path)
    if not path.is_file():
        raise UserError(f"no file {str(path)!r}")
    return Source(
        **{
            "source": stem_of(path.name),
            "file": str(path.resolve()),
            "revision": file_sha256(path),
            "field": columns.text,
            "label": columns.label,
            "positive": list(columns.positive) or None,
            "group": columns.group,
            "licence": "yours",
            "redistributable": False,
            **fields,
        }
    )


def _shift(path: Path, columns: FileColumns, train: Path) -> Shift:
    """A shift, told apart by the labels it holds; those of words are read as the training file's are."""
    source = _source(path, columns)
    seen = _labels(source)
    if not seen:  # no row, or one without a label: which, is said when the rows are read
        return Shift(rows=[source])
    if not columns.positive:
        values = {cells.BINARY.get(word) for word in seen}
        only = values.pop() if len(values) == 1 else None
        return Shift(rows=[source], one_class=only is not None, over_refusal=only == 0)
    wanted = [word for word in columns.positive if word in seen]
    known = _labels(_source(train, columns))
    # Training rows without a label are refused, by their number, when they are read
    if known is not None and (strange := sorted(seen - known - set(columns.positive))):
        words = ", ".join(map(repr, strange[:5]))
        raise UserError(
            f"{'some labels' if wanted else 'no label'} of --shift {path.name!r} "
            f"{'are not' if wanted else 'is'} among --positive {', '.join(columns.positive)}, and the training "
            f"file has no label {words}: give both files the same words"
        )
    # Without a positive label every row is 0; the column is still read, so that its labels are shown
    mapped = source.model_copy(update={"positive": wanted})
    return Shift(rows=[mapped], one_class=not wanted or seen <= set(wanted), over_refusal=not wanted)


def _labels(source: Source) -> set[str] | None:
    """The labels of the rows that have a text, by value; None where one of them is missing."""
    assert source.file is not None
    assert source.field is not None
    assert isinstance(source.label, str)
    text = column_of(source.field)
    content = {source.file: file.read(source.file)}
    table = parse(content, field=source.field, blank=True, single=(text, source.label))
    origin = f"source {source.source!r}"
    column = cells.column(table, text, origin, "name the text's with --text")
    has_text = cells.texts(column, origin).str.strip() != ""
    labels = cells.words(cells.column(table, source.label, origin, "name the label's with --label"))[has_text]
    return None if labels.isna().any() else set(labels)
