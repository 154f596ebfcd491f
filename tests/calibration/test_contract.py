"""scikit-learn's own checks, whole, on every estimator of the room."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from theodolite.core.calibrator import CalibrationRows, TooFewRows
from theodolite.core.discover import discover

METHODS = discover("theodolite.calibration", group="theodolite.calibrators", kind="calibrator")


def checks() -> list[Any]:
    return [
        pytest.param(check, estimator, id=f"{name}-{getattr(check, 'func', check).__name__}")
        for name in METHODS
        for estimator, check in estimator_checks_generator(METHODS[name]())
    ]


@pytest.mark.parametrize(("check", "estimator"), checks())
def test_scikit_learns_check(check: Callable[[Any], None], estimator: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TooFewRows)
        warnings.simplefilter("ignore", CalibrationRows)  # a check adds the rows that were fitted
        check(estimator)
