"""The bound of a condition from labelled rows, and how often it then acts where it should."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from theodolite.core.basis import Direction
from theodolite.core.condition import Condition
from theodolite.core.errors import UserError
from theodolite.core.positions import Positions
from theodolite.core.site import Site


@dataclass(frozen=True)
class FiringTable:
    """Numbers of rows by whether a condition holds (fires) and whether it should.

    >>> FiringTable(8, 2, 0, 10).f1
    0.888...
    """

    fires_should: int
    fires_should_not: int
    silent_should: int
    silent_should_not: int

    @classmethod
    def of(cls, fires_n: Any, should_n: Any) -> "FiringTable":
        """Return the table of two arrays of truth values."""
        fires, should = np.asarray(fires_n, bool), np.asarray(should_n, bool)
        pairs = ((fires, should), (fires, ~should), (~fires, should), (~fires, ~should))
        return cls(*(int((one & other).sum()) for one, other in pairs))

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where the condition never holds on a row where it should."""
        errors = self.fires_should_not + self.silent_should
        return 2 * self.fires_should / (2 * self.fires_should + errors) if self.fires_should else 0.0


def fit_condition(
    direction: Any,
    rows_nd: Any,
    should_n: Any,
    *,
    cosine: bool = True,
    site: Site | str | None = None,
    since: Positions | str | None = None,
) -> tuple[Condition, FiringTable]:
    """Return the condition with the largest F1 on validation rows, and its table there.

    The rows are states at `site`, not those that the direction was fitted on; `should_n` says on which the condition
    should hold. The bound lies half-way between two rows. It is a lower or an upper one, whichever does better; among
    equal ones the bound in the widest gap is taken, and a lower one before an upper.

    >>> rows, should = [[5.0, 1.0], [9.0, 1.0], [0.0, 1.0], [-1.0, 1.0]], [True, True, False, False]
    >>> fit_condition([1.0, 0.0], rows, should, cosine=False)
    (Condition(2.5 < Direction(k=1, d_model=2)), FiringTable(fires_should=2, ..., silent_should_not=2))
    """
    import torch

    rows, should = np.asarray(rows_nd, np.float32), np.asarray(should_n, bool)
    if rows.ndim != 2 or should.shape != rows.shape[:1]:
        raise UserError(f"rows have shape {rows.shape} and labels {should.shape}: give one label for each row")
    if should.all() or not should.any():
        raise UserError(f"the condition should hold on {int(should.sum())} of {len(should)} rows: give some of each")
    basis = direction if isinstance(direction, Direction) else Direction(direction)
    if basis.d_model != rows.shape[1]:
        raise UserError(f"the direction has {basis.d_model} numbers, the rows have {rows.shape[1]}")
    states = torch.from_numpy(rows)
    scores = Condition(basis, above=0.0, cosine=cosine).numbers(states)[:, 0].detach().numpy()
    if not np.isfinite(scores).all():
        raise UserError("rows hold NaN or infinite numbers")
    low, high = (_best_bound(sign * scores.astype(np.float64), should) for sign in (1.0, -1.0))
    bounds = {"below": -high[1]} if high[0] > low[0] else {"above": low[1]}
    condition = Condition(basis, **bounds, site=site, since=since, cosine=cosine)  # type: ignore[arg-type]
    return condition, FiringTable.of(condition(states).numpy(), should)


def _best_bound(scores_n: np.ndarray, should_n: np.ndarray) -> tuple[float, float]:
    """Return the largest F1 of a lower bound, and the bound; the widest gap among equal ones."""
    distinct, place = np.unique(scores_n, return_inverse=True)
    right = np.bincount(place, should_n, len(distinct))
    fires = np.bincount(place, minlength=len(distinct))[::-1].cumsum()[::-1]  # rows at or above each number
    hits = right[::-1].cumsum()[::-1]
    f1 = 2 * hits / (fires + should_n.sum())
    gaps = np.diff(distinct, prepend=distinct[0])  # 0 below all rows, where the condition always holds
    best = np.lexsort((gaps, f1.round(12)))[-1]
    return float(f1[best]), float(distinct[best] - (gaps[best] / 2 if best else 1.0))
