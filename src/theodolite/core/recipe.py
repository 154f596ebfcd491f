"""Recipes: what an analysis runs on, in one YAML file, validated, hashed, and stored in every Run.

Every kind of recipe has a schema of its own, which its analysis names (`study/analysis.py`); that of a comparison is
`Recipe`. So a file is `read` first, which finds its kind, and then validated by the schema of that kind.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import yaml
from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from theodolite.core import safe_yaml, strict
from theodolite.core.errors import UserError, unknown
from theodolite.core.positions import Positions
from theodolite.core.run import AGAINST, IN_DISTRIBUTION, LEFT_OUT
from theodolite.core.strict import Strict

# The matched site is chosen once the number of blocks is known: blocks.17 of 30, as in the shipped recipes.
AUTO = "auto"
COMPARE = "compare"  # the kind of a recipe that names none
FEWEST_ROWS = 40  # 20 of each label, as data.clean asks for
# Which near-copies of training rows leave the shifts: those with the same label, all, or none.
LeakRule = Literal["drop-same", "drop-all", "keep-all"]
TRAIN = "train"  # the data set readers learn from; no shift may bear its name, nor those of a Run's other data sets


class Choices(Strict):
    """Multiple-choice rows whose label is what the model does: 1 where it finds the right option the likeliest.

    `column` holds the options, one per line, each after its letter ("A. "); `answer` the right one. The model is asked,
    and the readers see, `prompt` with the row's text and its `context` column (if any) filled in.
    """

    column: str = "options"
    answer: str = "answer"
    context: str | None = None
    prompt: str = "Question: {text}\nAnswer:"


class Source(Strict):
    """A source of text rows, and the part of them that is taken.

    Exactly one of `wheel`, `hub`, `file`, `generated`, `concept` names the place: `revision` pins it, `member` names a
    file inside a wheel, or of a packaged concept its `texts` (else these) or its `shift`, `format` says what the file
    is where its name does not, `options` go to its parser (of `hub`: config and split). The remaining fields say how to
    read it: `field` is the text's column or dotted path (`seeds[].value` walks
    a list), `label` a fixed label or the column that holds it, `positive` the values of that column that mean 1 (all
    others mean 0), `where` keeps rows whose columns equal these values, `keep` keeps texts that match a regular
    expression and `drop` removes those that match another, `cut` ends a text at the first occurrence of a string.
    After everything else rows are put into a seeded order, the first `skip` are left out and `sample` taken. Rows with
    equal values in the column `group` never stand in two parts of a split.
    """

    source: str
    wheel: str | None = None
    hub: str | None = None
    file: str | None = None
    generated: str | None = None
    concept: str | None = None
    revision: str | None = None
    member: str | list[str] | None = None
    format: Literal["csv", "jsonl", "json", "yaml", "parquet", "txt"] | None = None
    field: str | None = None
    label: int | str | None = None
    positive: list[Any] | None = None
    where: dict[str, Any] = Field(default_factory=dict)
    keep: str | None = None
    drop: str | None = None
    cut: str | None = None
    sample: int | None = Field(default=None, ge=1)
    skip: int = Field(default=0, ge=0)
    options: dict[str, Any] = Field(default_factory=dict)
    group: str | None = None
    choices: Choices | None = None
    licence: str = "unstated"
    redistributable: bool = True

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave an unused `concept` out, so that a recipe without one keeps the digest it had before there were any."""
        fields: dict[str, Any] = dump(self)
        if fields.get("concept") is None:
            fields.pop("concept", None)
        return fields


class Wrap(Strict):
    """Put every request into templates that contain `{{ prompt }}`, the same templates for both classes.

    `part` is the part of the template families used; `development` requests come with "dev". `table` names a file
    beside the recipes that freezes which template (`name`) has how many tokens, its family and part; without it the
    families are found anew and split by the seed.
    """

    templates: Source
    table: str | None = None
    part: Literal["train", "dev", "test"] = "test"
    max_tokens: int = 200
    per_request: int = 4


class Shift(Strict):
    """A data set the readers never trained on.

    `one_class`: all its rows may have one label. No AUROC exists there, but the rate of false alarms (label 0) or of
    detection (label 1) does. `over_refusal`: they are negatives that look positive, which a left-out source's positives
    are also ranked against.
    """

    rows: list[Source]
    wrap: Wrap | None = None
    note: str = ""
    length_matched: bool = False
    over_refusal: bool = False
    one_class: bool = False


class Contrast(Strict):
    """A comparison fixed before the run: `method` minus `than`, on the primary shift, in AUROC."""

    method: str
    than: str


