"""The values of one reading of one text, which `theodolite read` prints."""

from dataclasses import dataclass
from typing import NamedTuple


class Exemplar(NamedTuple):
    """A labelled text near the one that is read, and its distance in the rule's feature space."""

    id: str
    label: int
    distance: float


@dataclass(frozen=True)
class Selection:
    """Decision of the run's selection rule about one text.

    alpha: the certified accuracy, on average over rows like those of the run. label: the predicted label, and its name.
    reason: why the reading is rejected, "" where it is accepted. rule: its confidence and feature space; it accepts
    confidence of at least the threshold, infinity where nothing was certified. confidence: minus infinity where the
    text is too far away, or SDM's q' is below 1. delta: failure probability of the certificate. q, d, q_prime:
    similarity, distance quantile and rescaled similarity. shifts: number of the run's shifts by the word of the claim
    there (holds, fails, inconclusive, nothing accepted); empty for methods about which no claim was made.
    """

    alpha: float
    label: int
    name: str
    probability: float
    reason: str
    rule: str
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
    were not read, because the run cuts texts at its `max_tokens`. selection: whether to accept it, where the run was
    made with `--admit` and includes this method. blank: the text holds nothing that this reader of texts knows, so the
    score is a constant.
    """

    method: str
    tokens: list[tuple[str, float]]
    score: float
    probability: float
    cut: int = 0
    selection: Selection | None = None
    blank: bool = False
