"""Values as strict JSON: one text for equal values, and no word that JSON lacks."""

import hashlib
import json
import math
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np


def canonical(value: Any) -> str:
    """Sorted keys and no spaces, so that equal values are equal strings."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"))


def plain(value: Any) -> Any:
    """The value as JSON types, a dataclass by its fields; NaN and infinity become null: JSON has no word for them.

    >>> from dataclasses import make_dataclass
    >>> plain([make_dataclass("Figure", ["value", "n"])(math.nan, np.int64(3)), (1, 2)])
    [{'value': None, 'n': 3}, [1, 2]]
    """
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def pretty(value: Any) -> bytes:
    return (json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def checksum(manifest: dict[str, Any]) -> str:
    """sha256 of everything else in a manifest: a changed number in it must not pass for a result."""
    return hashlib.sha256(canonical({k: v for k, v in manifest.items() if k != "checksum"}).encode()).hexdigest()
