"""Output of the command line: lines, a run's short table, scores, readings in colour, laws, an audit."""

import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.table import Table as Grid
from rich.text import Text

from theodolite.core.atomic import publish
from theodolite.core.claim import FAILS, HOLDS
from theodolite.core.visible import csv, visible
from theodolite.report.numbers import NONE, count, duration, share, signed, span
from theodolite.report.progress import progress

if TYPE_CHECKING:  # pandas and matplotlib cost seconds, and most commands print a few lines
    import pandas as pd

    from theodolite.core.run import Run
    from theodolite.report.answer_words import Answer
    from theodolite.report.blocks import Block, Value
    from theodolite.report.sheet import Cell, Column, Sheet

__all__ = [
    "progress",
    "say",
    "show",
    "show_answers",
    "show_audit",
    "show_claims",
    "show_laws",
    "show_scores",
    "show_tokens",
]

WIDE = 160  # columns of a log, which nobody resizes
NAMES, CELL = 32, 20  # columns that the methods' names and one number with its interval take
SCORES = ("method", "score", "probability", "predicted", "alpha", "accepted", "reason")
TONES = {"good": "bold blue", "bad": "bold red", "even": "bold green", "open": "bold", "none": "dim"}
POSITIVE, NEGATIVE = (213, 94, 0), (0, 114, 178)  # Okabe-Ito vermillion and blue


def say(lines: Iterable[str]) -> None:
    """Print lines; control characters in them are shown, not obeyed."""
    for line in lines:
        print(visible(line))


def show(result: Any) -> None:
    """A plan's lines; or of a finished run the result by its kind, what was counted, times, the page."""
    if hasattr(result, "lines"):
        say(result.lines())
        return
    from theodolite.core.recipe import COMPARE
    from theodolite.report.pages import kind_of, page_of

    run = result.run
    if run.made_with:
        paragraph(run.made_with)
    if kind_of(run) == COMPARE:
        _comparison(run)
    else:
        paragraph(page_of(run).sentence(run))
        for block in page_of(run).summary(run):
            draw(block)
    if run.notes:
        paragraph(f"Counted: {counted(run.notes)}")
    paragraph("Time: " + ", ".join(f"{s['stage']} {duration(s['seconds'])}" for s in run.manifest["stages"]))
    say([f"Report: {run.folder / 'report.html'}"])


def _comparison(run: "Run") -> None:
    """The answers of a comparison, its verdict and contrasts, the short table, and what was selected."""
    from theodolite.report import findings, verdict_words
    from theodolite.report.selective import answer as selective_answer
    from theodolite.report.sheet import Sheet

    sheet = Sheet(run)
    verdict = run.read_json("verdict") or {"contrasts": []}
    _answers(sheet)
    paragraph(verdict_words.sentence(sheet))
    for line in verdict["contrasts"]:
        paragraph(f"- {findings.sentence(sheet, line)}")
    for words in findings.beside(sheet):
        paragraph(words)
    _console().print(headline(sheet))
    for words in findings.rates(sheet):
        paragraph(words)
    if selected := selective_answer(sheet):
        paragraph(selected)


def show_answers(folder: str | Path) -> None:
    """Print the plain answers of the finished run in a folder; of another kind than a comparison its sentence."""
    from theodolite.core.recipe import COMPARE
    from theodolite.report.pages import kind_of, page_of
    from theodolite.report.sheet import Sheet, open_finished

    run = open_finished(folder)
    if kind_of(run) == COMPARE:
        _answers(Sheet(run))
    else:
        paragraph(page_of(run).sentence(run))


def _answers(sheet: "Sheet") -> None:
    """The plain answers, a line each; a quick run says first that it is one."""
    from theodolite.report import answers, findings

    if sheet.run.recipe.get("quick"):
        paragraph(findings.QUICK)
    for answer in answers.headline(sheet):
        _answer(answer)


def _answer(answer: "Answer") -> None:
    """Print where it was asked, its word in colour, and the sentence with its numbers."""
    line = Text.assemble((f"{answer.title} ", "bold"), f"({visible(answer.place)}) ")
    line.append(answer.word.upper(), TONES[answer.tone])
    line.append(f". {visible(answer.sentence)}")
    _console().print(line)


def counted(notes: Sequence[dict[str, Any]]) -> str:
    """Warnings of one kind added up, with what they were about.

    >>> counted([{"kind": "sealed", "count": 1, "text": "dev"}, {"kind": "sealed", "count": 1, "text": "toxicchat"}])
    '2 sealed: dev; toxicchat'
    """
    kinds = {note["kind"]: [same for same in notes if same["kind"] == note["kind"]] for note in notes}
    return ". ".join(
        f"{count(sum(note['count'] for note in same))} {kind}: {'; '.join(note['text'] for note in same)}"
        for kind, same in kinds.items()
    )


