"""Documents with one spoilt part, as a foreign or an older Run may bring them."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from theodolite.core.errors import UserError


def spoilt(found: Any, rng: np.random.Generator) -> Any:
    """A document of which one part, anywhere, is missing or is something else."""
    copy = json.loads(json.dumps(found))
    place, key = copy, rng.choice(sorted(copy))
    while isinstance(place[key], dict | list) and place[key] and rng.random() < 0.9:
        place = place[key]
        key = rng.choice(sorted(place)) if isinstance(place, dict) else int(rng.integers(len(place)))
    how = rng.integers(5)
    if how == 0:
        del place[key]
    else:
        place[key] = ("<script>alert(1)</script>", None, math.nan, [7])[how - 1]
    return copy


def check_pages(found: Any, page: Callable[[Any], str], document: str) -> None:
    """Each page of a spoilt document is an error that names the document, or holds no script; both must come."""
    rng, pages, said = np.random.default_rng(0), 0, list[str]()
    for _ in range(60):
        try:
            text = page(spoilt(found, rng))
        except UserError as error:
            said.append(str(error))
            continue
        pages += 1
        assert "<script>" not in text
    assert pages
    assert said
    assert all(document in message for message in said)
