"""Purpose of a concept, in the words of its fields: a push away from refusing is not made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from theodolite.core.refusal import check_concept, words_in
from theodolite.data.concept_fields import ConceptFields


def purpose(fields: Mapping[str, Any], named: tuple[str, ...]) -> list[str]:
    """Return the words of the fields that say what a direction is about; the texts themselves are not looked at."""
    return [word for name in named for word in words_in(fields.get(name))]


def check_purpose(named: ConceptFields) -> None:
    """Refuse a concept whose names, instruction, label column or file say that it is about refusing or harm."""
    check_concept(*purpose(named.model_dump(), ("name", "title", "positive", "negative", "instruction")))
    check_concept(*purpose(named.texts.model_dump(), ("label", "positive")), Path(named.texts.file or "").name)
