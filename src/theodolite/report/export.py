"""`theodolite report`: one run, or several laid over each other, as HTML, LaTeX, SVG or CSV."""

from collections.abc import Callable, Sequence
from pathlib import Path

from theodolite.core.atomic import publish
from theodolite.core.errors import UserError, unknown
from theodolite.core.recipe import COMPARE
from theodolite.core.run import Run
from theodolite.core.run_folder import refuse_to_replace
from theodolite.core.visible import csv
from theodolite.report import html, overlay, pairing
from theodolite.report.latex import latex
from theodolite.report.pages import kind_of, page_of, require_comparison
from theodolite.report.plots import KINDS
from theodolite.report.sheet import Sheet, open_finished

Files = dict[str, str]


def write(
    folders: Sequence[str | Path],
    *,
    format: str = "html",
    out: str | Path | None = None,
    show_text: bool = False,
) -> Path:
    """Write the export and return where it is: a file, or for SVG a folder of figures.

    Without `out` a run's page is its report.html, and everything else goes into `exports/` of the first Run folder.
    """
    runs = [open_finished(folder) for folder in folders]
    if not runs:
        raise UserError("name at least one Run folder")
    if len(runs) > 1 or format == "latex":
        for run in runs:
            require_comparison(run, "LaTeX" if format == "latex" else "an overlay of several runs")
    formats: dict[str, Callable[[], Files]] = {
        "html": lambda: _html(runs, show_text),
        "latex": lambda: _latex(runs),
        "svg": lambda: _svg(runs),
        "csv": lambda: _csv(runs),
    }
    if format not in formats:
        raise unknown("format", format, formats)
    files = formats[format]()
    if format == "svg":
        return _figures(files, runs[0], Path(out) if out else None)
    ((name, text),) = files.items()
    if not out:
        return runs[0].write_page(name if name == "report.html" else f"exports/{name}", text.encode())
    path = Path(out)
    if path.is_dir():
        path /= name
    refuse_to_replace(path)
    publish(path, text.encode())
    return path


def _html(runs: Sequence[Run], show_text: bool) -> Files:
    if len(runs) == 1:
        return {"report.html": html.page(runs[0], show_text=show_text)}
    return {"overlay.html": html.render(*overlay.page(runs))}


def _latex(runs: Sequence[Run]) -> Files:
    return {"report.tex": latex(Sheet(runs[0]))} if len(runs) == 1 else {"overlay.tex": overlay.latex(runs)}


def _svg(runs: Sequence[Run]) -> Files:
    if len(runs) > 1:
        return {"overlay.svg": overlay.chart(Sheet(runs[0]), pairing.paired(runs)).svg()}
    if kind_of(runs[0]) == COMPARE:
        sheet = Sheet(runs[0])
        charts = {kind: draw(sheet) for kind, draw in KINDS.items()}
    else:
        charts = {name: draw(runs[0]) for name, draw in page_of(runs[0]).charts.items()}
    return {f"{kind}.svg": chart.svg() for kind, chart in charts.items() if chart is not None}


def _csv(runs: Sequence[Run]) -> Files:
    frame = runs[0].rows if len(runs) == 1 else pairing.paired(runs)
    return {"report.csv" if len(runs) == 1 else "overlay.csv": csv(frame, index=False, na_rep="nan")}


def _figures(files: Files, run: Run, folder: Path | None) -> Path:
    if not files:
        raise UserError("this run has no numbers for any figure")
    for name, text in files.items():
        if folder is None:
            run.write_page(f"exports/figures/{name}", text.encode())
        else:
            publish(folder / name, text.encode())
    return folder or run.folder / "exports" / "figures"
