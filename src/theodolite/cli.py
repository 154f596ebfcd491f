"""The command line: parse, call the library, print. No logic of its own."""

import shlex
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from theodolite import __version__
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

Many = Annotated[list[str] | None, Parameter(consume_multiple=True)]
Sites = Annotated[list[str] | None, Parameter(name=["--sites", "--site"], consume_multiple=True)]
_ADMIT = "also say which single predictions can be relied on, with certificates and their competitors."
_ALPHA = "accuracies wanted of what is admitted (default: 0.7 0.8 0.9 0.95; 0.9 is the primary one)."
_SHOW_TEXT = "show words and texts of the data also where they are harmful, private or not to be passed on."
_MARGIN = "difference in AUROC within which two methods count as equivalent (default: the recipe's, 0.02)."
Margin = Annotated[float | None, Parameter(help=_MARGIN)]
Admit = Annotated[bool, Parameter(help=_ADMIT)]
Alphas = Annotated[list[float] | None, Parameter(consume_multiple=True, help=_ALPHA)]
Device = Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1, mps.")]
ShowText = Annotated[bool, Parameter(help=_SHOW_TEXT)]
Format = Literal["html", "latex", "svg", "csv"]
Twin = Literal["encoder", "decoder", "soft_decoder", "none"]


@app.command
def compare(
    what: str,
    *,
    text: str | None = None,
    label: str | None = None,
    positive: Many = None,
    group: str | None = None,
    shift: Many = None,
    model: str | None = None,
    revision: str | None = None,
    sae: Many = None,
    sites: Sites = None,
    method: Many = None,
    device: Device = "auto",
    dtype: str | None = None,
    limit: int | None = None,
    seeds: int | None = None,
    margin: Margin = None,
    out: Path | None = None,
    quick: bool = False,
    final: bool = False,
    dry_run: bool = False,
    force: bool = False,
    admit: Admit = False,
    alpha: Alphas = None,
    show_text: ShowText = False,
) -> None:
    """Put every method on the same rows and write a Run folder with one report page.

    Parameters
    ----------
    what
        a recipe by name (`theodolite data list`), a recipe file, or a CSV / JSONL / Parquet file of your own.
    text
        column of your file that holds the text (default: text).
    label
        column of your file that holds the labels (default: label): 0 and 1, or words with --positive.
    positive
        the labels that count as 1; all others count as 0.
    group
        column whose rows must stay together when splitting.
    shift
        further labelled files the readers never train on.
    model
        the default model, a Hugging Face id (--revision says which), a folder, or a .gguf file.
    sae
        dictionaries: shipped, a folder, or hub:REPO/PATH; `none` leaves them out.
    sites
        where in the network, for example blocks.17.resid_post.
    method
        only these methods, or your own as file.py or file.py:Class (added to the recipe's).
    dtype
        auto, float32, bfloat16 (default: the recipe's).
    limit
        at most this many training rows and rows per shift (40 or more).
    seeds
        number of train/test splits; each refits everything.
    out
        Run folder (default: runs/NAME).
    quick
        2 seeds and 240 rows per data set unless given, fewer methods, no sweep over the blocks; the report says so.
    final
        also open the sealed shift; recorded in the Run.
    dry_run
        print what would run, its cost and the smallest difference it could detect.
    force
        replace a Run of another recipe in the same folder.
    """
    from theodolite.comparison import runner
    from theodolite.report import terminal

    with terminal.progress() as progress:
        result = runner.compare(
            what, text=text, label=label, positive=positive, group=group, shifts=shift or (), model=model, sae=sae,
            revision=revision, sites=sites, methods=method, device=device, dtype=dtype, limit=limit, seeds=seeds,
            margin=margin, out=out, quick=quick, final=final, dry_run=dry_run, force=force, admit=admit,
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
    out: Path | None = None,
    show_text: bool = False,
) -> None:
    """Score one text token by token, or every row of a file, with a method of a finished Run.

    Of a run made with --admit, it also says which readings to rely on, and why not on the others.

    Parameters
    ----------
    text
        the text to read.
    run
        the Run folder whose fitted methods are used.
    file
        a CSV, JSONL or Parquet file to score instead.
    column
        its text column.
    method
        which method (default: the first contrast's dense one).
    out
        CSV file for the scores.
    show_text
        the nearest labelled texts themselves, not their ids.
    """
    from theodolite.comparison import reading
    from theodolite.report import terminal

    if (text is None) == (file is None):
        raise UserError("give either a text or a file (--in FILE)")
    if file is not None and out is not None and out.exists() and out.samefile(file):
        raise UserError(f"--out {str(out)!r} is the file that is read: choose another")
    if file is not None:
        with terminal.progress() as progress:
            scores = reading.read_file(run, file, column=column, method=method, progress=progress)
        terminal.show_scores(scores, out)
    else:
        terminal.show_tokens(reading.read_text(run, text, method=method), texts_of=run if show_text else None)


