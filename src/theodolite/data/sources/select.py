"""Labelled texts from a table: which column, which rows, which label."""

import re

import pandas as pd

from theodolite.core.errors import UserError, unknown
from theodolite.core.recipe import Source
from theodolite.core.seeds import generator
from theodolite.data.sources import cells
from theodolite.data.sources.tables import column_of

LONGEST = 1_000_000


def group_column(source: Source) -> str:
    """Name of the column in which `select` keeps groups: its own, unless `text` or `label` needs that name.

    >>> group_column(Source(source="s", group="user")), group_column(Source(source="s", field="prompt", group="label"))
    ('user', 'label (group)')
    """
    taken = ("text", "label", column_of(source.field) if source.field else "text")
    return f"{source.group} (group)" if source.group in taken else str(source.group)


def select(table: pd.DataFrame, source: Source, text: str | None, place: tuple[str, ...], seed: int) -> pd.DataFrame:
    """The rows a source asks for, with columns `text`, `label` and every other plain column of the table.

    Where labels are mapped (`positive`), `attrs["labels"]` of the result counts rows by (1 or 0, label as given).
    Texts of a user's own file stay as written; those of other sources lose the spaces around them. In this order:
    `where`, the text column, strip, `cut`, `keep`, `drop`, label, then `skip` and `sample` along one
    seeded permutation of what is left. It depends on `place`, `seed` and the number of rows: two sources that differ
    only in `sample: 300` and `skip: 300` share no row. Rows keep the table's order.
    """
    origin = f"source {source.source!r}"
    if not len(table):
        raise UserError(f"{origin} holds no rows")
    table = _where(table, source, origin)
    texts = _texts(table, text, source, origin)
    if source.cut:
        texts = texts.str.split(source.cut, n=1, regex=False).str[0].str.strip()
    keep = pd.Series(True, index=table.index)
    if source.keep is not None:
        keep &= _found(source.keep, texts, origin)
    if source.drop is not None:
        keep &= ~_found(source.drop, texts, origin)
    if not keep.any():
        raise UserError(f"{origin}: no row is left after where, keep and drop ({len(keep)} were read)")
    labels = _labels(table[keep], texts[keep], source, origin)
    others = table[keep].drop(columns=["text", "label", text or "text"], errors="ignore")
    others = others.loc[:, [not others.iloc[:, i].map(cells.is_nested).any() for i in range(others.shape[1])]]
    if source.group is not None and source.group in table and group_column(source) != source.group:
        column = cells.column(table[keep], source.group, origin, "group by another column")
        others = others.assign(**{group_column(source): column})
    frame = pd.concat([texts[keep].rename("text"), labels, others], axis=1)
    chosen = _sampled(frame, source, place, seed, origin)
    found = _given(table.loc[chosen.index], chosen, source)
    chosen = chosen.reset_index(drop=True)
    chosen.attrs["labels"] = found
    return chosen


def _given(table: pd.DataFrame, chosen: pd.DataFrame, source: Source) -> dict[tuple[int, str], int]:
    if source.positive is None or not isinstance(source.label, str):
        return {}
    given = cells.words(table[source.label])
    pairs = pd.Series(list(zip(chosen["label"], given, strict=True)), dtype=object)[given.notna().to_numpy()]
    return {(int(value), str(word)): int(n) for (value, word), n in pairs.value_counts(sort=False).items()}


def _where(table: pd.DataFrame, source: Source, origin: str) -> pd.DataFrame:
    for name, wanted in source.where.items():
        values = {cells.word(value) for value in (wanted if isinstance(wanted, list) else [wanted])}
        column = cells.column(table, name, origin, "correct it in `where`")
        table = table[cells.words(column).isin(values).to_numpy()]
    return table


def _texts(table: pd.DataFrame, name: str | None, source: Source, origin: str) -> pd.Series:
    """Missing texts become empty ones, which cleaning counts; a text this long is refused, not cut.

    A million characters is nearly always an unclosed quote that swallowed the rest of the file, and cutting it would
    hide that.
    """
    column = cells.column(table, name or "text", origin, "name the text's with --text, or `field` in a recipe")
    texts = cells.texts(column, origin)
    if source.file is None:
        texts = texts.str.strip()
    long = texts.str.len() >= LONGEST
    if long.any():
        row, n = long.idxmax(), int(texts.str.len()[long].iloc[0])
        raise UserError(f"{origin}: row {row} has a text of {n:,} characters; look for an unclosed quote, or split it")
    return texts


def _labels(table: pd.DataFrame, texts: pd.Series, source: Source, origin: str) -> pd.Series:
    """One constant for all, or a column mapped to 0 and 1; anything else is refused, nothing is guessed.

    A row with neither text nor label (a blank line) is no error: cleaning counts it as a row without text.
    """
    if not isinstance(source.label, str):
        values = [source.label] * len(table)
        return pd.Series(values, index=table.index, name="label", dtype=object if source.label is None else int)
    found = cells.column(table, source.label, origin, "name the label's with --label, or `label` in a recipe")
    cells.refuse_half_characters(found.astype(object), origin)
    cells.refuse_lists(found, origin)
    labels = cells.words(found)
    missing = labels.isna() & (texts.str.strip() != "")
    if missing.any():
        raise UserError(
            f"{origin}: {int(missing.sum())} labels in column {source.label!r} are missing, "
            f"the first in row {missing.idxmax()}: fill them or drop those rows"
        )
    there = labels.dropna()
    numbers = _positive(there, source, origin) if source.positive is not None else _binary(there, source.label, origin)
    return numbers.reindex(labels.index, fill_value=0).astype(int).rename("label")


def _positive(labels: pd.Series, source: Source, origin: str) -> pd.Series:
    """1 where a label is one of the positive ones, by value.

    A positive value that never occurs is a typing error, and would quietly turn its rows into negatives; so would
    another spelling of one that does ('Yes' beside 'yes', or the same word in other code points).
    """
    wanted = {cells.word(value): value for value in source.positive or []}
    seen = set(labels.unique())
    for value in wanted:
        if value not in seen:
            raise unknown(f"positive label of {origin}", str(wanted[value]), sorted(map(str, seen))[:20])
    spelling = {cells.simplified(str(value)): value for value in wanted}
    for value in sorted(seen - wanted.keys()):
        if (meant := spelling.get(cells.simplified(value))) is not None:
            one_case = value.casefold() == str(meant).casefold()
            how = "in case alone" if one_case else f"in what cannot be seen ({value!a} and {meant!a})"
            raise UserError(
                f"{origin}: the label {value!r} would count as 0, and {meant!r}, which differs {how}, as 1: "
                "write them alike, or name both (--positive, or `positive` in a recipe)"
            )
    return labels.isin(list(wanted)).astype(int)


def _binary(labels: pd.Series, name: str, origin: str) -> pd.Series:
    found = labels.map(cells.BINARY)
    if found.isna().any():
        seen = ", ".join(map(repr, labels.unique()[:8].tolist()))
        raise UserError(
            f"{origin}: labels must be 0 or 1, column {name!r} has {seen}; "
            "recode them, or name the positive ones (--positive, or `positive` in a recipe)"
        )
    return found


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


def _found(text: str, texts: pd.Series, origin: str) -> pd.Series:
    """Return in which texts a regular expression matches; groups in it are no matter, of which pandas would warn."""
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UserError(f"{origin}: {text!r} is not a regular expression: {error}") from None
    return texts.map(lambda text: pattern.search(text) is not None).astype(bool)
