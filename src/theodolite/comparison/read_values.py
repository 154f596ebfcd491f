"""One reading of one text: what `theodolite read` says, before it is put into words."""

from dataclasses import dataclass
from typing import NamedTuple


class Exemplar(NamedTuple):
    """A labelled text near the one that is read, and how far it is in the judge's map."""

    id: str
    label: int
    apart: float


@dataclass(frozen=True)
class Admission:
    """Decision of the run's selection rule about one text.

    alpha: the accuracy it is certified for, on average over rows like those of the run. label: the predicted one, and
    its name. reason: why the reading is not relied on, "" where it is. judge: its confidence and map; it relies on what
    has at least the threshold, infinity where nothing was certified. confidence: minus infinity where the text is too
    far away, or SDM's q' below 1. delta: how likely a certificate is to fail. q, d, q_prime: similarity, distance
    quantile and rescaled similarity. shifts: on how many of the run's shifts that accuracy was kept, broken, or
    neither; empty for methods about which no claim was made.
    """

    alpha: float
    label: int
    name: str
    probability: float
    reason: str
    judge: str
    confidence: float
    threshold: float
    delta: float
    q: int
    d: float
    q_prime: float
    exemplars: list[Exemplar]
    shifts: dict[str, int]


@dataclass(frozen=True)
class Reading:
    """One text: its tokens with the reader's score of each token's own row, and the score of the pooled row.

    probability is Platt's; per-token scores are readings, not probabilities. cut: tokens at the end of the text that
    were not read, because the run cuts texts at its `max_tokens`. admission: whether to rely on it, where the run was
    made with `--admit` and judged this method. blank: it holds nothing that this reader of the text knows, so the score
    is a constant.
    """

    method: str
    tokens: list[tuple[str, float]]
    score: float
    probability: float
    cut: int = 0
    admission: Admission | None = None
    blank: bool = False
