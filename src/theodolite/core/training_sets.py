"""Overlap of the seeds' training sets, measured: what the scatter of refits can and cannot show.

To first order the metric of the reader fitted on T is a mean of influences of T's rows. For the S training sets at
hand their rows in common then give the covariance of the S metrics, up to one factor, and with it

overlap   what turns the scatter of seeds into the variance of their mean over fresh pools (`stats.pool_factor`): the
          common correlation that would do the same
df_share  degrees of freedom of that scatter as a share of S - 1 (Satterthwaite 1946): five training sets that differ
          in where one large group of rows went are hardly more than two

Shapes: S training sets, n rows of the pool, C groups.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from theodolite.core.bootstrap import effective_groups

FEWEST_TRAINING_GROUPS = 10  # effective groups; with fewer, the halves of one pool say little about another pool
_SAME = 1e-9  # of the variance: below it the training sets are one set


@dataclass(frozen=True)
class TrainingSets:
    """Overlap of the training sets of a job; by default halves of one pool of single rows.

    groups: effective number of groups of the pool, in the class that has fewer (`bootstrap.effective_groups`).
    fixed: groups so large that every training set holds them (`data.splits.dominant`). fixed_share: their share of the
    pool's rows; the interval is then for other groups beside them, and neither term counts them.
    """

    overlap: float = 0.5
    df_share: float = 1.0
    groups: float = math.inf
    fixed: int = 0
    fixed_share: float = 0.0

    @classmethod
    def measured(cls, member: np.ndarray, groups: np.ndarray, y: np.ndarray, fixed: np.ndarray) -> Self:
        """Measure it on one pool.

        member: (S, n), which rows each training set holds. groups, y: group and label of each row (n,). fixed: (n,),
        whether the row belongs to a group that every training set holds.
        """
        free = ~fixed
        effective = min((effective_groups(groups[free & (y == label)]) for label in np.unique(y)), default=0.0)
        found = cls(groups=effective, fixed=len(np.unique(groups[fixed])), fixed_share=float(np.mean(fixed)))
        n_sets, rows = len(member), member[:, free].astype(float)
        if n_sets < 2:
            return found
        if not rows.any(1).all():
            return replace(found, overlap=1.0, df_share=0.0)
        weight = rows / rows.sum(1, keepdims=True)
        covariance = weight @ weight.T
        centred = covariance - covariance.mean(0)  # of the metrics less their mean, which is what scatter sees
        if np.trace(centred) < _SAME * np.trace(covariance):
            return replace(found, overlap=1.0, df_share=0.0)
        factor = covariance.mean() * (n_sets - 1) / np.trace(centred)  # Var(mean) over E[scatter]
        shared = max(float(factor) - 1 / n_sets, 0.0)
        df = np.trace(centred) ** 2 / np.trace(centred @ centred)
        return replace(found, overlap=shared / (1 + shared), df_share=float(df) / (n_sets - 1))

    @property
    def reason(self) -> str:
        """Reason why there is no interval; "" where there is one."""
        if self.overlap == 1:
            return "all training sets hold the same rows"
        if self.groups < FEWEST_TRAINING_GROUPS:
            return (
                f"training rows come from {self.groups:.1f} effective groups (as many equal ones weigh as much), and "
                f"an interval needs {FEWEST_TRAINING_GROUPS}"
            )
        return ""

    @property
    def scope(self) -> str:
        """Scope of every interval where the pool holds dominant groups; "" otherwise."""
        if not self.fixed:
            return ""
        what = "the largest group holds" if self.fixed == 1 else f"the {self.fixed} largest groups hold"
        return (
            f"{what} {self.fixed_share:.0%} of the rows, always trained on and never tested: figures and "
            "intervals are for other groups"
        )
