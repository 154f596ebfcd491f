"""A method of a finished run on new texts, token by token or row by row: `open_reader`, and `theodolite read`."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from theodolite.comparison.fitted_reader import SCORED, SELECTED, FittedReader
from theodolite.comparison.read_values import Reading, Selection
from theodolite.core.errors import UserError, unknown
from theodolite.core.run import Run
from theodolite.core.run_folder import refuse_to_replace
from theodolite.core.tick import Tell, silent
from theodolite.data.sources import cells
from theodolite.data.sources.file import read
from theodolite.data.sources.tables import parse
from theodolite.models.model import Model
from theodolite.report.result import Result
from theodolite.study.hardware import DEFAULT, Machine
from theodolite.study.request import is_table

TEXTS = 256  # of a file at a time: states of all their tokens are in memory


class ReaderSession:
    """A fitted reader of a run that scores many texts; model and dictionaries load once, when it is opened.

    Opening compares their weights with those of the run. Every call compares a checksum of the weights, taken where
    they lie, with that at opening, and raises UserError where they changed. `close`, or the end of a `with` block, lets
    go of the model.

    >>> with open_reader("runs/mine", "logistic") as reader:                   # doctest: +SKIP
    ...     scores = reader.score(["How do I sharpen a knife?", "old mill"])
    """

    def __init__(self, fitted: FittedReader) -> None:
        self._fitted: FittedReader | None = fitted

    @property
    def method(self) -> str:
        """Name of the method in the run's tables."""
        return str(self._open().about["method"])

    def score(self, texts: str | Sequence[str]) -> pd.DataFrame:
        """Return one row per text with the columns `method`, `score` and `probability`; NaN where none is read.

        None, a text without words and one without a token that the run reads are not read. With a run made with
        `--admit` also `predicted` (the label), `alpha` (the certified accuracy), `accepted` and the `reason` where not.
        The same list gives the same bits at every call, and those of `read_file`; a text alone, or among others, is
        padded to another length and may differ in the last digits of float32.
        """
        fitted = self._used()
        column = pd.Series([texts] if isinstance(texts, str) else list(texts), dtype=object, name="texts")
        column = column.where(column.notna(), "")
        if wrong := next((text for text in column if not isinstance(text, str)), None):
            raise UserError(f"score reads texts, and {wrong!r:.40} is {type(wrong).__name__}: give a list of strings")
        cells.refuse_half_characters(column, "score")
        there = column[(column.str.strip() != "").to_numpy(bool)]
        found = []
        for start in range(0, len(there), TEXTS):
            chunk = there.iloc[start : start + TEXTS]
            chunk = chunk[~fitted.unreadable(chunk.tolist())]
            if len(chunk):
                found.append(fitted.table(chunk.tolist()).set_axis(chunk.index))
        scored = pd.concat(found) if found else fitted.no_rows()
        return scored.reindex(column.index).assign(method=self.method)

    def tokens(self, text: str) -> list[tuple[str, float]]:
        """Return the tokens that the run reads, each with the score of its own row; none for a reader of the text."""
        return self._used().tokens(_whole(text))

    def selection(self, text: str) -> Selection | None:
        """Return the run's decision about one text; None where it has no selection rule for this method."""
        return self.read(text).selection

    def read(self, text: str) -> Reading:
        """Return the reading of one text; raises UserError where it holds no token that the run reads."""
        fitted, text = self._used(), _whole(text)
        if fitted.unreadable([text])[0]:
            raise UserError("the text has no token at which the run reads: give a longer one")
        score, probability = fitted.texts([text])
        return Reading(
            method=self.method,
            tokens=fitted.tokens(text),
            score=float(score[0]),
            probability=float(probability[0]),
            cut=fitted.left_out(text),
            selection=fitted.selection(text, score),
            blank=bool(fitted.blank([text])[0]),
        )

    def close(self) -> None:
        """Let go of the model and the dictionaries; a model that the caller gave stays the caller's."""
        self._fitted = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> FittedReader:
        if self._fitted is None:
            raise UserError("the reader is closed: open it again with theodolite.open_reader")
        return self._fitted

    def _used(self) -> FittedReader:
        """Return the reader for one call, after a look at its weights."""
        fitted = self._open()
        fitted.check_weights()
        return fitted


def open_reader(
    run: str | Path | Result,
    method: str | None = None,
    *,
    model: Model | str | Path | None = None,
    sae: Sequence[str | Path] | None = None,
    machine: Machine = DEFAULT,
) -> ReaderSession:
    """Open a method of a finished run once, to score many texts.

    method: one of the run's, or `file.py:Class` for a method of your own: the file that the run was made with. model,
    sae: where the model and the dictionaries lie now, if not where the run read them; their weights must be the same.
    """
    folder = run.folder if isinstance(run, Result) else run
    return ReaderSession(FittedReader(Run.open(folder), method, model, sae, machine))


