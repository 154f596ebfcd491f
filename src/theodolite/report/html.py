"""One HTML file: no script, nothing loaded from anywhere, every word of the run escaped."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jinja2

from theodolite.core.atomic import publish
from theodolite.core.run import Run
from theodolite.core.visible import visible
from theodolite.report import answers, tables, verdict_words
from theodolite.report.blocks import Block, Figure, Fold, Section, Table
from theodolite.report.pages import page_of
from theodolite.report.sheet import Sheet

_HERE = Path(__file__).parent


def write(run: Run, path: str | Path | None = None, *, show_text: bool = False) -> Path:
    """Write the page of a finished run, by default as report.html in its folder."""
    content = page(run, show_text=show_text).encode()
    if path is None:
        return run.write_page("report.html", content)
    publish(path, content)
    return Path(path)


def page(run: Run, *, show_text: bool = False) -> str:
    """The page as a string, by the kind of the run's recipe; the same run gives the same string."""
    found = page_of(run)
    subtitle = f"{run.recipe['name']}, {run.manifest['finished'][:10]}"
    return render(found.title(run), subtitle, found.sections(run, show_text))


def fragment(sheet: Sheet) -> str:
    """Verdict and headline table of a comparison, for a notebook's output cell."""
    headline = tables.auroc(sheet, "matched", sheet.headline("matched"), f"Matched site: {sheet.figures}.")
    template = _environment().get_template("fragment.html.j2")
    return template.render(
        answers=answers.headline(sheet),
        sentence=verdict_words.sentence(sheet),
        headline=replace(headline, number=1),
        place=str(sheet.run.folder),
    )


def render(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Sections as one page, with tables and figures numbered through."""
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    template = _environment().get_template("page.html.j2")
    page = template.render(title=title, subtitle=subtitle, sections=_numbered(sections), style=style) + "\n"
    return visible(page)  # control characters are no HTML, and steer a terminal that shows the file


def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(_HERE)
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _numbered(sections: Sequence[Section]) -> list[Section]:
    """Return the sections with tables and figures that know their number."""
    last: dict[type, int] = {Table: 0, Figure: 0}

    def numbered(block: Block) -> Block:
        if isinstance(block, Fold):
            return replace(block, blocks=tuple(numbered(b) for b in block.blocks))
        if not isinstance(block, Table | Figure):
            return block
        last[type(block)] += 1
        return replace(block, number=last[type(block)])

    return [Section(s.title, [numbered(b) for b in s.blocks]) for s in sections]
