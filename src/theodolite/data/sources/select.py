"""From a table to labelled texts: which column, which rows, which label."""

import re
from typing import Any

import pandas as pd

from theodolite.core.errors import UserError, unknown
from theodolite.core.recipe import Source
from theodolite.core.seeds import generator

LONGEST = 1_000_000


def select(table: pd.DataFrame, source: Source, text: str | None, place: tuple[str, ...], seed: int) -> pd.DataFrame:
    """The rows a source asks for, with columns `text`, `label` and every other plain column of the table.

    In this order: `where`, the text column, `cut`, strip, `keep`, `drop`, label, then `skip` and `sample` along one
    seeded permutation of what is left. It depends on `place`, `seed` and the number of rows: two sources that differ
    only in `sample: 300` and `skip: 300` share no row. Rows keep the table's order.
    """
    origin = f"source {source.source!r}"
    if not len(table):
        raise UserError(f"{origin} holds no rows")
    table = _where(table, source, origin)
    texts = _texts(table, text, origin)
    if source.cut:
        texts = texts.str.split(source.cut, n=1, regex=False).str[0].str.strip()
    keep = pd.Series(True, index=table.index)
    if source.keep is not None:
        keep &= texts.str.contains(_pattern(source.keep, origin))
    if source.drop is not None:
        keep &= ~texts.str.contains(_pattern(source.drop, origin))
    if not keep.any():
        raise UserError(f"{origin}: no row is left after where, keep and drop ({len(keep)} were read)")
    others = table[keep].drop(columns=["text", "label", text or "text"], errors="ignore")
    labels = _labels(table[keep], source, origin)
    frame = pd.concat([texts[keep].rename("text"), labels, others], axis=1)
    return _sampled(frame, source, place, seed, origin).reset_index(drop=True)


def _where(table: pd.DataFrame, source: Source, origin: str) -> pd.DataFrame:
    for column, wanted in source.where.items():
        values = wanted if isinstance(wanted, list) else [wanted]
        table = table[_column(table, column, origin, "correct it in `where`").isin(values)]
    return table


def _texts(table: pd.DataFrame, name: str | None, origin: str) -> pd.Series:
    """Missing texts become empty ones, which cleaning counts; a text this long is refused, not cut.

    A million characters is nearly always an unclosed quote that swallowed the rest of the file, and cutting it would
    hide that.
    """
    column = _column(table, name or "text", origin, "name the text's with --text, or `field` in a recipe")
    texts = column.astype(object).where(column.notna(), "").astype(str).str.strip()
    long = texts.str.len() >= LONGEST
    if long.any():
        row, n = long.idxmax(), int(texts.str.len()[long].iloc[0])
        raise UserError(f"{origin}: row {row} has a text of {n:,} characters; look for an unclosed quote, or split it")
    return texts


def _labels(table: pd.DataFrame, source: Source, origin: str) -> pd.Series:
    """One constant for all, or a column mapped to 0 and 1; anything else is refused, nothing is guessed."""
    if not isinstance(source.label, str):
        values = [source.label] * len(table)
        return pd.Series(values, index=table.index, name="label", dtype=object if source.label is None else int)
    column = _column(table, source.label, origin, "name the label's with --label, or `label` in a recipe")
    if missing := int(column.isna().sum()):
        raise UserError(
            f"{origin}: {missing} labels in column {source.label!r} are missing, "
            f"the first in row {column.isna().idxmax()}: fill them or drop those rows"
        )
    if source.positive is not None:
        _check_positive(column, source.positive, origin)
        return column.isin(source.positive).astype(int).rename("label")
    numbers = pd.to_numeric(column, errors="coerce")
    if not numbers.isin([0, 1]).all():
        seen = ", ".join(map(repr, column.unique()[:8].tolist()))
        raise UserError(
            f"{origin}: labels must be 0 or 1, column {source.label!r} has {seen}; "
            "recode them, or name the positive ones (--positive, or `positive` in a recipe)"
        )
    return numbers.astype(int).rename("label")


def _check_positive(column: pd.Series, positive: list[Any], origin: str) -> None:
    """A positive value that never occurs is a typing error, and would quietly turn its rows into negatives."""
    seen = column.unique().tolist()
    for value in positive:
        if value not in seen:
            raise unknown(f"positive label of {origin}", str(value), map(str, seen[:20]))


def _sampled(frame: pd.DataFrame, source: Source, place: tuple[str, ...], seed: int, origin: str) -> pd.DataFrame:
    if source.sample is None and source.skip == 0:
        return frame
    wanted = source.skip + (source.sample or 1)
    if wanted > len(frame):
        raise UserError(
            f"{origin} has {len(frame)} rows, but skip={source.skip} and sample={source.sample} need {wanted}"
        )
    order = generator(seed, "sample", *place).permutation(len(frame))
    end = None if source.sample is None else wanted
    return frame.iloc[sorted(order[source.skip : end])]


def _column(table: pd.DataFrame, name: str, origin: str, remedy: str) -> pd.Series:
    if name not in table.columns:
        raise UserError(f"{unknown(f'column of {origin}', name, map(str, table.columns))}; {remedy}")
    return table[name]


def _pattern(text: str, origin: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise UserError(f"{origin}: {text!r} is not a regular expression: {error}") from None
