"""A saved selection rule's decision about one text that `theodolite read` reads."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from theodolite.comparison.read_values import Exemplar, Selection
from theodolite.selection.saved import PredictionRecords, SavedRule

# Why a reading by a reader of the text alone is rejected: every text of unknown words gets the same score.
BLANK = "no known n-gram"


def decision(rule: SavedRule, found: PredictionRecords, names: tuple[str, str], words: Iterable[str]) -> Selection:
    """Return the decision about the first row of `found`.

    names: of label 0 and label 1. words: of the run's claims about this method, one per shift.
    """
    label = int(found.predicted[0])
    near = zip(found.exemplars[0], found.labels[0], found.distances[0], strict=True)
    return Selection(
        alpha=rule.choice["level"],
        label=label,
        name=names[label],
        probability=float(found.probability[0]),
        reason=str(found.reason[0]),
        rule=f"{rule.choice['confidence']} in {rule.space.name}",
        confidence=float(found.confidence[0]),
        threshold=float(rule.rule.threshold_),
        delta=rule.choice["delta"],
        q=int(found.q[0]),
        d=float(found.d[0]),
        q_prime=float(found.q_prime[0]),
        exemplars=[Exemplar(str(i), int(c), float(d)) for i, c, d in near],
        shifts=dict(Counter(words)),
    )


def rejected(found: PredictionRecords, blank_n: np.ndarray) -> PredictionRecords:
    """Return the records with blank texts rejected: the reader knows nothing of them, its score is the intercept."""
    return replace(found, reason=np.where(blank_n, BLANK, found.reason).astype(object))
