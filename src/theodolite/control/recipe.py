"""Recipe of kind `steer`: a concept, methods that push towards it, and the disturbances that they are compared at."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from theodolite.control.method import control_method
from theodolite.core.errors import UserError
from theodolite.core.recipe import AUTO, BaseRecipe, Contrast
from theodolite.core.strict import Strict

STEER = "steer"
# Mean KL divergence of the steered from the plain predictions, in nats per token. At 1 nat effects on the default
# model are past their peak.
LEVELS = (0.03, 0.1, 0.3)
PRIMARY = 0.1
CORE = (
    *("difference_in_means", "logistic", "latent", "latent_set"),
    *("frozen_encoder_latent_set", "neurons", "prompt", "logit_bias"),
)
CONTRASTS = (
    Contrast(method="latent_set", than="difference_in_means"),
    Contrast(method="difference_in_means", than="logit_bias"),
    Contrast(method="latent_set", than="frozen_encoder_latent_set"),
)
# The claim that a prompt is the baseline to beat
SECONDARY = (
    Contrast(method="difference_in_means", than="prompt"),
    Contrast(method="latent_set", than="prompt"),
)


class Table(Strict):
    """Columns of a user's table of labelled texts, labels that count as 1, and files of openings and targets."""

    text: str = "text"
    label: str = "label"
    group: str | None = None
    positive: list[Any] | None = None
    openings: str | None = None
    targets: str | None = None


class SteerRecipe(BaseRecipe):
    """Everything that a comparison of control methods needs.

    `concept` names a concept file: its texts, openings, targets and instructions; or a table of the user's, of which
    `table` names the columns and what belongs to it. What is changed: `model` at `revision` in `dtype`; texts in
    `format`; states at `site`, where contrasts are decided, and at the others of `sites`. How much: `nats` are the
    levels of disturbance, `primary` the one at which contrasts are decided; `curve` further strengths of each sign, of
    which only effects on targets are measured. On what: at most `openings` of the concept, `disturbance_texts` neutral
    texts, `written_tokens` new tokens behind each opening, greedy and in so many `samples`, at the primary level or at
    all (`written_at`). Which: `methods`, `contrasts` and `secondary` ones between them fixed beforehand, with the
    `margin` in nats within which two effects count as equivalent; `dictionaries`; `seeds` draws of the training texts.
    Chance: `draws` random directions at the primary level, `draws_elsewhere` of them at the other levels,
    `draws_written` of them with written text; `nulls` draws of each other null. Selective steering: `admit` is the
    wanted share of right moves among accepted prompts, nothing for none. `quick` and `full` say that a request asked
    for less or for all of it. `files` are hashes of the user's own data and weights.
    """

    kind: Literal["steer"]
    name: str
    title: str
    concept: str
    table: Table | None = None
    model: str = "smollm2-135m-instruct"
    revision: str | None = None
    dtype: str = "auto"
    format: Literal["chat", "raw"] = "raw"
    site: str = AUTO
    sites: list[str] = Field(default_factory=list)
    methods: list[str] = Field(default_factory=lambda: list(CORE))
    contrasts: list[Contrast]
    secondary: list[Contrast]
    dictionaries: list[str] = Field(default_factory=lambda: ["shipped"])
    nats: list[float] = Field(default_factory=lambda: list(LEVELS))
    primary: float = PRIMARY
    margin: float = Field(default=0.2, gt=0, allow_inf_nan=False)
    openings: int = Field(default=100, ge=10)
    disturbance_texts: int = Field(default=64, ge=8)
    written_tokens: int = Field(default=24, ge=1)
    written_at: Literal["primary", "all"] = "primary"
    samples: int = Field(default=0, ge=0)
    curve: int = Field(default=0, ge=0)
    draws: int = Field(default=100, ge=0)
    draws_elsewhere: int = Field(default=40, ge=0)
    draws_written: int = Field(default=12, ge=0)
    nulls: int = Field(default=12, ge=0)
    seeds: int = Field(default=1, ge=1)
    quick: bool = False
    full: bool = False
    admit: float | None = Field(default=None, gt=0.5, lt=1)
    files: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _contrasts_of_methods(cls, given: Any) -> Any:
        """By default only those contrasts whose methods a recipe has."""
        families = {"contrasts": CONTRASTS, "secondary": SECONDARY}
        methods = set(given.get("methods", CORE))
        kept = {name: [c for c in family if {c.method, c.than} <= methods] for name, family in families.items()}
        return {name: [c.model_dump() for c in family] for name, family in kept.items()} | given

    @field_validator("nats")
    @classmethod
    def _levels(cls, nats: list[float]) -> list[float]:
        for level in nats:
            if not 0 < level < 5:
                raise ValueError(f"a disturbance of {level:g} nats: give one above 0 and below 5")
        return sorted(set(nats))

    @model_validator(mode="after")
    def _names_meet(self) -> Self:
        if self.primary not in self.nats:
            raise UserError(f"primary {self.primary:g} is not among nats={self.nats}: add it there")
        if self.admit is not None and not self.draws:
            raise UserError("admit needs random directions to compare a move with: ask for some with draws")
        for method in self.methods:
            control_method(method)  # an unknown name is an error now, not after the model was read
        both = [*self.contrasts, *self.secondary]
        for method in (m for contrast in both for m in (contrast.method, contrast.than)):
            if method not in self.methods:
                raise UserError(f"a contrast names {method!r}, which is not among the methods: add it there")
        return self

    def beside(self, folder: Path) -> Self:
        """Return the recipe with its own concept file taken from its folder."""
        is_file = Path(self.concept).suffix != ""
        return self.model_copy(update={"concept": str(folder / self.concept)}) if is_file else self
