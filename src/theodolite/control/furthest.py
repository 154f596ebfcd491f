"""The control method that moves a measure furthest, and those that may move it as far.

The leader is chosen on the openings on which its lead is measured, so its leads over the K - 1 others have intervals
that hold together: a multiple comparison with the best (Hsu 1981). A method whose interval does not exclude 0 may be
the furthest too.
"""

from collections.abc import Mapping

import numpy as np

from theodolite.control.statistics import mean_effect
from theodolite.core.stats import HALVES
from theodolite.core.training_sets import TrainingSets

Array = np.ndarray


def furthest(effects: Mapping[str, Array], group_n: Array, *, training: TrainingSets = HALVES) -> tuple[str, list[str]]:
    """Return the method with the largest mean effect, and the others that may have the largest.

    effects: (S, n) or (n,) of each method over the same openings, above 0 in the direction of the concept. training:
    what the training sets of the fits have in common.

    >>> one, n = np.random.default_rng(0).normal(2.0, 1.0, 50), np.arange(50)
    >>> furthest({"a": one, "b": one - 1e-3 + 0.1 * np.sin(n), "c": one - 1.0}, n)
    ('a', ['b'])
    """
    mean = {method: float(np.nanmean(effect)) for method, effect in effects.items()}
    leader = max(mean, key=lambda method: mean[method])
    rivals = [method for method in effects if method != leader]
    leads = {
        method: mean_effect(effects[leader] - effects[method], group_n, training=training, family=len(rivals))
        for method in rivals
    }
    # an interval without ends, as of two training sets, excludes nothing
    return leader, [method for method, lead in leads.items() if not lead.lo > 0]