@app.command
def train(
    recipe: str | None = None,
    *,
    sae: Many = None,
    twins: Annotated[list[Twin] | None, Parameter(consume_multiple=True)] = None,
    model: str = "smollm2-135m-instruct",
    revision: str | None = None,
    data: Path | None = None,
    text: str = "text",
    format: Literal["raw", "chat"] = "raw",
    sites: Sites = None,
    seed: Annotated[list[int] | None, Parameter(consume_multiple=True)] = None,
    tokens: int | None = None,
    width: Annotated[list[int] | None, Parameter(consume_multiple=True)] = None,
    k: int = 32,
    out: Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    prefetch: Annotated[bool | None, Parameter(negative="--no-prefetch")] = None,
    dry_run: bool = False,
) -> None:
    """Train dictionaries (by default a TopK and its frozen-encoder twin) at each site in one pass; the same command
    resumes.

    Parameters
    ----------
    recipe
        the text they are trained on: text-chat (default), text-only, or a corpus recipe file.
    sae
        any number of dictionaries, each a name with options: topk "jumprelu(target_l0=32, width=8192)", or your own as
        file.py:Class.
    twins
        which frozen twins each gets: encoder (default), decoder, soft_decoder, or none.
    model
        as for compare.
    revision
        revision of a Hugging Face id.
    data
        your own text instead of a recipe: a CSV, JSONL, Parquet or txt file; or a folder of harvested rows.
    text
        its text column.
    format
        whether its texts are raw or prompts for the model's chat template.
    sites
        one or more sites (default: the three depths at which recipes read); two read together as A->B (transcoder) or
        A+B (crosscoder).
    seed
        of initialisation and order (default: 0); several train side by side on the same rows.
    tokens
        how many activations to see (default: 2,000,000).
    width
        number of latents (default: 4096), one or several, of every dictionary that does not say its own.
    k
        latents active per token, likewise.
    out
        folder (default: the cache, where compare finds it).
    device
        auto, cpu, cuda.
    dtype
        auto, float32, bfloat16.
    prefetch
        read the next block of rows while this one is trained on (default: on a GPU).
    dry_run
        print tokens, gigabytes and minutes only.
    """
    from theodolite.comparison import training
    from theodolite.dictionaries.tracking import told
    from theodolite.report import terminal

    frozen = [twin for twin in twins or ["encoder"] if twin != "none"]
    with terminal.progress() as progress:
        lines = training.train(
            recipe, sae=sae, twins=frozen, model=model, revision=revision, data=data, text=text, format=format,
            sites=sites, seed=seed or [0], tokens=tokens, width=width or [4096], k=k, out=out, device=device,
            dtype=dtype, prefetch=prefetch, dry_run=dry_run, progress=progress,
            watch=lambda line: progress.say(told(line)),
        )  # fmt: skip
    terminal.say(lines)


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
    from theodolite.dictionaries import convert as converting
    from theodolite.report import terminal

    terminal.say(converting.convert(source, out, to))


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

    terminal.say([f"wrote {export.write(runs, format=format, out=out, show_text=show_text)}"])


@app.command
def check(reader: str) -> None:
    """Run the contract laws and the planted direction on your own reader.

    Parameters
    ----------
    reader
        path/to/file.py:Class
    """
    from theodolite.comparison import check as checks
    from theodolite.report import terminal

    if not terminal.show_laws(checks.check(reader)):
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
    from theodolite.core import recipe as recipes
    from theodolite.report import terminal

    terminal.say([recipes.to_yaml(recipes.load(recipe))])


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
    """What a user would otherwise discover too late: duplicates, conflicts, shortcuts, what length alone can do.

    Parameters
    ----------
    file
        a CSV, JSONL or Parquet file, or a recipe's name.
    text
        its text column.
    label
        its label column.
    positive
        the labels that count as 1; all others count as 0.
    group
        its group column.
    """
    from theodolite.comparison import auditing
    from theodolite.report import terminal

    found = auditing.audit(file, text=text, label=label, positive=positive, group=group)
    terminal.show_audit(found, hidden=auditing.hidden(file) and not show_text)


@data.command
def verify(recipe: str) -> None:
    """Fetch every source of a recipe, check hashes, count rows."""
    from theodolite.comparison import auditing
    from theodolite.report import terminal

    terminal.say(auditing.verify(recipe))


def main() -> None:
    """Entry point: one clear line per error, a traceback only with --debug."""
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    if not debug:
        warnings.formatwarning = _one_line
    try:
        app(arguments)
    except KeyboardInterrupt:
        _stop("stopped; nothing finished is lost: the same command continues", 130, debug)
    except UserError as error:
        _stop(str(error), 2, debug)
    except OSError as error:
        _stop(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), 2, debug)
    except Exception as error:
        _stop(f"unexpected {type(error).__name__}: {error} (run again with --debug for the traceback)", 1, debug)


_WITH_PLACE = warnings.formatwarning


def _one_line(message: Warning | str, category: type[Warning], *where: Any, **line: Any) -> str:
    """Our own warnings without the place in our code; others as Python shows them."""
    if category is UserWarning:
        return f"theodolite: {message}\n"
    return _WITH_PLACE(message, category, *where, **line)


def _stop(message: str, code: int, debug: bool) -> None:
    if debug:
        raise
    print(f"theodolite: {message}", file=sys.stderr)
    sys.exit(code)
