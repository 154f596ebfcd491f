"""The command line: parse, call the library, print. No logic of its own."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from theodolite import __version__, ending
from theodolite.cli_train import Many, Sites, TextFormat, train
from theodolite.core.errors import UserError

app = App(
    name="theodolite",
    help="Which method reads this concept, on this model, and how far to trust it. (--debug: tracebacks)",
    version=__version__,
    suppress_keyboard_interrupt=False,  # main says what was kept
    default_parameter=Parameter(negative=()),  # no --no-quick, no --empty-shift
)
data = App(name="data", help="Look at recipes and files before any model runs.")
app.command(data)

_POOLING = "one row of each text: mean, last, max, or auto, chosen on training rows (default: the recipe's)."
_WHERE = "tokens that mean and max go over: content, all, content[-1], suffix or auto (default: the recipe's)."
_LEAKS = (
    "near-copies of training rows in the shifts: drop-same leaves out those with the same label (default), drop-all "
    "all, keep-all none; they are counted by label either way."
)
_QUICK = "2 seeds and 240 rows per data set unless given, fewer methods, no sweep over the blocks; the report says so."
_DRY_RUN = "print what would run, its cost and the smallest difference it could detect."
_ADMIT = "selective prediction: also say which single predictions to accept, by certified and other selection rules."
_ALPHA = "accuracies wanted of accepted predictions (default: 0.7 0.8 0.9 0.95; 0.9 is the primary one)."
_SHOW_TEXT = "show words and texts of the data also where they are harmful, private or not to be passed on."
_QUESTION = (
    "what prompting asks about each text, Yes meaning label 1 (default: the recipe's; a file of yours has none)."
)
_AS = "texts as a user's turn of a chat, or raw (default: the recipe's, else chat if the model has a template)."
_MAX_TOKENS = "read at most this many tokens of a text (default: the recipe's, else 256 or what the context leaves)."
Question = Annotated[str | None, Parameter(help=_QUESTION)]
As = Annotated[TextFormat | None, Parameter(help=_AS)]
MaxTokens = Annotated[int | None, Parameter(help=_MAX_TOKENS)]
Admit = Annotated[bool, Parameter(name=("--admit", "--selective"), help=_ADMIT)]
Alphas = Annotated[list[float] | None, Parameter(consume_multiple=True, help=_ALPHA)]
Out = Annotated[Path | None, Parameter(help="Run folder (default: runs/NAME).")]
Quick = Annotated[bool, Parameter(help=_QUICK)]
Final = Annotated[bool, Parameter(help="also open the sealed shift; recorded in the Run.")]
DryRun = Annotated[bool, Parameter(help=_DRY_RUN)]
Force = Annotated[bool, Parameter(help="replace a Run of another recipe in the same folder.")]
_MARGIN = "difference in AUROC within which two methods count as equivalent (default: the recipe's, 0.02)."
Margin = Annotated[float | None, Parameter(help=_MARGIN)]
Pooling = Annotated[str | None, Parameter(help=_POOLING)]
Where = Annotated[str | None, Parameter(help=_WHERE)]
Device = Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str | None, Parameter(help="auto, float32, bfloat16 (default: the recipe's).")]
Limit = Annotated[int | None, Parameter(help="at most this many training rows and rows per shift (40 or more).")]
ShowText = Annotated[bool, Parameter(help=_SHOW_TEXT)]
Format = Literal["html", "latex", "svg", "csv"]
Leaks = Annotated[Literal["drop-same", "drop-all", "keep-all"] | None, Parameter(help=_LEAKS)]


@app.command
def compare(
    what: str,
    *,
    text: str | None = None,
    label: str | None = None,
    positive: Many = None,
    group: str | None = None,
    shift: Many = None,
    question: Question = None,
    model: str | None = None,
    revision: str | None = None,
    sae: Many = None,
    sites: Sites = None,
    method: Many = None,
    device: Device = "auto",
    dtype: Dtype = None,
    format: As = None,
    max_tokens: MaxTokens = None,
    limit: Limit = None,
    leaks: Leaks = None,
    seeds: int | None = None,
    margin: Margin = None,
    pooling: Pooling = None,
    positions: Where = None,
    out: Out = None,
    quick: Quick = False,
    final: Final = False,
    dry_run: DryRun = False,
    force: Force = False,
    admit: Admit = False,
    alpha: Alphas = None,
    show_text: ShowText = False,
) -> None:
    """Put every method on the same rows and write a Run folder with one report page.

    Parameters
    ----------
    what
        a recipe by name (`theodolite data list`) or file, or your .csv, .tsv, .jsonl, .json, .parquet (also .gz, .zst).
    text
        column of your file that holds the text (default: text).
    label
        column of your file that holds the labels (default: label): 0 and 1, or others with --positive.
    positive
        the labels that count as 1, by value (1 is 1.0); all others count as 0.
    group
        column whose rows must stay together when splitting.
    shift
        further labelled files the readers never train on; one may hold a single label (false alarms, or detection).
    model
        the default model, a Hugging Face id (--revision says which), a folder, or a .gguf file.
    sae
        dictionaries: shipped, a folder, or hub:REPO/PATH; `none` leaves them out.
    sites
        where in the network, for example blocks.17.resid_post.
    method
        only these methods, or your own as file.py or file.py:Class (added to the recipe's).
    seeds
        number of train/test splits; each refits everything.
    """
    from theodolite.comparison import runner
    from theodolite.report import terminal

    with terminal.progress() as progress:
        result = runner.compare(
            what, text=text, label=label, positive=positive, group=group, shifts=shift or (), question=question,
            model=model, revision=revision, sae=sae, sites=sites, methods=method, device=device, dtype=dtype,
            format=format, max_tokens=max_tokens, limit=limit, leaks=leaks, seeds=seeds, margin=margin, pooling=pooling,
            positions=positions, out=out, quick=quick, final=final, dry_run=dry_run, force=force, admit=admit,
            alpha=alpha or (), show_text=show_text, progress=progress,
            command=shlex.join(["theodolite", *sys.argv[1:]]),
        )  # fmt: skip
    terminal.show(result)


@app.command
def read(
    text: str | None = None,
    *,
    run: Path,
    file: Annotated[Path | None, Parameter(name="--in")] = None,
    column: str = "text",
    method: str | None = None,
    model: str | None = None,
    sae: Many = None,
    out: Path | None = None,
    show_text: bool = False,
) -> None:
    """Score one text token by token, or every row of a file, with a method of a finished Run.

    With a run made with --admit, it also says which readings to accept, and why the others are rejected.

    Parameters
    ----------
    text
        the text to read.
    run
        the Run folder whose fitted methods are used.
    file
        a CSV, TSV, JSONL, JSON, Parquet or txt file to score instead; the output has one row for each of its.
    column
        its text column.
    method
        which method (default: the first contrast's dense one), or your own as file.py:Class, unchanged since the run.
    model
        where the run's model lies now, if not where the run read it; its weights must be the same.
    sae
        likewise the dictionaries that were given with --sae.
    out
        CSV file for the scores.
    show_text
        the nearest labelled texts themselves, not their ids.
    """
    from theodolite.comparison import reading
    from theodolite.report import terminal

    if (text is None) == (file is None):
        raise UserError("give either a text or a file (--in FILE)")
    if file is not None:
        reading.refuse_out(out, file)
        with terminal.progress() as progress:
            scores = reading.read_file(run, file, column=column, method=method, model=model, sae=sae, progress=progress)
        terminal.show_scores(scores, out)
    else:
        read_out = reading.read_text(run, text, method=method, model=model, sae=sae)
        terminal.show_tokens(read_out, texts_of=run if show_text else None)


app.command(train)


@app.command
def convert(source: str, out: Path, *, to: str = "theodolite") -> None:
    """Write a dictionary in another format; the only command that opens pickled files (.pt), weights-only.

    Parameters
    ----------
    source
        a dictionary's folder, a .pt file, hub:OWNER/REPO/PATH, or saelens:RELEASE/ID.
    out
        a new folder.
    to
        theodolite, saelens, sparsify, gemma_scope, gemma_scope_2, dictionary_learning, openai.
    """
    from theodolite.dictionaries.convert import convert as convert_dictionary
    from theodolite.report import terminal

    terminal.say(convert_dictionary(source, out, to))


@app.command
def report(
    runs: Annotated[list[Path], Parameter(consume_multiple=True)],
    *,
    format: Format = "html",
    out: Path | None = None,
    show_text: ShowText = False,
) -> None:
    """Write the report of one Run, or overlay several on the rows they share.

    Parameters
    ----------
    runs
        Run folders.
    format
        html, latex, svg or csv.
    out
        where to write it (default: inside the first Run folder).
    """
    from theodolite.report import export, terminal

    written = export.write(runs, format=format, out=out, show_text=show_text)
    if len(runs) == 1 and format == "html":
        terminal.show_answers(runs[0])
    terminal.say([f"wrote {written}"])


@app.command
def check(reader: str) -> None:
    """Run the contract laws and the planted direction on your own reader.

    Parameters
    ----------
    reader
        path/to/file.py:Class
    """
    from theodolite.checks.check import check as check_reader
    from theodolite.report import terminal

    if not terminal.show_laws(check_reader(reader)):
        sys.exit(1)


@data.command(name="list")
def list_recipes() -> None:
    """The recipes that ship with the package."""
    from theodolite.core import recipe
    from theodolite.report import terminal

    terminal.say(f"{name:20} {recipe.load(name).title}" for name in recipe.names())


@data.command
def show(recipe: str) -> None:
    """One recipe as it is stored: sources and shifts, and methods and contrasts where it has its own."""
    from theodolite.core.recipe import load, to_yaml
    from theodolite.report import terminal

    terminal.say([to_yaml(load(recipe))])


@data.command
def audit(
    file: str,
    *,
    text: str = "text",
    label: str = "label",
    positive: Many = None,
    group: str | None = None,
    show_text: ShowText = False,
) -> None:
    """Audit a data set before any model runs: duplicates, conflicts, shortcuts, what length alone can do.

    Parameters
    ----------
    file
        a file of your own as for compare, or a recipe's name.
    text
        its text column.
    label
        its label column.
    positive
        the labels that count as 1, by value (1 is 1.0); all others count as 0.
    group
        its group column.
    """
    from theodolite.report import terminal
    from theodolite.study import auditing

    found = auditing.audit(file, text=text, label=label, positive=positive, group=group)
    terminal.show_audit(found, hidden=auditing.hidden(file) and not show_text)


@data.command
def verify(recipe: str) -> None:
    """Fetch every source of a recipe, check hashes, count rows."""
    from theodolite.report import terminal
    from theodolite.study import auditing

    terminal.say(auditing.verify(recipe))


def main() -> None:
    """Entry point: one clear line per error, a traceback only with --debug."""
    ending.ended(app, sys.argv[1:])
