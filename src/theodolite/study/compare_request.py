"""All arguments of one comparison, declared once for the command line and for `theodolite.compare`."""

from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar, overload

from theodolite.core.errors import UserError, unknown
from theodolite.core.tick import Tell
from theodolite.study.hardware import Machine
from theodolite.study.option import OPTION, listed, option

if TYPE_CHECKING:  # pandas, scikit-learn and torch cost seconds, and --help needs none of them
    import pandas as pd

    from theodolite.models.model import Model

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
SINGULAR = {"shift": "shifts", "method": "methods", "site": "sites"}  # as on the command line: --shift, --shifts
Leaks = Literal["drop-same", "drop-all", "keep-all"]  # `core.recipe.LeakRule`, which costs pydantic to import


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The columns of a file of the user's own, and its shifts."""

    text: str | None = field(default=None, metadata=option("column of your file that holds the text (default: text)."))
    label: str | None = field(
        default=None,
        metadata=option(
            "column of your file that holds the labels (default: label): 0 and 1, or others with --positive."
        ),
    )
    positive: Sequence[Any] | str | float | None = field(
        default=None,
        metadata=option("the labels that count as 1, by value (1 is 1.0); all others count as 0.", cli=str, many=True),
    )
    group: str | None = field(default=None, metadata=option("column whose rows must stay together when splitting."))
    groups: Sequence[Any] | None = field(
        default=None, metadata=option("of (X, y): one value per row, equal for rows that belong together.", cli=None)
    )
    shifts: "Sequence[str | Path | pd.DataFrame] | pd.DataFrame | str | Path" = field(
        default=(),
        metadata=option(
            "further labelled files the readers never train on; one may hold a single label (false alarms, or "
            "detection).",
            cli=str,
            names=("--shifts", "--shift"),
            many=True,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The model and its dictionaries, how texts are put to it, and where and how it is read."""

    model: "str | Path | Model | None" = field(
        default=None,
        metadata=option(
            "smollm2-135m-instruct (default), a Hugging Face id (--revision says which), a folder, or a .gguf file.",
            cli=str | None,
        ),
    )
    revision: str | None = field(default=None, metadata=option("commit or tag of a Hugging Face id."))
    dtype: str | None = field(default=None, metadata=option("auto, float32, bfloat16 (default: the recipe's)."))
    format: Literal["auto", "chat", "raw"] | None = field(
        default=None,
        metadata=option(
            "texts as a user's turn of a chat, or raw (default: the recipe's, else auto: chat if the model has a "
            "template)."
        ),
    )
    max_tokens: int | None = field(
        default=None,
        metadata=option(
            "read at most this many tokens of a text (default: the recipe's, else 256 or what the context leaves)."
        ),
    )
    sae: "Sequence[str | Path] | str | Path | None" = field(
        default=None,
        metadata=option(
            "dictionaries: shipped, a folder, or hub:REPO/PATH; `none` leaves them out.", cli=str, many=True
        ),
    )
    sites: Sequence[str] | str | None = field(
        default=None,
        metadata=option(
            "where in the network, for example blocks.17.resid_post.", cli=str, names=("--sites", "--site"), many=True
        ),
    )
    positions: str | None = field(
        default=None,
        metadata=option(
            "tokens that mean and max go over: content, all, content[-1], suffix or auto (default: the recipe's)."
        ),
    )
    pooling: str | None = field(
        default=None,
        metadata=option(
            "one row of each text: mean, last, max, or auto, chosen on training rows (default: the recipe's)."
        ),
    )
    question: str | None = field(
        default=None,
        metadata=option(
            "what prompting asks about each text, Yes meaning label 1 (default: the recipe's; a file of yours has "
            "none)."
        ),
    )


@dataclass(frozen=True, kw_only=True)
class AnalysisOptions:
    """The methods, on which rows and how often they are fitted, and which questions are answered."""

    methods: Sequence[Any] | Any | None = field(
        default=None,
        metadata=option(
            "only these methods, or your own as file.py or file.py:Class (added to the recipe's).",
            cli=str,
            names=("--methods", "--method"),
            many=True,
        ),
    )
    leaks: Leaks | None = field(
        default=None,
        metadata=option(
            "near-copies of training rows in the shifts: drop-same leaves out those with the same label (default), "
            "drop-all all, keep-all none; they are counted by label either way."
        ),
    )
    limit: int | None = field(
        default=None, metadata=option("at most this many training rows and rows per shift (40 or more).")
    )
    seeds: int | None = field(
        default=None,
        metadata=option("number of train/test splits, of steering of training sets; each refits everything."),
    )
    margin: float | None = field(
        default=None,
        metadata=option(
            "difference within which two methods count as equivalent: in AUROC (default: the recipe's, 0.02), of "
            "steering in nats (0.2)."
        ),
    )
    admit: bool = field(
        default=False,
        metadata=option(
            "selective prediction: also say which single predictions to accept (of steering: which prompts to steer), "
            "by certified and other selection rules.",
            names=("--admit", "--selective"),
        ),
    )
    alpha: Sequence[float] | float = field(
        default=(),
        metadata=option(
            "accuracies wanted of accepted predictions (default: 0.7 0.8 0.9 0.95; 0.9 is the primary one); of "
            "steering one share of right moves (0.9).",
            cli=float,
            many=True,
        ),
    )
    quick: bool = field(
        default=False,
        metadata=option(
            "2 seeds and 240 rows per data set unless given, fewer methods, no sweep over the blocks; of steering 20 "
            "openings and 12 random draws; the report says so."
        ),
    )
    final: bool = field(default=False, metadata=option("also open the sealed shift; recorded in the Run."))


@dataclass(frozen=True, kw_only=True)
class SteeringOptions:
    """Options of a comparison of control methods: the full table, and a table of yours with what belongs to it."""

    full: bool = field(
        default=False,
        metadata=option(
            "all methods, 3 training sets, three depths, samples and curves: hours; a stopped run goes on where it was."
        ),
    )
    table: "str | Path | pd.DataFrame | None" = field(
        default=None,
        metadata=option(
            "your own labelled texts, with `compare steer`: .csv, .tsv, .jsonl, .json or .parquet, or a concept file "
            "(.yaml).",
            cli=str | None,
            names=("--data", "--table"),
        ),
    )
    openings: str | Path | None = field(
        default=None,
        metadata=option(
            "beside --data: beginnings that the model continues, one a line (default: neutral ones).", cli=str | None
        ),
    )
    targets: str | Path | None = field(
        default=None,
        metadata=option(
            "beside --data: scored continuations, a table with columns target and label (default: none).",
            cli=str | None,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Options for the Run folder, for texts on its page, and for progress."""

    out: str | Path | None = field(default=None, metadata=option("Run folder (default: runs/NAME).", cli=Path | None))
    force: bool = field(default=False, metadata=option("replace a Run of another recipe in the same folder."))
    dry_run: bool = field(
        default=False, metadata=option("print what would run, its cost and the smallest difference it could detect.")
    )
    show_text: bool = field(
        default=False,
        metadata=option(
            "show words and texts of the data also where they are harmful, private or not to be passed on."
        ),
    )
    progress: Tell | None = field(
        default=None,
        metadata=option(
            "called with (what, done, in all); by default a display on a terminal or in IPython.", cli=None
        ),
    )
    command: str = field(
        default="", metadata=option("the line typed at a command line, for the Run's record.", cli=None)
    )


@dataclass(frozen=True, kw_only=True)
class CompareRequest(OutputOptions, Machine, SteeringOptions, AnalysisOptions, ModelOptions, DataOptions):
    """All arguments of one comparison; where several values are expected, one alone is a list of one.

    A value of None leaves the recipe's own. Fields of `Machine` and `OutputOptions` do not change what is asked for.

    >>> CompareRequest("truth", methods="lat", sae="none").methods
    ('lat',)
    """

    data: "str | Path | pd.DataFrame | tuple[Any, Any]" = field(
        kw_only=False,
        metadata=option(
            "a recipe by name (`theodolite data list`) or file, or your .csv, .tsv, .jsonl, .json, .parquet (also "
            ".gz, .zst).",
            cli=str,
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for each in fields(self):
            if each.metadata[OPTION].many:
                object.__setattr__(self, each.name, listed(getattr(self, each.name)))

    @property
    def machine(self) -> Machine:
        """Return the fields that say where the comparison runs."""
        return Machine(**{each.name: getattr(self, each.name) for each in fields(Machine)})

    def given(self) -> list[str]:
        """Return the names of the fields that differ from their default, in the order of their declaration."""
        return [
            each.name
            for each in fields(self)
            if each.default is not MISSING and not self._is_default(each.name, each.default)
        ]

    def _is_default(self, name: str, default: Any) -> bool:
        value = getattr(self, name)
        return value is default or (isinstance(value, type(default)) and value == default)


class Comparing(Protocol[P, R_co]):
    """Type of a function that takes a request, or the fields of one as arguments."""

    @overload
    def __call__(self, request: CompareRequest, /) -> R_co: ...
    @overload
    def __call__(self, *args: P.args, **fields: P.kwargs) -> R_co: ...


def by_field(made: Callable[P, CompareRequest]) -> Callable[[Callable[[CompareRequest], R_co]], Comparing[P, R_co]]:
    """Let a function of a request also be called with the request's fields as arguments.

    Its signature and its docstring then list the fields, and type checkers know them. made: the class of the request,
    whose constructor gives names, types and defaults.
    """

    def decorated(function: Callable[[CompareRequest], R_co]) -> Comparing[P, R_co]:
        @wraps(function)
        def called(*args: Any, **fields: Any) -> R_co:
            if args and isinstance(args[0], CompareRequest):
                return function(replace(*args, **named_fields(fields)))
            return function(made(*args, **named_fields(fields)))

        shown: Any = called
        shown.__signature__ = signature(made).replace(return_annotation=signature(function).return_annotation)
        shown.__doc__ = f"{function.__doc__}\n\n{arguments()}"
        return shown

    return decorated


def named_fields(given: dict[str, Any]) -> dict[str, Any]:
    """Return arguments by the names of fields; `shift`, `method` and `site` stand for their plurals.

    >>> named_fields({"shift": "new.csv"})
    {'shifts': 'new.csv'}
    >>> named_fields({"modle": "tiny"})
    Traceback (most recent call last):
    theodolite.core.errors.UserError: unknown argument of compare 'modle': did you mean 'model'? ...
    """
    known = [each.name for each in fields(CompareRequest)]
    found: dict[str, Any] = {}
    for name, value in given.items():
        name = SINGULAR.get(name, name)
        if name not in known:
            raise unknown("argument of compare", name, known)
        if name in found:
            raise UserError(f"{name} is given twice, once by its singular: give it once")
        found[name] = value
    return found


def flag(name: str) -> str:
    """Return the flag of a field on the command line, or the name of one that has none.

    >>> flag("max_tokens"), flag("methods"), flag("groups")
    ('--max-tokens', '--methods', 'groups')
    """
    (option,) = (each.metadata[OPTION] for each in fields(CompareRequest) if each.name == name)
    if option.cli is None:
        return name
    return str(option.names[0]) if option.names else f"--{name.replace('_', '-')}"


def arguments() -> str:
    """Return every field with its help, as a docstring lists arguments."""
    lines = [f"{each.name}: {each.metadata[OPTION].help}" for each in fields(CompareRequest)]
    return "Arguments:\n\n" + "\n".join(lines)