def read_text(
    run: str | Path,
    text: str | None,
    *,
    method: str | None = None,
    model: Model | str | Path | None = None,
    sae: Sequence[str | Path] | None = None,
    machine: Machine = DEFAULT,
) -> Reading:
    """Return the reading of one text; the arguments are those of `open_reader`."""
    whole = _whole(text)
    with open_reader(run, method, model=model, sae=sae, machine=machine) as session:
        return session.read(whole)


def _whole(text: str | None) -> str:
    """Return a text that holds something and no half characters; raises UserError on any other."""
    if not text or not text.strip():
        raise UserError("no text to read: give one, or a file with --in")
    if (broken := re.search("[\ud800-\udfff]", text)) is not None:
        raise UserError(f"the text is not UTF-8: half a character at position {broken.start()}; give it whole")
    return text


def read_file(
    run: str | Path,
    file: str | Path,
    *,
    column: str = "text",
    method: str | None = None,
    model: Model | str | Path | None = None,
    sae: Sequence[str | Path] | None = None,
    machine: Machine = DEFAULT,
    progress: Tell = silent,
) -> pd.DataFrame:
    """Return the table of a file with the columns `method`, `score` and `probability` added.

    With a run made with `--admit` also `predicted` (the label), `alpha` (the certified accuracy), `accepted` and the
    `reason` where not. Rows without text or without a token that is read get NaN; these and texts that are longer than
    what the run reads are counted in a warning.
    """
    table = parse({str(file): read(str(file))}, blank=True, single=(column,))
    if column not in table:
        raise UserError(f"{unknown('column', column, map(str, table.columns))}; name the text's with --column")
    texts = cells.texts(cells.column(table, column, repr(str(file)), "name the text's with --column"), repr(str(file)))
    cells.refuse_half_characters(pd.Series(list(table.columns), name="names", dtype=object), repr(str(file)))
    for other in (table.iloc[:, at] for at in range(table.shape[1])):
        cells.refuse_half_characters(other, repr(str(file)))
    there = (texts.str.strip() != "").to_numpy()
    if not there.any():
        raise UserError(f"column {column!r} of {str(file)!r} holds no text")
    with open_reader(run, method, model=model, sae=sae, machine=machine) as session:
        added = (*SCORED, *(SELECTED if session._open().rule else ()))
        if taken := [name for name in added if name in table]:
            raise UserError(f"{str(file)!r} has columns of the names that the reading adds: rename {', '.join(taken)}")
        columns = _scored(session, texts[there], progress).reindex(table.index).assign(method=session.method)
        if columns["score"].isna().all():
            raise UserError(f"no text in column {column!r} of {str(file)!r} has a token at which the run reads")
        _warn(session._open(), texts, there, columns["score"].notna().to_numpy())
    return table.assign(**columns)


def _scored(session: ReaderSession, texts: pd.Series, progress: Tell) -> pd.DataFrame:
    """Return the session's table of these texts, in parts that progress is told of."""
    found = []
    progress("reading", 0, len(texts))
    for start in range(0, len(texts), TEXTS):
        chunk = texts.iloc[start : start + TEXTS]
        found.append(session.score(chunk.tolist()).set_axis(chunk.index))
        progress("reading", min(start + TEXTS, len(texts)), len(texts))
    return pd.concat(found)


def _warn(fitted: FittedReader, texts: pd.Series, there: np.ndarray, scored: np.ndarray) -> None:
    """Count in warnings the rows of a file that were not scored, were cut, or hold nothing that the reader knows."""
    read_texts, n = texts[scored].tolist(), len(texts)
    if missing := int((~there).sum()):
        warnings.warn(f"{missing} of {n} rows have no text: their score is NaN", stacklevel=3)
    if empty := int((there & ~scored).sum()):
        warnings.warn(f"{empty} of {n} rows have no content token: their score is NaN", stacklevel=3)
    if cut := fitted.cut(read_texts):
        warnings.warn(
            f"{cut} of {n} rows have a text cut at {fitted.most_tokens()} tokens, as in the run", stacklevel=3
        )
    if blank := int(fitted.blank(read_texts).sum()):
        warnings.warn(
            f"{blank} of {n} rows have a text without any n-gram that {fitted.about['method']} knows: all of "
            "them get the same score, which says nothing about them",
            stacklevel=3,
        )
    if fitted.rule and fitted.failed_everywhere():
        warnings.warn(
            "`accepted` is about texts like the run's own: the accuracy holds on none of its shifts", stacklevel=3
        )


def refuse_out(out: Path | None, file: Path) -> None:
    """Refuse a file for the scores whose name promises another format, or that would replace one which is needed."""
    if out is None:
        return
    if is_table(out) and out.suffix.lower() != ".csv":
        raise UserError(f"--out {str(out)!r}: the scores are written as CSV: give a name that ends in .csv")
    if out.exists() and file.exists() and out.samefile(file):
        raise UserError(f"--out {str(out)!r} is the file that is read: choose another")
    refuse_to_replace(out)
