"""Smallest difference between two methods that a comparison of a given size finds."""

import math
from dataclasses import dataclass

from scipy.stats import t as student

from theodolite.core.stats import FEWEST_GROUPS, FEWEST_SEEDS, HALVES, pool_factor, satterthwaite
from theodolite.core.training_sets import TrainingSets


@dataclass(frozen=True)
class Assumed:
    """Assumptions about both methods; print them beside the result.

    auroc: of both. correlation: of their scores on the same rows. spread: standard deviation of the difference between
    seeds. power: probability of finding the difference.
    """

    auroc: float = 0.85
    correlation: float = 0.5
    spread: float = 0.01
    power: float = 0.8


ASSUMED = Assumed()


def smallest_detectable(
    n_positive: float,
    n_negative: float,
    n_seeds: int,
    assumed: Assumed = ASSUMED,
    *,
    training: TrainingSets = HALVES,
    family: int = 1,
) -> float:
    """Return the AUROC difference that a paired comparison of this size finds; NaN where none has an interval.

    n_positive, n_negative: effective groups, not rows (rows of one group may tell one story). training: what the
    training sets have in common. family: number of contrasts that Holm's first step corrects for. The variance of one
    AUROC is that of Hanley & McNeil (1982).

    >>> round(smallest_detectable(200, 200, 5), 3), round(smallest_detectable(2000, 2000, 5), 3)
    (0.064, 0.041)
    """
    if n_seeds < FEWEST_SEEDS or training.reason or min(n_positive, n_negative) < FEWEST_GROUPS:
        return math.nan
    # Var(A - B) = 2 (1 - correlation) Var(A), for two methods of equal variance on the same rows.
    sd_rows = math.sqrt(2 * (1 - assumed.correlation) * _hanley_mcneil(assumed.auroc, n_positive, n_negative))
    sd_seeds = assumed.spread * math.sqrt(pool_factor(n_seeds, training.overlap))
    df = satterthwaite(sd_rows, sd_seeds, min(n_positive, n_negative), 1 + training.df_share * (n_seeds - 1))
    # The first quantile is how far from 0 an estimate must lie (Holm's first step tests at level / family), the second
    # how far beyond that its mean must be, so that a share `power` of the estimates lies there.
    quantiles = student.ppf(1 - 0.025 / family, df) + student.ppf(assumed.power, df)
    return float(quantiles) * math.hypot(sd_rows, sd_seeds)


def _hanley_mcneil(auroc: float, n_positive: float, n_negative: float) -> float:
    # Q1 and Q2 of the paper: the chance that two positives both beat one negative, and that one positive beats two
    # negatives, where scores are exponential.
    above, below = auroc / (2 - auroc) - auroc**2, 2 * auroc**2 / (1 + auroc) - auroc**2
    product = auroc * (1 - auroc) + (n_positive - 1) * above + (n_negative - 1) * below
    return product / (n_positive * n_negative)
