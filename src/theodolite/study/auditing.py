"""`theodolite data audit` and `data verify`: what can be known before any model runs."""

from collections.abc import Iterator, Sequence

from theodolite.core.errors import UserError
from theodolite.data import concept
from theodolite.data.audit import Audit, audit_file
from theodolite.data.audit import audit as audit_rows
from theodolite.data.verify import verify as verify_sources
from theodolite.report.audit import may_not_be_quoted
from theodolite.study.analysis import load_recipe
from theodolite.study.request import is_table, named


def audit(
    what: str,
    *,
    text: str = "text",
    label: str = "label",
    positive: Sequence[str] | None = None,
    group: str | None = None,
) -> Audit:
    """The audit of a recipe's data, or of a labelled CSV, TSV, JSONL, JSON or Parquet file of one's own."""
    if is_table(what):
        return audit_file(what, text=text, label=label, positive=positive, group=group)
    found = concept.load(named(what))
    return audit_rows(found.train, found.shifts)


def hidden(what: str) -> bool:
    """Return whether an audit may show its words only on request; it may show those of one's own file.

    >>> hidden("harmful-intent"), hidden("truth"), hidden("mine.csv")
    (True, False, False)
    """
    return not is_table(what) and may_not_be_quoted(named(what).model_dump())


def verify(recipe: str) -> Iterator[str]:
    """One line per source of a recipe: rows by label, or what went wrong; an error at the end if anything did."""
    checks = verify_sources(load_recipe(recipe))
    for c in checks:
        labels = ", ".join(f"label {label}: {n}" for label, n in sorted(c.labels.items()))
        yield f"{c.dataset:40} {c.source:24} " + (c.problem or f"{c.n:6} rows  {labels}")
    if failed := [c.source for c in checks if c.problem]:
        raise UserError(f"{len(failed)} of {len(checks)} sources cannot be read: {', '.join(failed)}")
