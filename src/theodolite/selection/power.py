"""Statistical power of a claim: "inconclusive" says little where "holds" was improbable from the start."""

import math
from collections.abc import Mapping

import numpy as np
from scipy.stats import t as student

from theodolite.core.seeds import generator
from theodolite.core.stats import FEWEST_SEEDS, Interval

Array = np.ndarray
DRAWS = 4000  # simulated studies: the error of a probability is then .01
BETWEEN = (0.5, 0.8)  # positions, from alpha to 1, of the true accuracies at which power is reported


def accuracies(alpha: float) -> list[float]:
    """Return the true accuracies at which power is reported.

    >>> accuracies(0.9)
    [0.95, 0.98]
    """
    return [round(alpha + share * (1 - alpha), 4) for share in BETWEEN]


def effective_rows(figure: Interval) -> float:
    """Return the number of independent rows that have the measured error, or of groups where nothing varied."""
    if figure.sd_rows > 0 and 0 < figure.value < 1:
        return min(figure.value * (1 - figure.value) / figure.sd_rows**2, figure.n)
    return max(figure.n_groups, 1)


def power(cells: Mapping[str, Interval], alpha: float, accuracy: float, level: float) -> float:
    """Return the probability that all four cells are shown to reach alpha if both labels have this true accuracy.

    cells: the measured figures, of which only numbers of rows and errors between training sets are used. level: the
    largest p-value that counts as shown. Errors are drawn within each label, and the accuracies within each prediction
    follow from them.
    """
    if any(math.isnan(f.value) or f.n_seeds < FEWEST_SEEDS for f in cells.values()):
        return 0.0
    rng = generator(0, "power", alpha, accuracy)
    of_label = [cells[f"class_{c}"] for c in (0, 1)]
    rows = [max(round(effective_rows(figure)), 1) for figure in of_label]
    wrong = []
    for figure, n in zip(of_label, rows, strict=True):
        true = np.clip(accuracy + figure.sd_seeds * rng.normal(size=DRAWS), 0, 1)
        wrong.append(rng.binomial(n, 1 - true))
    shown = np.ones(DRAWS, bool)
    for c in (0, 1):
        correct = rows[c] - wrong[c]
        shown &= _shown(correct, np.full(DRAWS, rows[c]), of_label[c], alpha, level)
        shown &= _shown(correct, correct + wrong[1 - c], cells[f"predicted_{c}"], alpha, level)
    return float(shown.mean())


def _shown(correct: Array, n: Array, figure: Interval, alpha: float, level: float) -> Array:
    """Return whether a cell with so many of n correct is shown to reach alpha.

    The scatter between training sets is that of the figure. The degrees of freedom follow the draw: with fewer errors
    the rows have a smaller part of the variance.
    """
    value, n = correct / np.maximum(n, 1), np.maximum(n, 1)
    sd_rows = np.sqrt(value * (1 - value) / n)
    total = sd_rows**2 + figure.sd_seeds**2
    parts = sd_rows**4 / np.maximum(n - 1, 1) + figure.sd_seeds**4 / max(figure.n_seeds - 1, 1)
    df = np.divide(total**2, parts, out=np.full(len(n), math.inf), where=parts > 0)
    error = np.sqrt(alpha * (1 - alpha) / n + figure.sd_seeds**2)
    return (correct > 0) & (value >= alpha + 0.5 / n + student.ppf(1 - level, np.maximum(df, 1)) * error)