def show_scores(scores: "pd.DataFrame", out: Path | None) -> None:
    """Scores as CSV: the whole table into a file; on standard output the row numbers and scores, but no text."""
    if out is None:
        shown = scores[[name for name in SCORES if name in scores]]
        sys.stdout.write(visible(csv(shown, index_label="row")))
        return
    publish(out, csv(scores, index=False).encode())
    say([f"wrote {count(len(scores))} scores to {out}"])


def show_tokens(reading: Any, texts_of: Path | None = None) -> None:
    """A text coloured by each token's score, or without colour a line per token; then the whole and the strongest.

    texts_of: the run whose texts stand for the ids of exemplars.
    """
    console, tokens = _console(), reading.tokens
    scored = [token for token in tokens if math.isfinite(token[1])]
    if console.color_system:
        largest = max((abs(score) for _, score in scored), default=0.0) or 1.0
        console.print(Text.assemble(*((visible(token), _shade(score / largest)) for token, score in tokens)))
        strongest = sorted(scored, key=lambda token: -abs(token[1]))[:5]
        paragraph("Strongest tokens: " + ", ".join(f"{token!r} {signed(score)}" for token, score in strongest))
    else:
        say(f"{signed(score):>8}  {token!r}" for token, score in tokens)
    paragraph(_whole(reading))
    if reading.selection:
        show_selection(reading.selection, texts_of)
    else:
        paragraph("Whether to accept it is not known: that needs a run made with --admit that includes this method.")
    if reading.cut:
        paragraph(f"The last {reading.cut} tokens were not read: the run cuts texts at its limit.")


def show_selection(found: Any, texts_of: Path | None) -> None:
    """Prints whether one reading is accepted, why not, and the measurements that this rests on."""
    from theodolite.core.run import Run

    known = Run.open(texts_of).texts() if texts_of else {}
    paragraph(
        f"Label {found.label} ({found.name}), {_word(found)}. Calibrated probability of 1: {share(found.probability)}."
        f"{_contradiction(found)}"
    )
    confidence = f"confidence {found.confidence:.3g}" if math.isfinite(found.confidence) else "no confidence"
    certified = math.isfinite(found.threshold)
    accepts = f"accepts from {found.threshold:.3g} on" if certified else "accepts nothing"
    paragraph(
        f"Selection rule: {found.rule}, {confidence}, {accepts}. Similarity q {found.q} (how many neighbours, nearest "
        f"first, have this label and were predicted correctly), distance quantile d {share(found.d)} (0: farther than "
        f"all of a class), q' {found.q_prime:.1f}."
    )
    guarantee = (
        f"With probability {1 - found.delta:.3g} over certify rows, of accepted texts like the run's own at least "
        f"{found.alpha:g} are classified correctly, on average within each label and each prediction. "
    )
    paragraph(
        (guarantee if certified else f"No accuracy of {found.alpha:g} could be certified. ") + _on_shifts(found.shifts)
    )
    say(["Nearest labelled texts, by distance:"])
    say(f"{near.distance:8.3g}  label {near.label}  {known.get(near.id, near.id)}" for near in found.exemplars)


def _whole(reading: Any) -> str:
    """Score and probability of the whole text, or that there is no reading of it."""
    numbers = f"{signed(reading.score)} for the whole text, probability {share(reading.probability)}"
    if not reading.blank:
        return f"{reading.method}: {numbers}"
    return (
        f"{reading.method}: no reading. The text holds none of the n-grams that it learnt, so every such text gets the "
        f"same score ({numbers})"
    )


def _word(found: Any) -> str:
    """Return whether the reading is accepted; a certificate that holds on no shift is about the run's own texts."""
    if found.reason:
        return f"rejected: {found.reason}"
    fails, n = found.shifts.get(FAILS, 0), sum(found.shifts.values())
    if n and fails and not found.shifts.get(HOLDS):
        return (
            f"certified at {found.alpha:g} for texts like the run's own alone: the accuracy holds on none of its {n} "
            f"shifts, and fails on {fails}"
        )
    return f"accepted at {found.alpha:g}"


def _contradiction(found: Any) -> str:
    """Return a sentence where at least half of the nearest labelled texts have the other label."""
    others = sum(near.label != found.label for near in found.exemplars)
    if not others or 2 * others < len(found.exemplars):
        return ""
    return f" {others} of the {len(found.exemplars)} nearest labelled texts have the other label."


def _on_shifts(shifts: dict[str, int]) -> str:
    if not shifts:
        return "The run made no claim about this method on other texts."
    words = ", ".join(f"{word} in {n}" for word, n in shifts.items())
    return f"On the {sum(shifts.values())} shifts of the run that hold both labels, over all training sets: {words}."


def show_laws(laws: Sequence[Any]) -> bool:
    """One line per law and whether all hold; a check of no laws is no success."""
    for law in laws:
        say([f"{'pass' if law.passed else 'FAIL'}  {law.law}" + (f": {law.message}" if law.message else "")])
    held = sum(law.passed for law in laws)
    say([f"{held} of {len(laws)} laws hold"])
    return 0 < held == len(laws)


