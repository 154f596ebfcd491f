"""`theodolite read`: a method of a finished Run on new texts, token by token or row by row."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from theodolite.comparison.fitted_reader import SCORED, SELECTED, FittedReader
from theodolite.comparison.read_values import Reading
from theodolite.core.errors import UserError, unknown
from theodolite.core.run import Run
from theodolite.core.run_folder import refuse_to_replace
from theodolite.core.tick import Tell, silent
from theodolite.data.sources import cells
from theodolite.data.sources.file import read
from theodolite.data.sources.tables import parse
from theodolite.models.model import Model
from theodolite.study.request import is_table

TEXTS = 256  # of a file at a time: states of all their tokens are in memory


def read_text(
    run: str | Path,
    text: str | None,
    *,
    method: str | None = None,
    model: Model | str | Path | None = None,
    sae: Sequence[str] | None = None,
) -> Reading:
    """The reading of one text.

    method: one of the run's, or `file.py:Class` for a method of your own: the file that the run was made with. model,
    sae: where the model and the dictionaries lie now, if not where the run read them; their weights must be the same.
    """
    if not text or not text.strip():
        raise UserError("no text to read: give one, or a file with --in")
    if (broken := re.search("[\ud800-\udfff]", text)) is not None:
        raise UserError(f"the text is not UTF-8: half a character at position {broken.start()}; give it whole")
    fitted = FittedReader(Run.open(run), method, model, sae)
    if fitted.unreadable([text])[0]:
        raise UserError("the text has no token at which the run reads: give a longer one")
    score, probability = fitted.texts([text])
    return Reading(
        method=fitted.about["method"],
        tokens=fitted.tokens(text),
        score=float(score[0]),
        probability=float(probability[0]),
        cut=fitted.left_out(text),
        selection=fitted.selection(text, score),
        blank=bool(fitted.blank([text])[0]),
    )


def read_file(
    run: str | Path,
    file: str | Path,
    *,
    column: str = "text",
    method: str | None = None,
    model: Model | str | Path | None = None,
    sae: Sequence[str] | None = None,
    progress: Tell = silent,
) -> pd.DataFrame:
    """The table of a file with the columns `method`, `score` and `probability` added.

    With a run made with `--admit` also `predicted` (the label), `alpha` (the certified accuracy), `accepted` and the
    `reason` where not. Rows without text or without a token that is read get NaN; these and texts that are longer than
    what the run reads are counted in a warning.
    """
    table = parse({str(file): read(str(file))}, blank=True, single=(column,))
    if column not in table:
        raise unknown("column", column, map(str, table.columns))
    texts = cells.texts(cells.column(table, column, repr(str(file)), "name the text's with --column"), repr(str(file)))
    cells.refuse_half_characters(pd.Series(list(table.columns), name="names", dtype=object), repr(str(file)))
    for other in (table.iloc[:, at] for at in range(table.shape[1])):
        cells.refuse_half_characters(other, repr(str(file)))
    there = (texts.str.strip() != "").to_numpy()
    if not there.any():
        raise UserError(f"column {column!r} of {str(file)!r} holds no text")
    fitted = FittedReader(Run.open(run), method, model, sae)
    if taken := [name for name in (*SCORED, *(SELECTED if fitted.rule else ())) if name in table]:
        raise UserError(f"{str(file)!r} has columns of the names that the reading adds: rename {', '.join(taken)}")
    present, found = texts[there], []
    progress("reading", 0, len(present))
    for start in range(0, len(present), TEXTS):
        chunk = present.iloc[start : start + TEXTS]
        chunk = chunk[~fitted.unreadable(chunk.tolist())]
        if len(chunk):
            found.append(fitted.table(chunk.tolist()).set_axis(chunk.index))
        progress("reading", min(start + TEXTS, len(present)), len(present))
    if not found:
        raise UserError(f"no text in column {column!r} of {str(file)!r} has a token at which the run reads")
    columns = pd.concat(found)
    if missing := int((~there).sum()):
        warnings.warn(f"{missing} of {len(table)} rows have no text: their score is NaN", stacklevel=2)
    if empty := len(present) - len(columns):
        warnings.warn(f"{empty} of {len(table)} rows have no content token: their score is NaN", stacklevel=2)
    scored = present[columns.index].tolist()
    if cut := fitted.cut(scored):
        most = fitted._model().most_tokens(fitted.recipe.format, fitted.recipe.max_tokens)
        warnings.warn(f"{cut} of {len(table)} rows have a text cut at {most} tokens, as in the run", stacklevel=2)
    if blank := int(fitted.blank(scored).sum()):
        warnings.warn(
            f"{blank} of {len(table)} rows have a text without any n-gram that {fitted.about['method']} knows: all of "
            "them get the same score, which says nothing about them",
            stacklevel=2,
        )
    if fitted.rule and fitted.failed_everywhere():
        warnings.warn(
            "`accepted` is about texts like the run's own: the accuracy holds on none of its shifts", stacklevel=2
        )
    columns = columns.reindex(table.index)
    columns["method"] = fitted.about["method"]
    return table.assign(**columns)


def refuse_out(out: Path | None, file: Path) -> None:
    """Refuse a file for the scores whose name promises another format, or that would replace one which is needed."""
    if out is None:
        return
    if is_table(out) and out.suffix.lower() != ".csv":
        raise UserError(f"--out {str(out)!r}: the scores are written as CSV: give a name that ends in .csv")
    if out.exists() and file.exists() and out.samefile(file):
        raise UserError(f"--out {str(out)!r} is the file that is read: choose another")
    refuse_to_replace(out)
