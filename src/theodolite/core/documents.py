"""The JSON documents of a Run: what each must hold before anything looks into it.

A Run may come from somebody else, or from another version: the hash of a document says that it is the one that was
written, not that it has the parts that every reader of it expects.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from theodolite.core.errors import UserError

_NUMBER = (int, float)
_CONTRAST = {
    "method": str,
    "than": str,
    "dataset": str,
    "verdict": str,
    "value": (*_NUMBER, type(None)),
    "needs": dict,
}
_FIGURE = {"method": str, "value": (*_NUMBER, type(None)), "lo": (*_NUMBER, type(None)), "hi": (*_NUMBER, type(None))}
_LEVEL = _FIGURE | {"n": int, "n_groups": int, "n_seeds": int, "why": str}
_DIFFERENCE = _LEVEL | {"than": str, "margin_is_seen": bool, "about": list}
_ANSWERED = {
    "dataset": str,
    "n": int,
    "both_labels": bool,
    "levels": [_LEVEL],
    "inverted": list,
    "leader": str,
    "leads": [_DIFFERENCE],
    "model": [_DIFFERENCE],
    "dictionary": [_DIFFERENCE | {"against": str}],
}
_CLAIM = {"method": str, "dataset": str, "word": str}
# By document its entries with their types; a list holds the one kind of entry that it must consist of.
_DOCUMENTS: dict[str, dict[str, Any]] = {
    "verdict": {"contrasts": [_CONTRAST]},
    "audit": {"overviews": [{"name": str, "n": int, "sources": dict}], "baselines": [{}], "shortcuts": dict},
    "card": {"tokens": _NUMBER},
    "dictionary": {"datasets": [{"dataset": str}]},
    "selection": {"level": _NUMBER, "claims": [_CLAIM], "choices": [{"method": str}]},
    "answers": {"margin": _NUMBER, "read_well_from": _NUMBER, "datasets": [_ANSWERED]},
    "baselines": {},
    "poolings": {},
}
# What a run may lack.
_OPTIONAL: dict[str, dict[str, Any]] = {
    "verdict": {"exploratory": [_CONTRAST], "everywhere": [_CONTRAST], "notes": [{"code": str}], "read": dict},
    "baselines": {"text": [{"dataset": str}], "random": [{"dataset": str}]},
}
FACTS: dict[str, Any] = {
    "model": (dict, type(None)),
    "views": dict,
    "labels": (*_NUMBER, type(None)),
    "protocol": dict,
    "dictionaries": int,
    "fvu": (dict, type(None)),
    "available": (dict, type(None)),
    "read_from": list,
    "pooling": (dict, type(None)),
    "training_sets": dict,
}


_MANIFEST: dict[str, Any] = {
    "id": str,
    "digest": str,
    "recipe": dict,
    "command": str,
    "versions": dict,
    "machine": dict,
    "started": str,
    "finished": (str, type(None)),
    "facts": dict,
    "files": dict,
    "stages": [{"stage": str, "seconds": _NUMBER, "peak_mb": _NUMBER}],
    "notes": [{"kind": str, "count": int, "text": str}],
}
_MACHINE = {"system": str, "processor": str, "cores": int, "memory_gib": (*_NUMBER, type(None))}


def check(name: str, found: Any, path: Path) -> None:
    """Refuse a document of another shape than every reader of it expects; documents of no known name may hold anything.

    >>> check("verdict", {"contrasts": []}, Path("verdict.json"))
    """
    if name in _DOCUMENTS and (wrong := _wrong(found, _DOCUMENTS[name], _OPTIONAL.get(name, {}))) is not None:
        raise UserError(
            f"{str(path)!r} is no {name} of a run ({wrong}): restore it, or run `theodolite compare` again with --force"
        )


def wrong_manifest(manifest: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a manifest, or None; any of its facts may be missing."""
    if (wrong := _wrong(manifest, _MANIFEST, {})) is not None:
        return wrong
    strings = dict.fromkeys(manifest["files"], str)
    parts: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "files": (strings, {}),
        "recipe": ({"name": str}, {}),
        "versions": ({"theodolite": str}, {}),
        "machine": (_MACHINE, {}),
        "facts": ({}, FACTS),
    }
    return next((w for name, shape in parts.items() if (w := _wrong(manifest[name], *shape)) is not None), None)


def _wrong(found: Any, wanted: Mapping[str, Any], optional: Mapping[str, Any]) -> str | None:
    """Return which keys of an object are missing or have another type."""
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
