"""Asking the model."""

from typing import Any, ClassVar

import numpy as np

from theodolite.core.errors import UserError
from theodolite.core.reader import Reader


class Prompting(Reader):
    """The model's own log-odds of yes against no, to a zero-shot or a few-shot question; nothing is fitted.

    The view `answer` holds both, in the order of `COLUMNS`. No sign is learnt: a model that answers the wrong way
    round lies below an AUROC of .5. The runner calls it by the size of the model that was asked, as "prompting (135M)".

    >>> Prompting(column="few_shot").fit([[0.0, 2.0], [1.0, -3.0]], ["no", "yes"]).decision_function([[5.0, 7.0]])
    array([7.])
    """

    COLUMNS: ClassVar[tuple[str, str]] = ("zero_shot", "few_shot")
    view = "answer"
    learns = False

    index_: int

    def __init__(self, column: str = "zero_shot") -> None:
        self.column = column

    def _fit(self, rows: Any, target_n: np.ndarray) -> None:
        if self.column not in self.COLUMNS:
            raise UserError(f"prompting has the columns {' and '.join(self.COLUMNS)}, not {self.column!r}")
        self.index_ = self.COLUMNS.index(self.column)
        if rows.shape[1] <= self.index_:
            raise UserError(f"the view answer has no column {self.column}: it has n_features = {rows.shape[1]}")

    def _scores(self, rows: Any) -> np.ndarray:
        return rows[:, self.index_]
