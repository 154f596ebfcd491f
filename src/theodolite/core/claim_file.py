"""Claims of the debate: a sentence, the command whose Run answers it, and a rule for the verdict, in one YAML file.

A file is data: it names rows of a Run and numbers, and no code. Its rule is written before the Run is made, and its
digest is that of the recipe as it then was, so that a Run of another recipe answers nothing. docs/claims.md defines the
words.
"""

import shlex
from importlib import resources
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from theodolite.core import strict
from theodolite.core.errors import UserError, unknown
from theodolite.core.strict import Strict

TRUE, FALSE, UNDECIDED, NOT_RUN = "holds", "does not hold", "undecided", "not yet run"
POWER, REGIME, POOLING, QUANTISATION = "power-limited", "regime-limited", "pooling-limited", "quantisation-limited"
WORDS = (TRUE, FALSE, UNDECIDED, POWER, REGIME, POOLING, QUANTISATION, NOT_RUN)
# Whole interval above or below the bound; the denial of either; or nowhere farther from the bound than the margin.
Lies = Literal["above", "below", "not above", "not below", "within"]


class Statement(Strict):
    """Statement about one row of a Run: where the whole interval of its figure lies.

    `task`, `metric`, `dataset`, `method`, `versus`, `site`, `split` and `nats` are columns of the rows, `params` some
    entries of the column of that name; the row is that of all seeds. `margin` is the distance from `bound` that changes
    no decision: a figure that lies above the bound by less is not `above`. 0 where the bound itself is what matters.
    """

    task: str
    metric: str
    dataset: str
    method: str = ""
    versus: str = ""
    site: str | None = None
    split: str | None = None
    nats: float | None = None
    params: dict[str, str | int | float] = Field(default_factory=dict)
    lies: Lies
    bound: float = 0.0
    margin: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.lies == "within" and not self.margin:
            raise ValueError("within a margin of 0 lies nothing: give a margin above 0")
        return self


class Rule(Strict):
    """Rule for the verdict: statements that must all be true in a regime, and whether `all` regimes or `any` must."""

    over: Literal["all", "any"] = "all"
    regimes: dict[str, list[Statement]] = Field(min_length=1)

    @field_validator("regimes")
    @classmethod
    def _states_something(cls, regimes: dict[str, list[Statement]]) -> dict[str, list[Statement]]:
        if empty := [name for name, statements in regimes.items() if not statements]:
            raise ValueError(f"regime {empty[0]!r} states nothing: give at least one statement")
        return regimes


class Power(Strict):
    """Smallest effect that matters here and that the Run was planned to find four times in five, and the reason."""

    effect: float = Field(gt=0)
    reason: str


class Claim(Strict):
    """One sentence of the debate in our words, and all that decides its verdict.

    `source` says who argues so, `reference` where. `command` makes the Run of `recipe`; `digest` is that of the
    resolved recipe, null as long as no such recipe ships. `fixed`: whether we had seen a Run of the recipe when we
    wrote the rule (after) or not (before).
    """

    name: str
    area: Literal["reading", "control"]
    sentence: str
    source: str
    reference: str = ""
    command: str
    recipe: str
    digest: str | None = Field(pattern="^[0-9a-f]{64}$")
    fixed: Literal["before", "after"]
    rule: Rule
    power: Power

    @model_validator(mode="after")
    def _command_names_the_recipe(self) -> Self:
        if shlex.split(self.command)[:3] != ["theodolite", "compare", self.recipe]:
            raise ValueError(f"the command must begin with `theodolite compare {self.recipe}`")
        return self


def names() -> list[str]:
    """Return the names of the claims that ship with the package."""
    return sorted(p.name.removesuffix(".yaml") for p in _folder().iterdir() if p.name.endswith(".yaml"))


def load(name: str) -> Claim:
    """Return a claim by its name.

    >>> load("one-latent-is-not-enough").recipe
    'harmful-intent'
    """
    if name not in names():
        raise unknown("claim", name, names())
    claim = parse((_folder() / f"{name}.yaml").read_text(encoding="utf-8"), name)
    if claim.name != name:
        raise UserError(f"claim {name!r}: its file names it {claim.name!r}: give both one name")
    return claim


def parse(text: str, origin: str) -> Claim:
    """Return a claim from YAML text; every problem is named with its place in the file."""
    return strict.parsed(Claim, text, f"claim {origin!r}")


def _folder() -> Any:
    return resources.files("theodolite") / "claims"
