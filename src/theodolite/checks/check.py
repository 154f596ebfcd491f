"""`theodolite check file.py:Class`: every law of `laws.py` on one reader, ours or the user's."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from theodolite.checks.laws import LAWS, Broken, Case, planted_rows, planted_texts
from theodolite.core.methods import Method, parse
from theodolite.core.seeds import generator


@dataclass(frozen=True)
class Judgement:
    """Result of one law: whether a reader keeps it, and what was seen."""

    law: str
    passed: bool
    message: str


def check(spec: str) -> list[Judgement]:
    """Judge a method, one of ours by name or one of yours as `path/to/file.py:Class`, by every law.

    >>> [judgement.law for judgement in check("difference_in_means") if not judgement.passed]
    []
    """
    case = case_for(parse(spec))
    return [judge(law, case) for law in LAWS]


def judge(law: Callable[[Case], str], case: Case) -> Judgement:
    """One law on one reader; a reader that raises has broken it."""
    name = law.__name__.replace("_", " ")
    try:
        return Judgement(name, True, law(case))
    except Broken as broken:
        return Judgement(name, False, str(broken))
    except Exception as error:
        return Judgement(name, False, f"raised {type(error).__name__}: {error}")


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
