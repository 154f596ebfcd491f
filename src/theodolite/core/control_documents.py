"""The facts of Runs of kinds `steer` and `debate`: what each must hold before a page or another analysis reads them.

A Run may come from somebody else, or from an earlier version: its hashes say that a document is the one that was
written, not that it has the parts that every reader of it expects. Further parts are let through.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from theodolite.core.errors import UserError
from theodolite.core.run import Run
from theodolite.core.strict import validated

Number = float | None  # null where there is none
Metric = Literal["effect_sentence", "effect_ngrams", "effect_targets", "effect_unseen"]
Word = Literal["better", "worse", "equivalent", "non-inferior", "undecided"]
Split = Literal["+", "-"]


class Figure(BaseModel):
    """A number with its interval."""

    value: Number
    lo: Number
    hi: Number


class Counted(Figure):
    """A number with its interval over n rows in so many groups."""

    n: int
    n_groups: int


class Contrast(Figure):
    """A contrast between two methods on one measure."""

    method: str
    than: str
    metric: Metric
    verdict: Word
    p_holm: Number
    n: int
    family: Literal["primary", "secondary"] = "primary"


class Ceiling(Figure):
    """The effect of the tilt towards the scored targets themselves, at one level."""

    metric: Literal["effect_targets", "effect_unseen"]
    nats: float


class Furthest(Figure):
    """The method that moves a measure furthest, of so many, and the others that may move it as far."""

    metric: Metric
    method: str
    alike: list[str]
    methods: int
    n: int


class Decider(BaseModel):
    """A classifier of written text, and whether its effects decide anything."""

    name: str
    usable: bool


class Classifier(Decider):
    """A classifier of written text with its quality."""

    method: str
    auroc: Counted
    ece: Figure


class Band(BaseModel):
    """The band of random directions on one measure at one level."""

    metric: Metric
    nats: float
    width: float
    n: int


class Null(BaseModel):
    """The band of another null, and its draw that moved most."""

    null: Literal["other_concepts", "neutral_halves", "stratified_shuffles"]
    metric: Metric
    width: float
    n: int
    most: float


class Strength(BaseModel):
    """A strength that was looked for at one sign and level, and why it was not matched ("" where it was)."""

    split: Split
    nats: float
    strength: float
    reason: str


class Dose(BaseModel):
    """The word on a dose, and why."""

    word: str
    why: str


class Crossing(BaseModel):
    """The size of strength from which on there is damage, null above the last one tried."""

    value: Number
    last: float


class Selectivity(BaseModel):
    """The size of the effect on other concepts, and the one that moves most; earlier versions wrote a share instead."""

    size: Figure | None = None
    most: Number = None
    most_of: str = ""


class Fitted(BaseModel):
    """Passes that the calibrations of a method took, one number for each training set."""

    spent: list[float]


class Method(Fitted):
    """Facts of one method of control."""

    site: str
    strengths: list[Strength]
    dose: dict[str, Dose | None]
    damage: dict[Split, Crossing | None] = Field(min_length=2)
    selectivity: dict[Split, Selectivity | None] = Field(min_length=2)


class SteeredFacts(BaseModel):
    """The parts of `artefacts/steering.json` that a debate reads."""

    primary: float
    methods: Mapping[str, Fitted]
    classifiers: Sequence[Decider]


class SteeringFacts(SteeredFacts):
    """`artefacts/steering.json` of a comparison of control methods, as its page reads it."""

    sites: list[str] = Field(min_length=1)
    nats: list[float]
    margin: float
    methods: Mapping[str, Method]
    bands: list[Band]
    nulls: list[Null]
    contrasts: list[Contrast]
    # earlier versions had neither of these
    furthest: list[Furthest] = []
    ceilings: list[Ceiling] = []
    classifiers: Sequence[Classifier]


class Certified(BaseModel):
    """A certificate: right moves among accepted certify prompts, and the lower limit of their share."""

    right: int
    n: int
    lower: Number


class Left(BaseModel):
    """Numbers of states outside the support before and after the edit, of n."""

    before: int
    after: int
    n: int


class Unmatched(BaseModel):
    """A method without a cell of selective steering: its strength was not matched."""

    verdict: Literal["not matched"]
    why: str


class Selected(BaseModel):
    """Facts of selective steering of one method."""

    verdict: Literal["accept all", "selected", "nothing accepted", "not steerable"]
    why: str
    development_share: Number
    contrasted: bool
    certificate: Certified | None
    left_support: Left | None
    right_share: Figure
    coverage: Figure
    accuracy: Figure
    contrasts: dict[Literal["accept_all", "margin", "word_ngrams"], Counted]


class TrustFacts(BaseModel):
    """`artefacts/trust.json` of a comparison of control methods with selective steering, as its page reads it."""

    alpha: float
    delta: float
    nats: float
    prompts: int
    kind: Literal["openings", "beginnings"]
    draws: int
    methods: Mapping[str, Annotated[Unmatched | Selected, Field(discriminator="verdict")]]


class Correlation(Figure):
    """A rank correlation of n methods, and the size that differs from chance."""

    n: int
    needed: Number


class Association(BaseModel):
    """The p of no relation, and the interval over methods."""

    p: Number
    lo: Number
    hi: Number
    n_methods: int


class Answer(BaseModel):
    """The answer for one concept on one measure."""

    best_reader: str
    best_controller: str
    may_read_best: list[str]
    may_control_best: list[str]
    word: Literal["is", "is not", "open"]
    same_in_draws: float
    methods: list[str]
    correlation: Correlation
    association: Association


class Missing(BaseModel):
    """A method without a point, and why."""

    method: str
    why: Literal["no reader", "not read", "not steered", "not matched"]


Measure = Literal["effect_written", "effect_targets"]


class Side(BaseModel):
    """One concept of a debate."""

    concept: str
    nats: float
    usable: list[str]
    shifts: list[str]
    read_site: str | None
    steered_site: str
    absent: list[Missing]
    answers: dict[Measure, Answer]


class Overall(Figure):
    """The mean rank correlation over n concepts."""

    n: int
    association: Association


class Joined(Figure):
    """A contrast of control on one concept, or over all."""

    method: str
    than: str
    metric: Measure
    concept: str
    p_holm: Number
    word: Word
    n: int
    n_left_out: int = 0  # concepts; earlier versions did not count them


class DebateFacts(BaseModel):
    """`artefacts/debate.json` of a debate."""

    concepts: list[Side]
    overall: dict[Measure, Overall | None] = Field(min_length=2)
    contrasts: list[Joined]
    margin: float


def facts_of(run: Run, name: str, shape: type[BaseModel]) -> dict[str, Any]:
    """Return `artefacts/NAME.json`; one that lacks a part of its shape, or has another kind of value, is an error.

    >>> facts_of(Run.open("runs/steer-french"), "steering", SteeringFacts)["primary"]      # doctest: +SKIP
    0.1
    """
    place = str(run.folder / "artefacts" / f"{name}.json")
    found = run.read_json(name)
    if found is None:
        raise UserError(f"{place!r} is missing: restore it, or run `theodolite compare` again with --force")
    try:
        validated(shape, found, repr(place))
    except UserError as error:
        raise UserError(
            f"{error}: restore it, or run `theodolite compare` again with --force (earlier versions wrote less)"
        ) from None
    known: dict[str, Any] = found
    return known
