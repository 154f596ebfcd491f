"""Documents with one spoilt part, as a foreign or an older Run may bring them."""

import json
import math
from typing import Any

import numpy as np


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