class BaseRecipe(Strict):
    """A recipe of any kind: `kind` is the analysis that it is for, `name` stands for it, `title` says what it is."""

    kind: str
    name: str
    title: str

    def digest(self) -> str:
        """sha256 over the canonical JSON: two runs with equal digests asked for the same thing."""
        # Comparisons were hashed before there were kinds, and their digests stay; those of other kinds hold the kind.
        left_out = {"kind"} if self.kind == COMPARE else set()
        text = json.dumps(self.model_dump(mode="json", exclude=left_out), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def sources(self) -> Iterator[tuple[str, Source]]:
        """Yield every source of text that the recipe names, with the data set that it is for."""
        yield from ()

    def beside(self, folder: Path) -> Self:
        """Return the recipe with its relative data files taken from its own folder, wherever the command is run."""
        return self


class Recipe(BaseRecipe):
    """Everything a comparison needs; names of methods are file names in `readers/`, `name@view` picks the view.

    `kind` is the analysis that the recipe is for. The concept: `name`, `title`, names of the two classes `positive`
    and `negative`, and the `question` that prompting asks, with `few_shot` examples as (text, label). What is read:
    `model` at `revision` in `dtype`, each text in `format` (auto: a chat where the model has a template) and cut at
    `max_tokens`, its tokens at `positions` pooled by `pooling` (either may be `auto`: chosen on training rows);
    `site` is the matched one, `sites` all among which a method may choose. On which rows: `train`, and the `shifts`
    nobody trains on: `primary` decides the contrasts, `sealed` opens with `final` only; the sources that begin with
    each of `leave_out` are also tested with training on the others. `leaks`: which near-copies of training rows
    leave the shifts, those of the same label, all or none. `limit` is the most rows per data set, `private` keeps
    texts out of the report. How: `methods` (empty: all), `contrasts` fixed beforehand, `seeds` splits,
    `dictionaries`; `quick` asks for fewer rows, seeds and methods; `margin` is the difference in AUROC within which
    two methods count as equivalent; `admit` asks for selective prediction at these accuracies. `files` are hashes
    of the user's own data, methods, weights and dictionaries, filled in by `compare`.
    """

    kind: Literal["compare"] = "compare"
    name: str
    title: str
    positive: str
    negative: str
    question: str
    model: str = "smollm2-135m-instruct"
    revision: str | None = None
    format: Literal["auto", "chat", "raw"] = "auto"
    max_tokens: int = Field(default=256, ge=1)
    site: str = AUTO
    sites: list[str] = Field(default_factory=list)
    positions: str = "content"
    pooling: Literal["mean", "last", "max", "auto"] = "mean"
    train: list[Source]
    shifts: dict[str, Shift] = Field(default_factory=dict)
    primary: str | None = None
    sealed: str | None = None
    leave_out: list[str] = Field(default_factory=list)
    leaks: LeakRule = "drop-same"
    contrasts: list[Contrast] = Field(default_factory=list)
    methods: list[str] = Field(default_factory=list)
    few_shot: list[tuple[str, int]] = Field(default_factory=list)
    private: bool = False
    seeds: int = Field(default=5, ge=1)
    margin: float = Field(default=0.02, gt=0, lt=0.5)
    dictionaries: list[str] = Field(default_factory=lambda: ["shipped"])
    dtype: str = "auto"
    files: dict[str, str] = Field(default_factory=dict)
    limit: int | None = Field(default=None, ge=FEWEST_ROWS)
    quick: bool = False
    final: bool = False
    admit: list[float] = Field(default_factory=list)

    @field_validator("positions")
    @classmethod
    def _known_positions(cls, positions: str) -> str:
        return positions if positions == AUTO else str(Positions.parse(positions))

    @field_validator("admit")
    @classmethod
    def _levels(cls, levels: list[float]) -> list[float]:
        for alpha in levels:
            if not 0.5 < alpha < 1:
                raise ValueError(f"alpha {alpha:g}: give an accuracy above 0.5 and below 1")
        return sorted(set(levels))

    @model_validator(mode="after")
    def _names_meet(self) -> Self:
        """Whatever is named elsewhere in the recipe exists: a typo must not open a sealed shift or lose a contrast."""
        for name in self.shifts:
            if name in (TRAIN, IN_DISTRIBUTION) or name.startswith(LEFT_OUT):
                raise UserError(f"a shift cannot be called {name!r}, which is another data set's name: rename it")
        if self.primary not in (None, IN_DISTRIBUTION, *self.shifts):
            raise unknown("primary shift", str(self.primary), self.shifts)
        if self.sealed not in (None, *self.shifts):
            raise unknown("sealed shift", str(self.sealed), self.shifts)
        sources = [source.source for source in self.train]
        for prefix in self.leave_out:
            if not any(source.startswith(prefix) for source in sources):
                raise unknown("source to leave out", prefix, sources)
            if AGAINST in prefix:
                raise UserError(f"a source to leave out is named up to {AGAINST!r}: {prefix.partition(AGAINST)[0]!r}")
        return self

    def sources(self) -> Iterator[tuple[str, Source]]:
        """Yield every source, with the name of its data set; those of templates come after the rows they wrap."""
        yield from ((TRAIN, source) for source in self.train)
        for name, shift in self.shifts.items():
            yield from ((name, source) for source in shift.rows)
            if shift.wrap:
                yield f"{name} (templates)", shift.wrap.templates

    def beside(self, folder: Path) -> Self:
        """Return the recipe with its relative data files taken from its own folder, wherever the command is run."""

        def placed(source: Source) -> Source:
            return source.model_copy(update={"file": source.file and str(folder / Path(source.file).expanduser())})

        def placed_shift(shift: Shift) -> Shift:
            wrap = shift.wrap and shift.wrap.model_copy(update={"templates": placed(shift.wrap.templates)})
            return shift.model_copy(update={"rows": [placed(source) for source in shift.rows], "wrap": wrap})

        shifts = {name: placed_shift(shift) for name, shift in self.shifts.items()}
        return self.model_copy(update={"train": [placed(source) for source in self.train], "shifts": shifts})


Schema = TypeVar("Schema", bound=BaseRecipe)


@dataclass(frozen=True)
class Written:
    """A recipe as its file says it, not validated yet; folder: where its data files are, of a user's own recipe."""

    origin: str
    kind: str
    fields: Any
    folder: Path | None = None

    def as_schema(self, schema: type[Schema]) -> Schema:
        """Return the validated recipe; every problem is named with its path in the file."""
        found = strict.validated(schema, self.fields, f"recipe {self.origin!r}")
        return found if self.folder is None else found.beside(self.folder)

    def comparison(self) -> Recipe:
        """Return the recipe of a comparison; one of another kind is refused."""
        if self.kind != COMPARE:
            raise UserError(
                f"recipe {self.origin!r} is of kind {self.kind!r}, and one of kind {COMPARE!r} is needed here"
            )
        return self.as_schema(Recipe)


def names(kind: str | None = None) -> list[str]:
    """Return the recipes that ship with the package, of one kind or of all; one in a folder is named with it.

    >>> "truth" in names("compare")
    True
    """
    found = sorted(_files(_folder()))
    return found if kind is None else [name for name in found if read(name).kind == kind]


def _files(folder: Any, prefix: str = "") -> Iterator[str]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _files(each, f"{prefix}{each.name}/")
        elif each.name.endswith(".yaml"):
            yield prefix + each.name.removesuffix(".yaml")


def listing() -> Iterator[str]:
    """Yield a line for each shipped recipe with its title, and its kind where that is no comparison.

    Nothing is validated, because the schema of another kind would be imported with all that its analysis needs.
    """
    for name in names():
        found = read(name)
        kind = "" if found.kind == COMPARE else f" ({found.kind})"
        yield f"{name:20} {found.fields.get('title', '')}{kind}"


def read(name: str | Path) -> Written:
    """Read a shipped recipe by name, or a YAML file by path, and find its kind."""
    path, origin, folder = Path(name), str(name), None
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise UserError(f"no recipe file {origin!r}")
        try:
            text, folder = path.read_text(encoding="utf-8"), path.resolve().parent
        except UnicodeDecodeError:
            raise UserError(f"recipe {origin!r} is not UTF-8: save it as UTF-8") from None
    elif origin in names():
        text = _folder().joinpath(*f"{origin}.yaml".split("/")).read_text(encoding="utf-8")
    else:
        raise unknown("recipe", origin, names(), _without_folder)
    fields = safe_yaml.load(text, f"recipe {origin!r}")
    kind = fields.get("kind", COMPARE) if isinstance(fields, dict) else COMPARE
    # a kind that is no word is left to the schema, which names it with its place
    return Written(origin, kind if isinstance(kind, str) else COMPARE, fields, folder)


def _without_folder(name: str) -> str:
    """Return the part of a name by which recipes are near: `frensh` means `steer/french`."""
    return name.rpartition("/")[2]


def load(name: str | Path) -> Recipe:
    """Return the recipe of a comparison: a shipped one by name, or a YAML file by path."""
    return read(name).comparison()


def parse(text: str, origin: str) -> Recipe:
    """A recipe from YAML text; every problem is named with its path in the file."""
    return strict.parsed(Recipe, text, f"recipe {origin!r}")


def validated(fields: Any, origin: str) -> Recipe:
    """A recipe from its fields, with the same errors."""
    return strict.validated(Recipe, fields, f"recipe {origin!r}")


def to_yaml(recipe: BaseRecipe) -> str:
    """The recipe as YAML, without the fields left at their defaults."""
    return yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)


def _folder() -> Any:
    return resources.files("theodolite") / "recipes"