def show_audit(audit: Any, *, hidden: bool = False) -> None:
    """An audit's tables, as the page shows them; `hidden` keeps words of the data out."""
    from theodolite.report.audit import blocks

    for block in blocks(audit.to_json(), hidden=hidden):
        draw(block)


def show_claims(found: dict[str, Any]) -> None:
    """A table of claims with verdict, figures, model and command; of one alone also everything behind its verdict."""
    from theodolite.report import claims

    grid = Grid(box=None, padding=(0, 2, 1, 0))
    for title in ("Claim", "Verdict", "Figure [95 % interval], n", "Model", "Command"):
        grid.add_column(title, overflow="fold")
    for claim in found["claims"]:
        name = Text.assemble((claim["name"], "bold"), f"\n{claim['sentence']}")
        cells = ("\n".join(claims.figures(claim)) or NONE, claims.model(claim) or NONE, claim["command"])
        grid.add_row(name, Text(claim["word"], TONES[claims.TONES[claim["word"]]]), *(Text(visible(c)) for c in cells))
    _console().print(grid)
    if len(found["claims"]) == 1:
        (claim,) = found["claims"]
        say([f"{claim['word']}: {claims.MEANINGS[claim['word']]}", *claims.behind(claim)])
    say(claims.skipped(found["skipped"]))


def paragraph(words: str) -> None:
    """Prose, wrapped to the terminal."""
    _console().print(Text(visible(words)))


def headline(sheet: "Sheet") -> Grid:
    """Methods of the matched site on the headline data sets, as many as fit; the k-sparse curve is left to the page."""
    columns = _fitting(sheet.headline("matched"), _console().width)
    grid = Grid(
        title=Text(visible(f"All methods at one site, {sheet.figures}"), "bold"), title_justify="left", box=None
    )
    grid.add_column("Method", no_wrap=True)
    for column in columns:
        grid.add_column(Text(visible(f"{column.title}\n{column.subtitle}")), justify="right")
    group = None
    for entry in sheet.entries("matched", columns):
        if entry.method.startswith("k_sparse("):
            continue
        if entry.group != group:
            group = entry.group
            grid.add_row(Text(visible(group.title), "bold"))
        grid.add_row(
            Text(visible(entry.label)), *(_cell(sheet.cell("matched", entry.method, entry.site, c)) for c in columns)
        )
    return grid


def draw(block: "Block") -> None:
    """A report's paragraph or table as text."""
    from theodolite.report.blocks import Table
    from theodolite.report.blocks import Text as Words

    if isinstance(block, Words):
        paragraph(block.words)
        return
    assert isinstance(block, Table), f"a terminal draws no {type(block).__name__}"
    grid = Grid(title=Text(visible(f"\n{block.caption}"), "bold"), title_justify="left", box=None)
    for head in block.head:
        grid.add_column(_words(head), justify="right" if head.kind == "number" else "left")
    for line in block.lines:
        grid.add_row(*map(_words, line.cells), style="bold" if line.heading else "")
    _console().print(grid)


def _words(value: "Value") -> Text:
    return Text(visible(f"{value.words} {value.small}".rstrip()))


def _fitting(columns: "Sequence[Column]", width: int) -> "list[Column]":
    """The columns that fit beside the names, in their order; the primary shift first, then a left-out source."""
    fit = max(1, (width - NAMES) // CELL)
    ranks = {kind: rank for rank, kind in enumerate(("primary", "left-out", "mix", "shift"))}
    firsts = {column.kind: column for column in reversed(columns)}.values()
    wanted = sorted(columns, key=lambda c: (c not in firsts, ranks[c.kind]))[:fit]
    return [column for column in columns if column in wanted]


def _cell(cell: "Cell | None") -> Text:
    """A value with its interval, or with its seeds where too few allow one."""
    if cell is None:
        return Text(NONE)
    beside = span(cell.lo, cell.hi) or " ".join(share(point) for point in cell.points)
    return Text(f"{share(cell.value)} {beside}".rstrip(), no_wrap=True)


def _console() -> Console:
    """Made anew each time, because standard output may have been redirected since."""
    return _Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)


class _Console(Console):
    """One that leaves a closed pipe to the end of the command, as printing does; rich would exit with 1 here."""

    def on_broken_pipe(self) -> None:
        raise


def _shade(strength: float) -> Style:
    """White at 0, the positive or the negative colour at 1 and -1; nothing for a token without a reading."""
    if not math.isfinite(strength):
        return Style(dim=True)
    end = POSITIVE if strength > 0 else NEGATIVE
    red, green, blue = (255 + (channel - 255) * abs(strength) for channel in end)
    return Style(color="black", bgcolor=Color.from_rgb(red, green, blue))
