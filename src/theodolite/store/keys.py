"""Key of a store: a hash over everything that decides its rows."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from theodolite.core.errors import Damaged, UserError

PROTOCOL = 1


def key(fields: Mapping[str, Any]) -> str:
    """The key of a store: sha256 of the canonical JSON of its protocol and fields.

    >>> key({"model": "a", "unit": 64}) == key({"unit": 64, "model": "a"})
    True
    """
    return hashlib.sha256(canonical({"protocol": PROTOCOL, "fields": fields})).hexdigest()


def manifest(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"protocol": PROTOCOL, "key": key(fields), "fields": dict(fields)}


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def check(path: Path, wanted: dict[str, Any]) -> None:
    """Refuse a folder whose manifest is damaged or belongs to other rows, naming the fields that differ."""
    try:
        found = json.loads(path.read_bytes())
        old = found["fields"]
        intact = found["protocol"] != PROTOCOL or found["key"] == key(old)
    except (ValueError, TypeError, KeyError):
        intact = False
    if not intact:
        raise Damaged(f"{path} is damaged: delete {path.parent} and run again")
    if found["protocol"] != PROTOCOL:
        raise UserError(f"{path.parent} has store protocol {found['protocol']}, this version reads {PROTOCOL}")
    if found["key"] != wanted["key"]:
        new = wanted["fields"]
        different = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        what = "; ".join(f"{name}: {_short(old.get(name))} there, {_short(new.get(name))} wanted" for name in different)
        raise UserError(f"{path.parent} holds rows of something else ({what}): choose another folder")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."
