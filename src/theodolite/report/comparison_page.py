"""The page of a comparison: its sections in order, and the sentence that stands for it."""

from theodolite.core.run import Run
from theodolite.report import context, findings, prose
from theodolite.report.audit import audit
from theodolite.report.blocks import Section
from theodolite.report.pages import Page
from theodolite.report.selective import selective
from theodolite.report.sheet import Sheet
from theodolite.report.verdict_words import sentence

SECTIONS = (
    findings.verdict,
    audit,
    findings.matched,
    findings.free,
    findings.inside,
    findings.shifted,
    selective,
    findings.where,
    findings.how_many,
    context.dictionary,
    context.costs,
    findings.refusal,
    prose.limits,
    prose.methods,
    context.warnings,
    context.provenance,
)


def _sections(run: Run, show_text: bool) -> list[Section]:
    sheet = Sheet(run, show_text=show_text)
    return [section(sheet) for section in SECTIONS]


def _title(run: Run) -> str:
    return str(run.recipe.get("question") or run.recipe["name"])


PAGE = Page(_sections, _title, lambda run: sentence(Sheet(run)))
