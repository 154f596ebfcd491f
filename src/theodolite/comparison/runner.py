"""`theodolite.compare`: arrays are compared here; recipes of any kind and tables go to the analysis of their kind."""

from dataclasses import replace

from theodolite.comparison.arrays import compare_rows
from theodolite.core.errors import UserError
from theodolite.core.tick import Tell
from theodolite.report.automatic import automatic
from theodolite.report.result import Result
from theodolite.study.analysis import Plan
from theodolite.study.compare_request import CompareRequest, by_field
from theodolite.study.given_methods import in_words
from theodolite.study.option import listed
from theodolite.study.runner import carry_out

# Arguments that apply to (X, y): there is no text and no model, so nothing about them can be asked for
ROWS_TAKE = ("methods", "groups", "seeds", "margin", "out", "force", "progress", "command")


@by_field(CompareRequest)
def compare(request: CompareRequest) -> Result | Plan:
    """Compare methods on one labelled concept and return the finished run, or with `dry_run` what it would take.

    data: a recipe's name, a recipe file, a CSV, TSV, JSONL, JSON or Parquet file, a DataFrame, or `(X, y)` with rows of
    your own (no model is read then; `groups`, one value per row, says which belong together). model: a name or a loaded
    `theodolite.Model`. shifts: files or DataFrames. methods: names, files, or classes and instances of readers. One
    value alone is a list of one; `shift`, `method` and `site` are accepted for their plurals. A finished run of the
    same recipe is opened, an unfinished one goes on. `compare(CompareRequest(...), seeds=3)` takes a request, changed.

    >>> run = compare("mine.csv", text="prompt", label="harmful")   # doctest: +SKIP
    >>> run.table()                                                 # doctest: +SKIP
    """
    if request.methods is not None:
        request = replace(request, methods=in_words(listed(request.methods) or ()))
    with automatic(request.progress) as progress:
        if isinstance(request.data, tuple):
            return _of_rows(request, progress)
        if request.groups is not None:
            raise UserError("groups belongs to compare((X, y)): for a file or a recipe, group names a column")
        return carry_out(request, progress)


def _of_rows(request: CompareRequest, progress: Tell) -> Result:
    """Compare readers of rows; arguments about texts or a model are refused."""
    assert isinstance(request.data, tuple)
    if len(request.data) != 2:
        raise UserError(f"a tuple is (X, y), with groups=: got {len(request.data)} values")
    if given := [name for name in request.given() if name not in ROWS_TAKE]:
        raise UserError(
            f"compare((X, y)) reads no text and no model, so {', '.join(given)} cannot apply: "
            "leave them out, or give a file"
        )
    return compare_rows(request, progress)
