"""Labels that are the model's own doing: 1 where it gives the right option of a question the highest likelihood."""

import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from theodolite.core.errors import UserError
from theodolite.core.recipe import Choices

# What the runner hands in: prompts and, for each, its options; the number of the option the model prefers.
AskModel = Callable[[list[str], list[list[str]]], np.ndarray]

_LETTER = re.compile(r"(?m)^\s*[A-Z]\. ?")


def options_of(text: str) -> list[str]:
    """The options of a lettered list.

    >>> options_of("A. a marsh\\nB. a tundra")
    ['a marsh', 'a tundra']
    """
    return [part.strip() for part in _LETTER.split(text)[1:]]


def ask(frame: pd.DataFrame, choices: Choices, answer: AskModel | None, source: str) -> pd.DataFrame:
    """The frame with the prompts as texts and the model's being right as labels.

    A question whose right answer is not among its options keeps an empty label, which cleaning counts.
    """
    if answer is None:
        raise UserError(f"the labels of {source!r} are what the model answers: they need a model")
    _require(frame, choices, source)
    context = frame[choices.context] if choices.context else frame["text"]
    prompts = [_filled(choices.prompt, t, c, source) for t, c in zip(frame["text"], context, strict=True)]
    options = [options_of(text) for text in frame[choices.column]]
    index = [_index(answer, mine) for answer, mine in zip(frame[choices.answer], options, strict=True)]
    label = pd.Series(answer(prompts, options) == np.array(index), index=frame.index).astype(float)
    return frame.assign(text=prompts, label=label.where(np.array(index) >= 0))


def _filled(prompt: str, text: str, context: str, source: str) -> str:
    try:
        return prompt.format(text=text, context=context)
    except (KeyError, IndexError, ValueError, AttributeError):
        raise UserError(
            f"the prompt of {source!r} can hold {{text}} and {{context}} and no other braces: "
            f"write {{{{ and }}}} for {{ and }} in {prompt!r}"
        ) from None


def _index(answer: object, options: list[str]) -> int:
    """Number of the right answer among the options, -1 where it is none; its letter may be missing: "J. K." is none."""
    if not isinstance(answer, str):
        return -1
    whole = answer.strip()
    bare = _LETTER.sub("", whole, count=1).strip()
    return next((options.index(text) for text in (bare, whole) if text in options), -1)


def _require(frame: pd.DataFrame, choices: Choices, source: str) -> None:
    for column in (choices.column, choices.answer, choices.context):
        if column is not None and column not in frame:
            raise UserError(f"{source!r} has no column {column!r} for its choices (it has {', '.join(frame.columns)})")
