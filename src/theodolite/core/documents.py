"""The JSON documents of a Run: what each must hold before anything looks into it.

A Run may come from somebody else, or from another version: the hash of a document says that it is the one that was
written, not that it has the parts that every reader of it expects.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from theodolite.core.errors import UserError

_NUMBER = (int, float)
_CONTRAST = {"method": str, "than": str, "dataset": str, "verdict": str, "value": (*_NUMBER, type(None))}
_CLAIM = {"method": str, "dataset": str, "word": str}
# By document its entries with their types; a list holds the one kind of entry that it must consist of.
_DOCUMENTS: dict[str, dict[str, Any]] = {
    "verdict": {"sentence": str, "contrasts": [_CONTRAST]},
    "audit": {"overviews": [{"name": str, "n": int, "sources": dict}], "baselines": [{}], "shortcuts": dict},
    "card": {"tokens": _NUMBER},
    "dictionary": {"datasets": [{"dataset": str}]},
    "admission": {"level": _NUMBER, "claims": [_CLAIM], "choices": [{"method": str}]},
    "baselines": {},
    "poolings": {},
}
# Of verdict.json and baselines.json, what versions before may lack; of the facts, what a run may not have.
_OPTIONAL: dict[str, dict[str, Any]] = {
    "verdict": {"exploratory": [_CONTRAST], "everywhere": [_CONTRAST], "notes": (list, type(None))},
    "baselines": {"text": [{"dataset": str}], "random": [{"dataset": str}]},
}
FACTS: dict[str, Any] = {
    "model": (dict, type(None)), "views": dict, "labels": (*_NUMBER, type(None)), "protocol": dict, "dictionaries": int,
    "fvu": (dict, type(None)), "available": (dict, type(None)), "read_from": list, "pooling": (dict, type(None)),
    "training_sets": dict,
}  # fmt: skip


def check(name: str, found: Any, path: Path) -> None:
    """Refuse a document of another shape than every reader of it expects; documents of no known name may hold anything.

    >>> check("verdict", {"sentence": "All equal.", "contrasts": []}, Path("verdict.json"))
    """
    if name in _DOCUMENTS and (wrong := _wrong(found, _DOCUMENTS[name], _OPTIONAL.get(name, {}))) is not None:
        raise UserError(
            f"{str(path)!r} is no {name} of a run ({wrong}): restore it, or run `theodolite compare` again with --force"
        )


def wrong_fact(facts: Mapping[str, Any]) -> str | None:
    """What is wrong with the facts of a manifest, or None; any of them may be missing."""
    return _wrong(facts, {}, FACTS)


def _wrong(found: Any, wanted: Mapping[str, Any], optional: Mapping[str, Any]) -> str | None:
    """What of an object is missing or of another type."""
    if not isinstance(found, dict):
        return f"it holds a {type(found).__name__}"
    for key, kind in {**optional, **wanted}.items():
        if key not in found:
            if key in wanted:
                return f"{key} is missing"
            continue
        value, parts = found[key], kind if isinstance(kind, list) else []
        if not isinstance(value, list if parts else kind) or (isinstance(value, bool) and kind is not bool):
            return f"{key} is {value!r:.40}"
        for entry in value if parts else ():
            if (wrong := _wrong(entry, parts[0], {})) is not None:
                return f"in {key}, {wrong}"
    return None
