"""Recipes: the rows and methods to compare, in one YAML file, validated, hashed, and stored in every Run."""

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from theodolite.core import strict
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


class Recipe(Strict):
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

    def digest(self) -> str:
        """sha256 over the canonical JSON: two runs with equal digests asked for the same thing."""
        # each kind has fields of its own, so the kind tells no two recipes apart that the fields do not
        text = json.dumps(self.model_dump(mode="json", exclude={"kind"}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def names() -> list[str]:
    """Recipes that ship with the package."""
    return sorted(p.name.removesuffix(".yaml") for p in _folder().iterdir() if p.name.endswith(".yaml"))


def load(name: str | Path) -> Recipe:
    """A shipped recipe by name, or a YAML file by path."""
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise UserError(f"no recipe file {str(path)!r}")
        try:
            return _beside(parse(path.read_text(encoding="utf-8"), str(path)), path.resolve().parent)
        except UnicodeDecodeError:
            raise UserError(f"recipe {str(path)!r} is not UTF-8: save it as UTF-8") from None
    if str(name) not in names():
        raise unknown("recipe", str(name), names())
    return parse((_folder() / f"{name}.yaml").read_text(encoding="utf-8"), str(name))


def _beside(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with its relative data files taken from its own folder, wherever the command is run."""

    def placed(source: Source) -> Source:
        return source.model_copy(update={"file": source.file and str(folder / Path(source.file).expanduser())})

    def placed_shift(shift: Shift) -> Shift:
        wrap = shift.wrap and shift.wrap.model_copy(update={"templates": placed(shift.wrap.templates)})
        return shift.model_copy(update={"rows": [placed(source) for source in shift.rows], "wrap": wrap})

    shifts = {name: placed_shift(shift) for name, shift in recipe.shifts.items()}
    return recipe.model_copy(update={"train": [placed(source) for source in recipe.train], "shifts": shifts})


def parse(text: str, origin: str) -> Recipe:
    """A recipe from YAML text; every problem is named with its path in the file."""
    return strict.parsed(Recipe, text, f"recipe {origin!r}")


def validated(fields: Any, origin: str) -> Recipe:
    """A recipe from its fields, with the same errors."""
    return strict.validated(Recipe, fields, f"recipe {origin!r}")


def to_yaml(recipe: Recipe) -> str:
    """The recipe as YAML, without the fields left at their defaults."""
    return yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)


def _folder() -> Any:
    return resources.files("theodolite") / "recipes"
