"""Refusal of controls that nobody should make: directions whose opposite makes a model comply with harmful requests.

Pushing away from "harmful" or from "refusal" is the known way to switch a model's refusals off (arXiv 2406.11717). Both
signs of a control can be asked for, so that "harmless" is refused as well. Words are all that can be checked here: who
hides what a vector stands for is not stopped.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from theodolite.core.errors import UserError

_ANYWHERE = r"refus|jailbr[eo]ak|abliterat|censor|guardrail|harmful|harmless|unsafe|complian"
_DATA_SETS = r"adv ?bench|strong ?reject|beaver ?tails"
_AT_A_START = r"\b(harm(?!on)|safety|safe\b|complies|comply)"  # no harmony, no charm, no accompanying
_WORDS = re.compile(f"{_ANYWHERE}|{_AT_A_START}|{_DATA_SETS}")


def concerns_refusal(words: str) -> bool:
    """Return whether words speak of refusal or harmfulness, in any case, with any marks between them.

    >>> concerns_refusal("Harmless_Intent"), concerns_refusal("charm and harmony")
    (True, False)
    """
    folded = unicodedata.normalize("NFKC", words).casefold()
    return _WORDS.search(re.sub(r"[^a-z]+", " ", folded)) is not None


def check_concept(*words: str) -> None:
    """Refuse a concept about refusal or harmful requests, by its name, its classes, its files and its columns.

    >>> check_concept("joy", "joy", "sadness")
    """
    if found := next((word for word in words if concerns_refusal(word)), None):
        raise UserError(
            f"{found[:100]!r}: a push along it may lower the model's refusal of harmful requests, and such controls "
            "are not made here; `theodolite compare` reads such concepts"
        )


def words_in(value: Any) -> Iterable[str]:
    """Yield every text in nested values of JSON; keys are ours and are left out.

    >>> list(words_in({"label": "kind", "positive": ["yes", 1]}))
    ['kind', 'yes']
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from words_in(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from words_in(part)
