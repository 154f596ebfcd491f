"""The fields of a concept file: which texts, openings, targets and instruction make one concept."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from theodolite.core.strict import Strict
from theodolite.data.near_duplicates import canonical

Text = Annotated[str, StringConstraints(min_length=1)]
Slot = Literal["verb", "description", "noun"]


class Row(Strict):
    """One labelled text that is written in the concept file itself."""

    text: str
    label: int | str
    group: str | None = None


class Texts(Strict):
    """Labelled texts: a table beside the concept file with its columns, or `rows` written out.

    `positive` holds the labels that count as 1; without it labels are 0 and 1. Rows of one `group` are never divided.
    """

    file: str | None = None
    text: str = "text"
    label: str = "label"
    group: str | None = None
    positive: list[Any] | None = None
    rows: list[Row] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (self.rows is None):
            raise ValueError("give either a file or rows")
        return self


class Targets(Strict):
    """Continuations whose log-probabilities are compared, `positive` with `negative`, each with its leading space."""

    positive: list[Text] = Field(min_length=1)
    negative: list[Text] = Field(min_length=1)

    @property
    def all(self) -> list[str]:
        """Both sides, positive ones first."""
        return [*self.positive, *self.negative]

    @model_validator(mode="after")
    def _no_prefixes(self) -> Self:
        """Refuse targets of which one begins with another: " good" holds all of " goods", which would count twice."""
        if found := prefixes(self.all):
            raise ValueError(
                "; ".join(f"{short!r} is the beginning of {long!r}" for short, long in found)
                + ": keep one of the two, since the shorter one counts the probability of the longer one"
            )
        return self


class Instruction(Strict):
    """Words of a prompt that asks for a class, towards the positive and towards the negative class."""

    positive: Text
    negative: Text


class Question(Strict):
    """A question with the answer that has the concept and the one that lacks it; asked in both orders."""

    question: Text
    positive: Text
    negative: Text


class ConceptFields(Strict):
    """The fields of a concept file.

    `positive` and `negative` name the two classes of `texts`; `shift` holds texts of another genre, which readings are
    tested on; `classifier` texts train the classifiers that score generated text, instead of a third of `texts`.
    `openings` are beginnings that the model continues: a list, a file, or by default the neutral ones of the package,
    of which `next` keeps those that such a word follows. `targets` are scored continuations, and `unseen_targets` some
    whose words no text contains. `choices` are questions with two answers, asked in the full table. `private` keeps
    texts out of every output.
    """

    name: Text
    title: Text
    positive: Text
    negative: Text
    texts: Texts
    shift: Texts | None = None
    classifier: Texts | None = None
    openings: list[Text] | str | None = None
    next: list[Slot] | None = None
    targets: Targets | None = None
    unseen_targets: Targets | None = None
    instruction: Instruction | None = None
    choices: list[Question] | None = Field(default=None, min_length=2)
    licence: str = "unstated"
    private: bool = False
    note: str = ""

    @field_validator("openings")
    @classmethod
    def _some(cls, openings: Any) -> Any:
        if openings == []:
            raise ValueError("there is no opening: leave the field out for the neutral ones")
        return openings

    @model_validator(mode="after")
    def _next_of_neutral(self) -> Self:
        if self.next is not None and self.openings is not None:
            raise ValueError("`next` chooses among the neutral openings: leave it out beside openings of your own")
        return self


def prefixes(targets: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of targets of which the first is the beginning of the second, or the same.

    >>> prefixes([" good", " bad", " goods"])
    [(' good', ' goods')]
    """
    ordered = sorted(targets)  # what begins with a target follows it, with nothing but such targets between
    found = []
    for i, short in enumerate(ordered):
        for long in ordered[i + 1 :]:
            if not long.startswith(short):
                break
            found.append((short, long))
    return found


def occurs(phrase: str, text: str) -> bool:
    """Return whether a phrase stands in a text as whole words, whatever the case and the spaces.

    >>> occurs(" Rain", "After the rain."), occurs(" rain", "The train")
    (True, False)
    """
    return f" {spaced(phrase)} " in f" {spaced(text)} "


def spaced(text: str) -> str:
    """The words of a text in lower case, one space between them, without marks at their ends.

    >>> spaced("Well,  it's done!")
    "well it's done"
    """
    words = (word.strip("\"'.,;:!?()[]«»“”‘’…-—–") for word in canonical(text).split())
    return " ".join(filter(None, words))


def joined(texts: Sequence[str]) -> str:
    """All texts as one, in which `f" {spaced(phrase)} "` stands where a phrase occurs in one of them.

    >>> " the rain " in joined(["After the rain.", "Fine"]), " rain fine " in joined(["After the rain.", "Fine"])
    (True, False)
    """
    return f" {'  '.join(map(spaced, texts))} "
