"""Refusal of controls that nobody should make: directions whose opposite makes a model comply with harmful requests."""

import re

from theodolite.core.errors import UserError

# Pushing away from "harmful" or from "refusal" is the known way to switch a model's refusals off (arXiv 2406.11717).
_WORDS = re.compile(r"refus|harmful|jailbreak|unsafe|complian", re.IGNORECASE)


def check_concept(*words: str) -> None:
    """Refuse a concept about refusal or harmful requests, by its name and the names of its classes.

    >>> check_concept("joy", "joy", "sadness")
    """
    if found := next((word for word in words if _WORDS.search(word)), None):
        raise UserError(
            f"{found!r}: a push along it may lower the model's refusal of harmful requests, and such controls are not "
            "made here; `theodolite compare` reads such concepts"
        )
