"""`theodolite check file.py:Class`: every law of `laws.py` on one reader, ours or the user's."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from theodolite.checks.laws import LAWS, Case, LawFails, planted_rows, planted_texts
from theodolite.core.methods import Method, parse
from theodolite.core.seeds import generator


@dataclass(frozen=True)
class LawResult:
    """Result of one law: whether it holds for a reader, and what was seen."""

    law: str
    passed: bool
    message: str


def check(spec: str) -> list[LawResult]:
    """Check a method by every law: one of ours by name, or one of yours as `path/to/file.py:Class`.

    >>> [result.law for result in check("difference_in_means") if not result.passed]
    []
    """
    case = case_for(parse(spec))
    return [law_result(law, case) for law in LAWS]


def law_result(law: Callable[[Case], str], case: Case) -> LawResult:
    """Return the result of one law on one reader; where the reader raises, the law fails."""
    name = law.__name__.replace("_", " ")
    try:
        return LawResult(name, True, law(case))
    except LawFails as failure:
        return LawResult(name, False, str(failure))
    except Exception as error:
        return LawResult(name, False, f"raised {type(error).__name__}: {error}")


def case_for(method: Method) -> Case:
    """Rows in which the larger label is plain to see for any reader of the method's view."""
    rng = generator(0, "laws")
    y, fresh_y = np.arange(240) % 2, np.arange(300) % 2
    if method.view == "text":
        return Case(method, planted_texts(y, rng), y, planted_texts(fresh_y, rng), fresh_y, np.zeros(0))
    direction_d = np.array([0.8, 0.6]) if method.view == "answer" else rng.normal(size=24)
    direction_d = direction_d / np.linalg.norm(direction_d)
    return Case(
        method, planted_rows(y, direction_d, rng), y, planted_rows(fresh_y, direction_d, rng), fresh_y, direction_d
    )
