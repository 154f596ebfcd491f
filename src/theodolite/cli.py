"""The command line: parse, call the library, print. No logic of its own."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from theodolite import __version__, ending
from theodolite.cli_cache import cache
from theodolite.cli_compare import command as compare
from theodolite.cli_options import Many
from theodolite.cli_steer import command as steer
from theodolite.cli_train import command as train
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
app.register_install_completion_command()

_SHOW_TEXT = "show words and texts of the data also where they are harmful, private or not to be passed on."
ShowText = Annotated[bool, Parameter(help=_SHOW_TEXT)]
Format = Literal["html", "latex", "svg", "csv"]

app.command(compare)


@dataclass(frozen=True)
class Places:
    """Places of what a run read, if not where the run read it, and the machine that reads it again.

    Parameters
    ----------
    model
        where the run's model lies now, if not where the run read it; its weights must be the same.
    sae
        likewise the dictionaries that were given with --sae.
    device
        auto, cpu, cuda, cuda:1, mps.
    device_map
        spread the model's layers over several devices: auto, balanced, sequential (needs accelerate); instead of
        --device.
    batch_tokens
        tokens in one forward pass (default: what fits into the memory).
    """

    model: str | None = None
    sae: Many = None
    device: str = "auto"
    device_map: str | None = None
    batch_tokens: int | None = None

    def given(self) -> dict[str, Any]:
        """These options as arguments of the reading functions."""
        from theodolite.study.hardware import Machine

        machine = Machine(device=self.device, device_map=self.device_map, batch_tokens=self.batch_tokens)
        return {"model": self.model, "sae": self.sae, "machine": machine}


HERE = Places()


@app.command
def read(
    text: str | None = None,
    *,
    run: Path,
    file: Annotated[Path | None, Parameter(name="--in")] = None,
    column: str = "text",
    method: str | None = None,
    places: Annotated[Places, Parameter(name="*")] = HERE,
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
        which method (default: the first contrast's dense one, else the reader of the model that training rows
        preferred), or your own as file.py:Class, unchanged since the run.
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
            scores = reading.read_file(run, file, column=column, method=method, **places.given(), progress=progress)
        terminal.show_scores(scores, out)
    else:
        read_out = reading.read_text(run, text, method=method, **places.given())
        terminal.show_tokens(read_out, texts_of=run if show_text else None)


app.command(steer)
app.command(train)
app.command(cache)


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
def claims(
    name: str | None = None,
    *,
    runs: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    json: bool = False,
) -> None:
    """Answer the claims of the debate from finished Runs, by rules that were written down; no model is run.

    Parameters
    ----------
    name
        one claim, with everything behind its verdict.
    runs
        Run folders, or folders of them, beside runs/.
    json
        every number as JSON.
    """
    from theodolite.core.plain import pretty
    from theodolite.report import terminal
    from theodolite.study.claims import claims as verdicts

    found = verdicts(name, runs or ()).to_json()
    if json:
        sys.stdout.write(pretty(found).decode())
    else:
        terminal.show_claims(found)


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

    terminal.say(recipe.listing())


@data.command
def show(recipe: str) -> None:
    """One recipe as it is stored: sources and shifts, and methods and contrasts where it has its own."""
    from theodolite.core.recipe import to_yaml
    from theodolite.report import terminal
    from theodolite.study.analysis import load_recipe

    terminal.say([to_yaml(load_recipe(recipe))])


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


@data.command(name="check")
def check_file(
    file: str,
    *,
    text: str = "text",
    label: str = "label",
    positive: Many = None,
    group: str | None = None,
    model: str | None = None,
    show_text: ShowText = False,
) -> None:
    """Check a concept file, a table of labelled texts, or a file of pairs; exit code 1 if it cannot be used.

    Parameters
    ----------
    file
        a concept's name or .yaml file; or a table, of pairs if it has the columns clean and counterfactual.
    text
        the text column of a table of labelled texts.
    label
        its label column.
    positive
        the labels that count as 1, by value (1 is 1.0); all others count as 0.
    group
        its group column (default: group, where there is one).
    model
        count tokens with this model's tokenizer: pairs of equal length, unseen targets without a token of the texts.
    """
    from theodolite.report import terminal
    from theodolite.study import file_checking

    columns = {"text": text, "label": label, "positive": positive, "group": group}
    checked = file_checking.check(file, model=model, **columns)
    terminal.say(checked.lines(show_text=show_text))
    if checked.errors:
        sys.exit(1)


@data.command
def verify(recipe: str) -> None:
    """Fetch every source of a recipe, check hashes, count rows."""
    from theodolite.report import terminal
    from theodolite.study import auditing

    terminal.say(auditing.verify(recipe))


def main() -> None:
    """Entry point: one clear line per error, a traceback only with --debug."""
    ending.ended(app, sys.argv[1:])
