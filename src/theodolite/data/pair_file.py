"""Pairs of texts with an answer each, for patching: `clean, counterfactual, answer, counter_answer[, group]`."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from theodolite.core.errors import UserError, unknown
from theodolite.data.dataset import content_hash
from theodolite.data.sources import cells, file, tables

COLUMNS = ("clean", "counterfactual", "answer", "counter_answer")


@dataclass(frozen=True)
class Pair:
    """A text and its counterfactual, the continuation that each calls for, and the group that pairs are divided by."""

    clean: str
    counterfactual: str
    answer: str
    counter_answer: str
    group: str

    def texts(self) -> tuple[str, str]:
        """The text and its counterfactual."""
        return self.clean, self.counterfactual


def is_pair_table(columns: list[str]) -> bool:
    """Return whether a table with these columns is one of pairs.

    >>> is_pair_table(["clean", "counterfactual", "answer"]), is_pair_table(["text", "label"])
    (True, False)
    """
    return {"clean", "counterfactual"} <= set(columns)


def load(path: str | Path) -> list[Pair]:
    """Read the pairs of a CSV, TSV, JSONL, JSON or Parquet file, exactly as they are written.

    A pair without a group has one of its own. Raises a `UserError` with the row where a pair cannot be used.
    """
    found = read(path)
    if not found:
        raise UserError(f"{str(path)!r} holds no pairs")
    for row, pair in enumerate(found):
        if wrong := faults(pair):
            raise UserError(f"{str(path)!r}: row {row} (the first is 0): {wrong[0]}")
    return found


def read(path: str | Path) -> list[Pair]:
    """Read the pairs of a file as they are, sound or not; a blank line is none."""
    path = Path(path).expanduser()
    table = tables.parse({path.name: file.read(str(path))}, blank=True, single=COLUMNS)
    for name in COLUMNS:
        if name not in table.columns:
            raise unknown(f"column of {path.name!r}", name, map(str, table.columns))
    texts = pd.DataFrame({name: cells.texts(table[name], path.name) for name in COLUMNS})
    texts["group"] = cells.words(table["group"]) if "group" in table.columns else None
    texts = texts[(texts[list(COLUMNS)] != "").any(axis=1)]
    return [
        Pair(clean, other, answer, counter, group or f"pair:{content_hash(clean + chr(0) + other)}")
        for clean, other, answer, counter, group in texts.itertuples(index=False)
    ]


def faults(pair: Pair) -> list[str]:
    """Reasons why a pair says nothing: an empty text, or two that are the same.

    >>> faults(Pair("The cat", "The cats", " sits", " sits", "a"))
    ['both answers are the same']
    """
    found = [f"{name} is empty" for name in COLUMNS if not getattr(pair, name).strip()]
    if pair.clean == pair.counterfactual:
        found.append("clean and counterfactual are the same text")
    if pair.answer.strip() and pair.answer == pair.counter_answer:
        found.append("both answers are the same")
    return found
